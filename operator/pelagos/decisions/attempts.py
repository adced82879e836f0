"""When to start a pipeline run, start it again, or give up. Shared by the kinds that run pipelines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pelagos.api import reasons
from pelagos.api.dataset import PipelineRunStatus
from pelagos.decisions import moments
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, Verdict, obstacle
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FAILURES = 3
"""How often a run whose step crashes is started before a person has to act."""
MAX_INTERRUPTIONS = 10
"""How often a run is started whose process is killed from outside."""
LONGEST_MESSAGE = 1000
"""How many characters of a run's message status keeps."""
_BROKEN = frozenset({RunState.FAILED, RunState.INTERRUPTED})
_IN_QUEUE = frozenset(
    {reasons.QUEUED, reasons.REQUEST_TOO_LARGE, reasons.QUEUE_NOT_USABLE, reasons.PRIORITY_NOT_USABLE}
)
"""Reasons of pending runs that a queue holds back, and that another priority would move."""
FIRST_POLL = 0.3
POLL = 2.0
"""Shortest and longest time, in seconds, between two checks of a run that is in progress."""


@dataclass(frozen=True)
class Outcome:
    """What to do about a run: the ``attempt`` to submit (None: none), the verdict, and in how many seconds to check again.

    A run to ``withdraw`` is canceled now, and submitted again once it has ended.
    """

    verdict: Verdict
    attempt: int | None = None
    recheck_after: float | None = POLL
    withdraw: bool = False

    @property
    def succeeded(self) -> bool:
        """Whether the run has a result."""
        return self.verdict.state is ConditionState.DONE


def judge(
    aspect: str,
    run: PipelineRun | None,
    report: Report,
    *,
    retry_key: str,
    now: datetime,
    looks_at_the_world: bool = False,
) -> Outcome:
    """Decide about the pipeline run behind the condition ``aspect``.

    ``looks_at_the_world``: the run has inputs that are not in its name, so a new retry key starts it again even after a success.
    """
    if run is None:
        answers = not looks_at_the_world or report.retry_key in (None, retry_key)
        if report.result is not None and answers:
            message = "the pipeline run succeeded; the pipeline engine no longer has a record of it"
            return Outcome(Verdict(aspect, ConditionState.DONE, reasons.SUCCEEDED, message), recheck_after=None)
        return Outcome(
            Verdict(aspect, ConditionState.PROGRESSING, reasons.SUBMITTING, "the pipeline run is being submitted"),
            attempt=1,
            recheck_after=FIRST_POLL,
        )
    if run.state is RunState.PENDING:
        unknown = "the cause is not known" if run.started_at is None else "its next step has not started"
        waiting = f"the pipeline run waits: {run.message or unknown}"
        # The cluster could not place the run as it was submitted. With a new retry key, somebody asks for something else.
        withdraw = run.reason is not None and run.retry_key != retry_key
        # A run that can never start as things are may start when the cluster changes, so it is left waiting and checked again.
        return Outcome(obstacle(aspect, run.reason or reasons.QUEUED, waiting), withdraw=withdraw)
    if run.state is RunState.RUNNING:
        message = (
            f"the pipeline run is in progress: {run.message}" if run.message else "the pipeline run is in progress"
        )
        running = Verdict(aspect, ConditionState.PROGRESSING, reasons.RUNNING, message)
        return Outcome(running, recheck_after=_poll(run, now))
    outdated = looks_at_the_world and run.retry_key != retry_key
    if run.state is RunState.SUCCEEDED and report.result is not None and not outdated:
        return Outcome(
            Verdict(aspect, ConditionState.DONE, reasons.SUCCEEDED, "the pipeline run succeeded"), recheck_after=None
        )
    if run.state in _BROKEN and report.result is not None and run.retry_key == retry_key:
        # The step itself seals its result and reports it. A failure of the run after that does not undo the work.
        message = f"the result is complete, although the pipeline run did not succeed: {run.message}"
        return Outcome(Verdict(aspect, ConditionState.DONE, reasons.SUCCEEDED, message), recheck_after=None)
    return _again_or_refuse(aspect, run, report, retry_key=retry_key, now=now)


def moved(judged: Outcome, run: PipelineRun | None, priority: str) -> Outcome:
    """``judged``, except that a run which waits in a queue with another priority is withdrawn and submitted with this one.

    A run in any other state is left alone: a new priority is not a reason to retry anything.
    """
    if run is None or run.state is not RunState.PENDING or run.reason not in _IN_QUEUE:
        return judged
    return replace(judged, withdraw=judged.withdraw or run.priority not in {None, priority})


def status_of(run: PipelineRun) -> PipelineRunStatus:
    """The run as status keeps it. If it has ended, with all that later passes need once the engine has forgotten it."""
    if run.state not in FINISHED:
        return PipelineRunStatus(id=run.name, url=run.url)
    return PipelineRunStatus(
        id=run.name,
        url=run.url,
        state=run.state.value,
        attempt=run.attempt,
        attempts_with_key=run.attempts_with_key,
        # An API server of Kubernetes 1.20 treats an empty string as null.
        retry_key=run.retry_key or None,
        message=run.message[:LONGEST_MESSAGE] or None,
    )


def recalled(status: Mapping[str, Any], name: RunName) -> PipelineRun | None:
    """The ended run of this name as status keeps it; None when status has none.

    Engines delete their records of runs after some time. A run that succeeded must still count then, and one that failed must not
    be tried again unless a person asks.
    """
    stated = status.get("pipelineRun") or {}
    if stated.get("id") != name or stated.get("state") not in {state.value for state in FINISHED}:
        return None  # No other content was written by us.
    return PipelineRun(
        name=name,
        state=RunState(stated["state"]),
        attempt=stated.get("attempt", 1),
        retry_key=stated.get("retryKey", ""),
        attempts_with_key=stated.get("attemptsWithKey", 1),
        message=stated.get("message", ""),
        url=stated["url"],
        started_at=moments.parse(status.get("startedAt")),
        finished_at=moments.parse(status.get("finishedAt")),
    )


def as_it_ended(run: PipelineRun, status: Mapping[str, Any]) -> PipelineRun:
    """The run, with the reports of its pods before they were removed, as far as status kept those.

    That is when it began and, if the engine no longer knows, why it failed.
    """
    before = recalled(status, run.name) if run.state in FINISHED else None
    if before is None or (before.attempt, before.retry_key) != (run.attempt, run.retry_key):
        return run
    run = replace(run, started_at=before.started_at or run.started_at)
    if run.state is not RunState.FAILED or run.is_explained or before.state not in _BROKEN:
        return run
    return replace(run, state=before.state, message=before.message or run.message)


def _poll(run: PipelineRun, now: datetime) -> float:
    """Seconds until the next check: short while the run is young, since it may be a short one, then POLL."""
    if run.started_at is None:
        return POLL
    return min(POLL, max(FIRST_POLL, 0.2 * (now - run.started_at).total_seconds()))


def _again_or_refuse(aspect: str, run: PipelineRun, report: Report, *, retry_key: str, now: datetime) -> Outcome:
    next_attempt = run.attempt + 1
    if run.retry_key != retry_key or run.state is RunState.CANCELED:
        verdict = Verdict(
            aspect,
            ConditionState.PROGRESSING,
            reasons.RETRYING,
            f"the pipeline run is started again (attempt {next_attempt})",
        )
        return Outcome(verdict, attempt=next_attempt)
    if run.state in _BROKEN and report.failure is not None:
        # The step reported its failure, and its pod or Workflow was deleted after that: another attempt would fail the same way.
        return Outcome(_refusal(aspect, run, report.failure), recheck_after=None)
    if run.state is RunState.SUCCEEDED and report.doubt:
        return Outcome(_doubtful(aspect, report), recheck_after=None)
    limit = MAX_INTERRUPTIONS if run.state is RunState.INTERRUPTED else MAX_FAILURES
    # Preemption says nothing about the run itself, so it does not count as a failure. The queue makes it wait its turn.
    if run.attempts_with_key >= limit and run.reason != reasons.PREEMPTED:
        return Outcome(_given_up(aspect, run, report), recheck_after=None)
    wait = _backoff(run, now)
    interrupted = run.reason or reasons.PIPELINE_INTERRUPTED
    verdict = Verdict(
        aspect,
        ConditionState.FAILING,
        interrupted if run.state is RunState.INTERRUPTED else reasons.PIPELINE_FAILED,
        f"{run.message or 'the pipeline run ended without a result'}{_aside(report)}; attempt {next_attempt} follows",
    )
    return Outcome(
        verdict, attempt=None if wait > timedelta() else next_attempt, recheck_after=max(wait.total_seconds(), 1)
    )


def _backoff(run: PipelineRun, now: datetime) -> timedelta:
    """Time left before the next attempt: 1, 4, 16, then 30 seconds after the last one ended; none if its end is not known."""
    if run.finished_at is None:
        return timedelta()
    pause = timedelta(seconds=min(30, 4 ** max(run.attempts_with_key - 1, 0)))
    return min(run.finished_at + pause - now, pause)  # A clock that was set back must not stretch the pause.


def _refusal(aspect: str, run: PipelineRun, failure: Mapping[str, object]) -> Verdict:
    field = failure.get("field")
    message = str(
        failure.get("message") or f"the pipeline refused its inputs and did not say why; its log is at {run.url}"
    )
    reason = reasons.named(str(failure.get("reason", reasons.PIPELINE_FAILED)))
    return obstacle(aspect, reason, f"{field}: {message}" if field else message)


def _doubtful(aspect: str, report: Report) -> Verdict:
    message = (
        f"the pipeline run succeeded, but {report.doubt}. Its result is not used. Someone else may be writing to the storage of "
        "this namespace: find out who, then set the annotation pelagos.dev/retry to a new value to run it again"
    )
    return Verdict(aspect, ConditionState.REFUSED, reasons.RESULT_NOT_AUTHENTIC, message)


def _aside(report: Report) -> str:
    return f" ({report.doubt})" if report.doubt else ""


def _given_up(aspect: str, run: PipelineRun, report: Report) -> Verdict:
    message = (
        f"the pipeline run failed {run.attempts_with_key} times, last: {run.message or 'no message'}{_aside(report)}. "
        f"Its log is at {run.url}. Correct the cause, then set the annotation pelagos.dev/retry to a new value"
    )
    return Verdict(aspect, ConditionState.REFUSED, reasons.PIPELINE_FAILED, message)
