"""A training that takes longer than spec.deadline is ended, and says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import NOW, frozen_inputs, make_run, make_tracked, make_training_observed
from pelagos.decisions import training_run
from pelagos.decisions.effects import CancelRun, SetOutcome, SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import Decision, summary
from pelagos.ports.pipelines import RunState
from pelagos.ports.tracking import Outcome


def decide(state: RunState, *, ran: timedelta, deadline: str = "1h", **changes: Any) -> Decision:
    started: dict[str, Any] = {"started_at": None if state is RunState.PENDING else NOW - ran}
    run = make_run(state, **started)
    usual: dict[str, Any] = {
        "spec": builders.training_run_spec(deadline=deadline),
        "frozen": frozen_inputs(),
        "tracked": make_tracked(),
        "run": run,
    }
    return training_run.decide(make_training_observed(**usual | changes))


def test_a_run_within_its_deadline_goes_on() -> None:
    decision = decide(RunState.RUNNING, ran=timedelta(minutes=59))

    assert builders.conditions(decision)["Evaluated"] == ("Progressing", "Running")


def test_a_run_beyond_its_deadline_is_ended_everywhere() -> None:
    decision = decide(RunState.RUNNING, ran=timedelta(hours=1))

    assert builders.conditions(decision)["Evaluated"] == ("Refused", "DeadlineExceeded")
    assert builders.conditions(decision)["Succeeded"] == ("Refused", "DeadlineExceeded")
    assert [type(effect) for effect in decision.effects] == [CancelRun, SetOutcome]
    assert decision.effects[1] == SetOutcome("t1", Outcome.KILLED)


def test_the_message_names_the_field_its_value_and_the_next_step() -> None:
    message = summary(decide(RunState.RUNNING, ran=timedelta(hours=1))).message

    assert message.startswith("spec.deadline: the run took longer than 1h and was ended.")
    assert "pelagos.dev/retry" in message


def test_once_ended_it_is_not_started_again() -> None:
    decision = decide(RunState.CANCELED, ran=timedelta(hours=2))

    assert builders.conditions(decision)["Evaluated"] == ("Refused", "DeadlineExceeded")
    assert not any(isinstance(effect, SubmitRun | CancelRun) for effect in decision.effects)


def test_waiting_for_capacity_does_not_count() -> None:
    decision = decide(RunState.PENDING, ran=timedelta())

    assert builders.conditions(decision)["Evaluated"] == ("Progressing", "Queued")


def test_a_result_that_came_late_is_a_result() -> None:
    decision = decide(RunState.SUCCEEDED, ran=timedelta(hours=9), report=Report(result=builders.training_result()))

    assert builders.conditions(decision)["Evaluated"] == ("Done", "Evaluated")


@pytest.mark.parametrize(
    "changes",
    [{"spec": builders.training_run_spec(deadline="3h")}, {"retry_key": "2"}],
    ids=["deadline-raised", "retry-asked-for"],
)
def test_raising_the_deadline_or_asking_for_a_retry_starts_it_again(changes: dict[str, Any]) -> None:
    decision = decide(RunState.CANCELED, ran=timedelta(hours=2), **changes)

    assert [type(effect) for effect in decision.effects] == [SubmitRun]


def test_a_retry_that_is_asked_for_does_not_lengthen_the_attempt_in_progress() -> None:
    decision = decide(RunState.RUNNING, ran=timedelta(hours=2), retry_key="2")

    assert builders.conditions(decision)["Evaluated"] == ("Refused", "DeadlineExceeded")


def test_a_deadline_of_nothing_leaves_a_second() -> None:
    early, late = (decide(RunState.RUNNING, ran=timedelta(seconds=ran), deadline="0s") for ran in (0.5, 1))

    assert builders.conditions(early)["Evaluated"] == ("Progressing", "Running")
    assert builders.conditions(late)["Evaluated"] == ("Refused", "DeadlineExceeded")
