"""Translates a Kubeflow Pipelines server's view of a run into the port's terms. Used by the engine kubeflow; pure.

Each step of a run appears as several tasks: ``train-driver``, ``train`` (a group) and ``executor`` (the pod, a child of the
group). Times that are not known yet are in the year 1970. If a run's workflow is deleted, the server's agents never update it
again and its state stays the same forever: `silent_since` returns when anything last changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pelagos.api import reasons
from pelagos.engines.kubeflow import causes, facts, obstacles, placement, queueing
from pelagos.engines.kubeflow.causes import Cause
from pelagos.engines.kubeflow.facts import Facts
from pelagos.engines.kubeflow.losses import Loss
from pelagos.engines.kubeflow.obstacles import Obstacle
from pelagos.engines.kubeflow.placement import Count
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState

Struct = dict[str, Any]

SILENCE = timedelta(hours=24)
"""A run without time limit counts as interrupted after this long without any change, unless a step waits for capacity."""
SILENCE_GRACE = timedelta(minutes=15)
"""For a run with a time limit: how long after that limit it counts as interrupted. No step may run longer, so one has ended."""
_STATES = {
    "RUNTIME_STATE_UNSPECIFIED": RunState.PENDING,
    "": RunState.PENDING,
    "PENDING": RunState.PENDING,
    "PAUSED": RunState.PENDING,
    "RUNNING": RunState.RUNNING,
    "CANCELING": RunState.RUNNING,
    "SUCCEEDED": RunState.SUCCEEDED,
    "SKIPPED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
    "CANCELED": RunState.CANCELED,
}
_LABEL = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_DISPLAY_NAME = re.compile(r"(?P<name>.+)-a(?P<attempt>[1-9][0-9]{0,8})")
_CHILD_FAILED = re.compile(r"child '.*' (failed|errored)", re.DOTALL)
_UNEXPLAINED = "the run failed, and the server does not say why"
_DEEPEST = 8
"""Levels of groups around a pod that are followed."""
_LONGEST = 1000
"""Longest error message that is reported, in characters."""


@dataclass(frozen=True)
class Judgement:
    """The engine's knowledge beyond the server's answer.

    ``now`` is the time by the server's clock, ``page`` the address of its pages, ``canceled`` whether we ended or gave up the
    run.
    """

    now: datetime
    page: str
    canceled: bool = False
    silence: timedelta = SILENCE
    grace: timedelta = SILENCE_GRACE
    facts: Facts | None = None
    """Pods and Workflow of the run in the cluster; None when we cannot read them."""
    loss: Loss | None = None
    """A loss because of which the run never ends by itself."""
    suspicion: Loss | None = None
    """A loss that has not lasted long enough to count."""


def display_name(name: str, attempt: int) -> str:
    """The name of an attempt on the server; the server does not keep names unique."""
    return f"{name}-a{attempt}"


def identity(run: Struct) -> tuple[str, int] | None:
    """Name and attempt of a run; None when its name is not one of ours."""
    match = _DISPLAY_NAME.fullmatch(str(run.get("display_name", "")))
    return (match["name"], int(match["attempt"])) if match else None


def age(run: Struct) -> tuple[datetime, str]:
    """Sort key, the oldest first. The server's times are in whole seconds, so the id decides within one second."""
    return _time(run.get("created_at")) or datetime.max.replace(tzinfo=UTC), str(run.get("run_id", ""))


def count(run: Struct) -> tuple[Count, str]:
    """The attempt with its counts, and the retry key."""
    found = placement.read_count(run.get("pipeline_spec") or {})
    if found is not None:
        return found
    _, attempt = identity(run) or ("", 1)
    return Count(attempt, attempt), ""


def resource(run: Struct) -> tuple[str, str, str] | None:
    """Kind, namespace and name of the resource that a run is for; None when the run does not say."""
    # The description is the fallback for runs without annotations. It comes second, because older servers truncate it.
    told = placement.read_resource(run.get("pipeline_spec") or {}) or str(run.get("description", "")).split(",", 1)[0]
    parts = told.split("/")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 and all(map(_LABEL.fullmatch, parts)) else None


def is_over(run: Struct) -> bool:
    """Whether the server says that the run has ended."""
    return _STATES.get(str(run.get("state", "")), RunState.RUNNING) in FINISHED


def is_being_ended(run: Struct) -> bool:
    """Whether the server is ending the run on request."""
    return run.get("state") == "CANCELING"


def read(run: Struct, judgement: Judgement) -> PipelineRun:
    """The run as the port reports it."""
    obstacle = _obstacle(run, judgement)
    state, message = _judge(run, judgement, obstacle)
    name, _ = identity(run) or (str(run.get("display_name", "")), 1)
    counted, retry_key = count(run)
    begun = _begun(run, judgement.facts)
    # A waiting run has not started, however long ago it was created, unless one of its steps ran before.
    started = None
    if state is not RunState.PENDING or begun:
        started = min(begun, default=_time(run.get("created_at")))
    finished = (_time(run.get("finished_at")) or silent_since(run)) if state in FINISHED else None
    return PipelineRun(
        name=RunName(name),
        state=state,
        attempt=counted.attempt,
        retry_key=retry_key,
        attempts_with_key=counted.with_key,
        message=message,
        url=f"{judgement.page}/#/runs/details/{run.get('run_id', '')}",
        started_at=min(started, finished) if started and finished else started,
        finished_at=finished,
        is_explained=not message.startswith(_UNEXPLAINED),
        reason=_reason(run, judgement, state, obstacle),
        priority=placement.read_priority(run.get("pipeline_spec") or {}),
        queue=queueing.of_run(judgement.facts) if judgement.facts is not None and state not in FINISHED else None,
    )


def _reason(run: Struct, judgement: Judgement, state: RunState, obstacle: Obstacle | None) -> reasons.Reason | None:
    if state is RunState.INTERRUPTED and judgement.facts is not None:
        cause = causes.of_failure(judgement.facts, steps(run))
        return reasons.PREEMPTED if cause is not None and cause.is_preempted else None
    return obstacle.reason if obstacle is not None and state is RunState.PENDING else None


def _begun(run: Struct, seen: Facts | None) -> list[datetime]:
    """When steps started. Taken from pods where possible, because servers report a waiting step as running."""
    if seen is not None and seen.pods:
        pods = seen.of_steps()
        told = [facts.begun_at(pod) for pod in pods]
        # Pods of earlier steps may have been deleted; for those use the server's times below.
        if len(pods) == 1 or any(told):
            return [time for time in told if time]
    times = [_time(task.get("start_time")) for task in _tasks(run) if _is_pod(run, task)]
    times += [
        _time(each.get("update_time")) for each in run.get("state_history") or [] if each.get("state") == "RUNNING"
    ]
    return [time for time in times if time]


def silent_since(run: Struct) -> datetime | None:
    """When anything about the run last changed; None when the server gives no times."""
    times = [run.get("created_at"), *(entry.get("update_time") for entry in run.get("state_history") or [])]
    for task in _tasks(run):
        times += [task.get(key) for key in ("create_time", "start_time", "end_time")]
        times += [entry.get("update_time") for entry in task.get("state_history") or []]
    return max((time for time in map(_time, times) if time), default=None)


def _judge(run: Struct, judgement: Judgement, obstacle: Obstacle | None) -> tuple[RunState, str]:
    told = str(run.get("state", ""))
    state = _STATES.get(told, RunState.RUNNING)
    if state in {RunState.SUCCEEDED, RunState.CANCELED}:
        return state, "the run was canceled" if state is RunState.CANCELED else ""
    if state is RunState.FAILED:
        # Some servers report a run as failed that they were asked to end. Only the request tells the two apart then.
        history = [entry.get("state") for entry in run.get("state_history") or []]
        if judgement.canceled or "CANCELING" in history:
            return RunState.CANCELED, "the run was canceled"
        return _failure(run, judgement.facts)
    if judgement.canceled:
        return RunState.CANCELED, "the run was canceled; the server did not confirm that its pods were deleted"
    if told == "CANCELING":
        return RunState.RUNNING, "the run is being ended"
    loss = judgement.loss or (_silence(run, judgement) if state is RunState.RUNNING and obstacle is None else None)
    if loss is not None:
        return loss.state, loss.message
    if judgement.suspicion is not None:
        seems = judgement.suspicion.message
        return state, f"it is not known whether it still runs: {seems}. If that does not change, it counts as lost"
    if obstacle is not None:
        return RunState.PENDING, obstacle.message
    if judgement.facts is not None and told == "RUNNING":
        return state, _unending(run, judgement.facts, judgement.now) or _unqueued(run, judgement.facts)
    return state, "" if told == "RUNNING" else f"the server calls its state {told!r}, which is unknown here"


def _silence(run: Struct, judgement: Judgement) -> Loss | None:
    """The loss of a run that has been silent too long; None otherwise.

    Not for waiting runs: a step may wait for capacity for days without any change.
    """
    limit = placement.read_time_limit(run.get("pipeline_spec") or {})
    longest = timedelta(seconds=limit) + judgement.grace if limit else judgement.silence
    since = silent_since(run)
    if since is None or judgement.now - since <= longest:
        return None
    told_nothing = f"the server has reported nothing new about it since {since.isoformat(timespec='seconds')}"
    return Loss(RunState.INTERRUPTED, f"the run seems to be lost: {told_nothing}. Was its workflow deleted?")


def _unending(run: Struct, seen: Facts, now: datetime) -> str:
    """A message about a pod that is overdue to end; "" when there is none.

    The cluster deletes the pods of a lost node, but keeps them until the node confirms that they have ended.
    """
    for pod in seen.of_steps() if not obstacles.is_at_work(seen) else ():
        told = facts.moment(facts.mapping(pod.get("metadata")).get("deletionTimestamp"))
        if told is not None and not facts.has_ended(pod) and now - told > facts.OVERDUE:
            node = facts.text(facts.mapping(pod.get("spec")).get("nodeName")) or "its node"
            who = f"the pod {facts.name(pod)} of step {facts.step_of(pod, steps(run)) or facts.name(pod)}"
            return (
                f"{who} should have ended by {told.isoformat(timespec='seconds')}, but has not: {node} may be lost. It continues "
                "when the node is back, or when the Node is deleted"
            )
    return ""


def _unqueued(run: Struct, seen: Facts) -> str:
    """A message that pods lack their queue label; "" when all is well.

    Early servers ignore the requested labels, and then no queue holds a step back.
    """
    queue = placement.read_queue(run.get("pipeline_spec") or {})
    if not queue or all(facts.labels(pod).get(placement.QUEUE_LABEL) == queue for pod in seen.of_steps()):
        return ""
    return f"its pods do not have the label of the queue {queue}, so no queue holds them: use Kubeflow Pipelines 2.4 or later"


def _failure(run: Struct, seen: Facts | None) -> tuple[RunState, str]:
    # Real servers rarely say why a run failed, so the cluster's facts come before the server's messages.
    cause = causes.of_failure(seen, steps(run)) if seen is not None else None
    if cause is not None and seen is not None:
        return cause.state, f"{cause.sentence}{_where(run, cause, seen)}"
    # Groups only say that a child failed, so they are skipped. Of the pods, the first to end is the likeliest cause.
    failed = [task for task in _tasks(run) if task.get("state") == "FAILED" and _said(task)]
    own = [task for task in failed if not _CHILD_FAILED.match(_said(task))]
    first = min(own, key=lambda task: _time(task.get("end_time")) or datetime.max.replace(tzinfo=UTC), default=None)
    if first is not None:
        cause = causes.by_words(_step(run, first), _said(first))
        return cause.state, cause.sentence
    told = _said(run) or (seen.workflow_words if seen is not None else "")
    return RunState.FAILED, told or f"{_UNEXPLAINED}; {_log(run)} may"


def _where(run: Struct, cause: Cause, seen: Facts) -> str:
    """Where to read more, for a message; "" when the pod no longer exists and so has no log."""
    return f" (pod {seen.namespace}/{cause.pod}; its log: {_log(run)})" if cause.pod else ""


def _log(run: Struct) -> str:
    """The command that shows the log of a run's steps."""
    _, namespace, name = resource(run) or ("", "", "")
    return f"pelagos logs {name} -n {namespace}" if name else "the logs of its pods"


def _obstacle(run: Struct, judgement: Judgement) -> Obstacle | None:
    """What keeps an unfinished run from progressing; None when it is progressing, or over."""
    if is_over(run) or is_being_ended(run) or judgement.canceled:
        return None
    seen = judgement.facts
    if seen is not None:
        if obstacles.is_at_work(seen):
            return None
        found = obstacles.of_waiting(seen, steps(run))
        if found is not None:
            return found
    pods = [task for task in _tasks(run) if _is_pod(run, task)]
    if _STATES.get(str(run.get("state", "")), RunState.RUNNING) is RunState.PENDING:
        return _queued(run, "the run")
    if any(task.get("state") == "RUNNING" for task in pods):
        return None
    waiting = next((task for task in pods if task.get("state") == "PENDING"), None)
    return _queued(run, f"step {_step(run, waiting)}") if waiting is not None else None


def _queued(run: Struct, what: str) -> Obstacle:
    """The obstacle when the cluster shows nothing: all that is known is that ``what`` waits."""
    queue = placement.read_queue(run.get("pipeline_spec") or {})
    where = f" in the queue {queue}" if queue else ""
    return Obstacle(reasons.QUEUED, f"{what} waits{where}; the pipeline server does not give the cause")


def _is_pod(run: Struct, task: Struct) -> bool:
    """Whether a task represents a step's pod, rather than a group or a driver."""
    name = str(task.get("display_name", ""))
    if name in steps(run):
        return not task.get("child_tasks")
    return not name.endswith("-driver") and name != "root"


def _step(run: Struct, task: Struct) -> str:
    """The name of the step that a task belongs to."""
    known = steps(run)
    for _ in range(_DEEPEST):
        # The server lists only children, by task id, or by pod name for a pod's task. So search for the parent.
        own = {task.get("task_id"), task.get("pod_name")} - {None, ""}
        parent = next(
            (
                other
                for other in _tasks(run)
                if other is not task
                for child in other.get("child_tasks") or []
                if own & {child.get("task_id"), child.get("pod_name")}
            ),
            None,
        )
        if task.get("display_name") in known or parent is None:
            break
        task = parent
    return str(task.get("display_name") or task.get("pod_name") or "")


def steps(run: Struct) -> Struct:
    struct = run.get("pipeline_spec") or {}
    spec = struct.get("pipeline_spec") or struct
    found: Struct = spec.get("root", {}).get("dag", {}).get("tasks", {})
    return found


def _said(thing: Struct) -> str:
    """The last error of a run or a task, in one line; it may be one that is being retried, such as a lack of room."""
    history = [entry.get("error") for entry in reversed(thing.get("state_history") or [])]
    for error in (thing.get("error"), *history):
        if error and error.get("message"):
            words = " ".join(str(error["message"]).split())
            # The beginning says what failed, and the end of a traceback why. So cut the middle.
            return words if len(words) <= _LONGEST else f"{words[: _LONGEST // 4]} ... {words[-_LONGEST * 3 // 4 :]}"
    return ""


def _tasks(run: Struct) -> list[Struct]:
    tasks: list[Struct] = (run.get("run_details") or {}).get("task_details") or []
    return tasks


def _time(text: object) -> datetime | None:
    """A point in time, in UTC if it names no zone; None if it is not known yet."""
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time if time.year > 1970 else None
