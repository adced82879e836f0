"""When a pipeline run is started, restarted, or given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOW, make_run
from pelagos.api import reasons
from pelagos.decisions import attempts
from pelagos.decisions.attempts import MAX_FAILURES, MAX_INTERRUPTIONS, Outcome
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState
from pelagos.ports.pipelines import PipelineRun, RunState

IN_PROGRESS = Report()
RESULT = Report(result={"any": "result"})
FAILURE = Report(failure={"reason": "TrainingDiverged", "message": "the loss became NaN", "field": "spec.model"})


def judge(run: PipelineRun | None, report: Report = IN_PROGRESS, *, retry_key: str = "", after: float = 0) -> Outcome:
    return attempts.judge("Evaluated", run, report, retry_key=retry_key, now=NOW + timedelta(seconds=after))


def test_without_a_run_the_first_attempt_is_submitted() -> None:
    outcome = judge(None)

    assert outcome.attempt == 1
    assert (outcome.verdict.state, outcome.verdict.reason) == (ConditionState.PROGRESSING, "Submitting")


@pytest.mark.parametrize(("state", "want"), [(RunState.PENDING, "Queued"), (RunState.RUNNING, "Running")])
def test_a_run_in_progress_is_waited_for(state: RunState, want: str) -> None:
    outcome = judge(make_run(state))

    assert (outcome.verdict.state, outcome.verdict.reason) == (ConditionState.PROGRESSING, want)
    assert outcome.attempt is None
    assert outcome.recheck_after is not None
    assert attempts.FIRST_POLL <= outcome.recheck_after <= attempts.POLL


def test_a_young_run_is_looked_at_more_often_than_an_old_one() -> None:
    run = make_run(RunState.RUNNING)
    assert run.started_at is not None
    age = (NOW - run.started_at).total_seconds()

    pauses = [judge(run, after=seconds - age).recheck_after for seconds in (0, 5, 3600)]

    assert pauses == [attempts.FIRST_POLL, 1.0, attempts.POLL]


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.RUNNING])
def test_a_new_retry_key_does_not_disturb_a_run_in_progress(state: RunState) -> None:
    assert judge(make_run(state), retry_key="2").attempt is None


@pytest.mark.parametrize(("retry_key", "attempt"), [("", None), ("2", 2)])
def test_what_looks_at_the_world_is_done_again_for_a_new_retry_key_after_a_success_too(
    retry_key: str, attempt: int | None
) -> None:
    run = make_run(RunState.SUCCEEDED)

    found = attempts.judge("Prepared", run, RESULT, retry_key=retry_key, now=NOW, looks_at_the_world=True)

    assert found.attempt == attempt
    assert judge(run, RESULT, retry_key=retry_key).attempt is None


def test_what_a_run_waits_for_is_told_in_the_words_of_the_cluster() -> None:
    message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."

    assert judge(make_run(RunState.PENDING, message=message)).verdict.message == f"the pipeline run waits: {message}"
    assert judge(make_run(RunState.RUNNING, message=message)).verdict.message.endswith(message)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (reasons.QUEUED, ConditionState.PROGRESSING),
        (reasons.UNSCHEDULABLE, ConditionState.WAITING),
        (reasons.QUOTA_EXCEEDED, ConditionState.WAITING),
        (reasons.REQUEST_TOO_LARGE, ConditionState.REFUSED),
        (reasons.QUEUE_NOT_USABLE, ConditionState.REFUSED),
    ],
)
def test_what_never_passes_needs_a_person_and_is_looked_at_all_the_same(
    reason: reasons.Reason, state: ConditionState
) -> None:
    outcome = judge(replace(make_run(RunState.PENDING, message="the cluster's words"), reason=reason))

    assert (outcome.verdict.state, outcome.verdict.reason) == (state, reason)
    assert outcome.recheck_after == attempts.POLL
    assert not outcome.withdraw


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.INTERRUPTED])
def test_a_complete_result_counts_though_a_helper_failed_after_the_work(state: RunState) -> None:
    outcome = judge(make_run(state, message="its container wait failed"), RESULT)

    assert outcome.succeeded
    assert outcome.attempt is None
    assert "its container wait failed" in outcome.verdict.message
    assert judge(make_run(state), RESULT, retry_key="a person asks").attempt == 2


def test_a_run_that_cannot_be_placed_is_withdrawn_when_something_else_is_asked_for() -> None:
    stuck = replace(make_run(RunState.PENDING, message="0/3 nodes are available"), reason=reasons.UNSCHEDULABLE)

    assert not judge(stuck).withdraw
    assert judge(stuck, retry_key="other resources").withdraw
    assert judge(stuck, retry_key="other resources").attempt is None


def test_a_run_that_waits_for_its_turn_keeps_it_when_something_else_is_asked_for() -> None:
    assert not judge(make_run(RunState.PENDING, message="1 of 1 places is taken"), retry_key="2").withdraw


def test_a_run_that_left_a_result_succeeded() -> None:
    outcome = judge(make_run(RunState.SUCCEEDED), RESULT)

    assert outcome.succeeded
    assert outcome.attempt is None


def test_a_new_retry_key_does_not_repeat_a_success() -> None:
    assert judge(make_run(RunState.SUCCEEDED), RESULT, retry_key="2").succeeded


def test_a_run_that_claims_success_and_left_no_result_is_started_again() -> None:
    outcome = judge(make_run(RunState.SUCCEEDED), after=1)

    assert outcome.attempt == 2
    assert "ended without a result" in outcome.verdict.message


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.INTERRUPTED])
def test_a_refusal_is_not_tried_again_by_itself_whatever_became_of_the_pod_that_made_it(state: RunState) -> None:
    outcome = judge(make_run(state), FAILURE, after=3600)

    assert (outcome.verdict.state, outcome.verdict.reason) == (ConditionState.REFUSED, "TrainingDiverged")
    assert outcome.verdict.message == "spec.model: the loss became NaN"
    assert (outcome.attempt, outcome.recheck_after) == (None, None)


def test_a_refusal_that_gives_no_message_still_tells_where_to_look() -> None:
    outcome = judge(make_run(RunState.FAILED), Report(failure={"reason": "DiskFull"}))

    assert "http://pipelines/log" in outcome.verdict.message


def test_a_new_retry_key_tries_a_refusal_again_at_once() -> None:
    outcome = judge(make_run(RunState.FAILED), FAILURE, retry_key="2")

    assert outcome.attempt == 2
    assert outcome.verdict.reason == "Retrying"


def test_a_canceled_run_is_started_again_at_once() -> None:
    assert judge(make_run(RunState.CANCELED)).attempt == 2


@pytest.mark.parametrize(
    ("attempt", "pause"),
    [(1, 1), (2, 4), (3, 16), (4, 30), (9, 30)],
)
def test_the_pause_between_attempts_grows(attempt: int, pause: int) -> None:
    run = make_run(RunState.INTERRUPTED, attempt=attempt, attempts_with_key=attempt)

    early, due = judge(run, after=pause - 0.5), judge(run, after=pause)

    assert (early.attempt, early.recheck_after) == (None, 1)
    assert due.attempt == attempt + 1


def test_waiting_for_an_attempt_tells_the_cause_and_that_it_goes_on_by_itself() -> None:
    outcome = judge(make_run(RunState.FAILED, message="step train exited with 137"))

    assert (outcome.verdict.state, outcome.verdict.reason) == (ConditionState.FAILING, "PipelineFailed")
    assert outcome.verdict.message == "step train exited with 137; attempt 2 follows"


def test_an_interruption_is_called_so() -> None:
    assert judge(make_run(RunState.INTERRUPTED)).verdict.reason == "PipelineInterrupted"


def test_the_end_of_a_run_that_no_engine_knows_the_time_of_is_not_waited_after() -> None:
    assert judge(make_run(RunState.INTERRUPTED, finished_at=None)).attempt == 2


def test_a_clock_that_was_set_back_does_not_stretch_the_pause() -> None:
    outcome = judge(make_run(RunState.INTERRUPTED), after=-86400)

    assert outcome.recheck_after == pytest.approx(1)


@pytest.mark.parametrize(
    ("state", "limit"), [(RunState.FAILED, MAX_FAILURES), (RunState.INTERRUPTED, MAX_INTERRUPTIONS)]
)
def test_a_run_is_given_up_after_so_many_attempts_and_a_person_is_asked(state: RunState, limit: int) -> None:
    last = make_run(state, attempt=limit, attempts_with_key=limit, message="out of memory")
    before = make_run(state, attempt=limit - 1, attempts_with_key=limit - 1)

    outcome = judge(last, after=3600)

    assert judge(before, after=3600).attempt == limit
    assert outcome.verdict.state is ConditionState.REFUSED
    assert outcome.attempt is None
    for part in (str(limit), "out of memory", "http://pipelines/log", "pelagos.dev/retry"):
        assert part in outcome.verdict.message


def test_attempts_count_anew_from_a_new_retry_key() -> None:
    run = make_run(RunState.FAILED, attempt=7, retry_key="2", attempts_with_key=1)

    assert judge(run, retry_key="2", after=60).attempt == 8


@pytest.mark.parametrize(
    ("reason", "before", "withdrawn"),
    [
        (reasons.QUEUED, "low", True),
        (reasons.QUEUED, "", True),
        (reasons.PRIORITY_NOT_USABLE, "low", True),
        (reasons.QUEUED, "high", False),
        (reasons.QUEUED, None, False),  # from an engine without queues
        (reasons.STEP_STARTING, "low", False),  # it has its place
        (reasons.UNSCHEDULABLE, "low", False),  # as above: Kueue has admitted it
    ],
)
def test_another_priority_moves_a_run_that_waits_in_a_queue(
    reason: reasons.Reason, before: str | None, *, withdrawn: bool
) -> None:
    run = make_run(RunState.PENDING, message="step train waits", reason=reason, priority=before)

    found = attempts.moved(judge(run), run, "high")

    assert found.withdraw is withdrawn
    assert found.attempt is None


@pytest.mark.parametrize("report", [IN_PROGRESS, RESULT])
@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.SUCCEEDED, RunState.FAILED])
def test_another_priority_makes_nothing_again(state: RunState, report: Report) -> None:
    run = make_run(state, priority="low", attempts_with_key=MAX_FAILURES)

    before, after = (attempts.moved(judge(run, report), run, priority) for priority in ("low", "high"))

    assert before == after
    assert not after.withdraw


def test_who_is_preempted_again_and_again_is_never_given_up() -> None:
    run = make_run(
        RunState.INTERRUPTED, reason=reasons.PREEMPTED, message="preempted", attempts_with_key=50, attempt=99
    )

    soon, later = judge(run), judge(run, after=31)

    assert (soon.verdict.state, soon.verdict.reason) == (ConditionState.FAILING, "Preempted")
    assert "attempt 100 follows" in soon.verdict.message
    assert later.attempt == 100
    assert judge(replace(run, reason=None)).verdict.state is ConditionState.REFUSED
