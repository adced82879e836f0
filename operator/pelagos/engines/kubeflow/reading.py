"""What a Kubeflow Pipelines server tells of a run, in our words. Used by the engine kubeflow; pure.

A run's steps appear as several tasks each: ``train-driver``, ``train`` (a group) and ``executor`` (the pod, a child of the
group). Times that are not known yet are the year 1970. A run that was never looked at again by the server's own agents, since
its workflow was deleted, stays as it was for ever: `silent_since` tells how long nothing has changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pelagos.engines.kubeflow import placement
from pelagos.engines.kubeflow.placement import Count
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState

Struct = dict[str, Any]

SILENCE = timedelta(hours=24)
"""After which a run without time limit counts as interrupted when nothing about it has changed and no step waits for capacity."""
SILENCE_GRACE = timedelta(minutes=15)
"""The same for a run with a time limit, on top of it: no step may run for longer, so one must have ended."""
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
_DISPLAY_NAME = re.compile(r"(?P<name>.+)-a(?P<attempt>[1-9][0-9]{0,8})")
_CHILD_FAILED = re.compile(r"child '.*' (failed|errored)", re.DOTALL)
_OUT_OF_MEMORY = re.compile(r"OOMKilled", re.IGNORECASE)
_GONE = re.compile(
    r"evict|preempt|pod deleted|node ?(was |is )?(shut ?down|shutting|lost|not ?ready|unreachable)|imminent node shutdown|"
    r"exit code (137|143)|signal: (killed|terminated)|low on resource",
    re.IGNORECASE,
)
"""What pods say that were ended from outside; the step itself did nothing wrong."""
_DEEPEST = 8
"""Groups around a pod."""
_LONGEST = 1000
"""Characters of what a pod said that are told."""
_QUOTA = re.compile(r"exceeded quota", re.IGNORECASE)


@dataclass(frozen=True)
class Judgement:
    """What the engine knows beyond the server's answer: the time by the server's clock, where people look, and whether
    it gave the run up.
    """

    now: datetime
    page: str
    canceled: bool = False
    silence: timedelta = SILENCE
    grace: timedelta = SILENCE_GRACE


def display_name(name: str, attempt: int) -> str:
    """The name of an attempt on the server, where names are not unique."""
    return f"{name}-a{attempt}"


def identity(run: Struct) -> tuple[str, int] | None:
    """Name and attempt of a run; None when its name is not one of ours."""
    match = _DISPLAY_NAME.fullmatch(str(run.get("display_name", "")))
    return (match["name"], int(match["attempt"])) if match else None


def age(run: Struct) -> tuple[datetime, str]:
    """To sort by, the oldest first. The server counts seconds only; the id decides between runs of the same second."""
    return _time(run.get("created_at")) or datetime.max.replace(tzinfo=UTC), str(run.get("run_id", ""))


def count(run: Struct) -> tuple[Count, str]:
    """Attempts so far, and the retry key."""
    found = placement.read_count(run.get("pipeline_spec") or {})
    if found is not None:
        return found
    _, attempt = identity(run) or ("", 1)
    return Count(attempt, attempt), ""


def is_over(run: Struct) -> bool:
    """Whether the server says that the run has ended."""
    return _STATES.get(str(run.get("state", "")), RunState.RUNNING) in FINISHED


def is_being_ended(run: Struct) -> bool:
    """Whether somebody asked for its end."""
    return run.get("state") == "CANCELING"


def read(run: Struct, judgement: Judgement) -> PipelineRun:
    """The run as the port tells it."""
    state, message = _judge(run, judgement)
    name, _ = identity(run) or (str(run.get("display_name", "")), 1)
    counted, retry_key = count(run)
    begun = [_time(task.get("start_time")) for task in _tasks(run) if _is_pod(run, task)]
    begun += [
        _time(entry.get("update_time")) for entry in run.get("state_history") or [] if entry.get("state") == "RUNNING"
    ]
    # A run that waits has not begun, however long ago it was created, unless one of its steps ran before.
    started = None
    if state is not RunState.PENDING or any(begun):
        started = min((time for time in begun if time), default=_time(run.get("created_at")))
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
    )


def silent_since(run: Struct) -> datetime | None:
    """When anything about the run changed for the last time; None when nobody says."""
    times = [run.get("created_at"), *(entry.get("update_time") for entry in run.get("state_history") or [])]
    for task in _tasks(run):
        times += [task.get(key) for key in ("create_time", "start_time", "end_time")]
        times += [entry.get("update_time") for entry in task.get("state_history") or []]
    return max((time for time in map(_time, times) if time), default=None)


def _judge(run: Struct, judgement: Judgement) -> tuple[RunState, str]:
    told = str(run.get("state", ""))
    state = _STATES.get(told, RunState.RUNNING)
    if state in {RunState.SUCCEEDED, RunState.CANCELED}:
        return state, "the run was canceled" if state is RunState.CANCELED else ""
    if state is RunState.FAILED:
        # Some servers call failed what they were asked to end: that somebody asked is then all that tells the two apart.
        history = [entry.get("state") for entry in run.get("state_history") or []]
        if judgement.canceled or "CANCELING" in history:
            return RunState.CANCELED, "the run was canceled"
        return _failure(run)
    if judgement.canceled:
        return RunState.CANCELED, "the run was canceled; the server did not confirm that its pods are gone"
    if told == "CANCELING":
        return RunState.RUNNING, "the run is being ended"
    waiting = _waiting(run)
    # Only what should be running can be missed: a step that waits for capacity may do so for days without a word.
    if state is RunState.RUNNING and waiting is None:
        limit = placement.read_time_limit(run.get("pipeline_spec") or {})
        longest = timedelta(seconds=limit) + judgement.grace if limit else judgement.silence
        since = silent_since(run)
        if since is not None and judgement.now - since > longest:
            told_nothing = f"the server has told nothing new of it since {since.isoformat(timespec='seconds')}"
            return RunState.INTERRUPTED, f"the run seems to be gone: {told_nothing}. Was its workflow deleted?"
    if state is RunState.PENDING or waiting is not None:
        return RunState.PENDING, waiting or _queued(run, "the run")
    return state, "" if told == "RUNNING" else f"the server calls its state {told!r}, which is not known here"


def _failure(run: Struct) -> tuple[RunState, str]:
    # Groups only say that a child failed. Of the pods the first that ended is told: it is the likeliest cause.
    failed = [task for task in _tasks(run) if task.get("state") == "FAILED" and _said(task)]
    causes = [task for task in failed if not _CHILD_FAILED.match(_said(task))]
    first = min(causes, key=lambda task: _time(task.get("end_time")) or datetime.max.replace(tzinfo=UTC), default=None)
    step, words = (_step(run, first), _said(first)) if first is not None else ("", _said(run))
    # Memory is looked for first: a pod that was killed for it has exit code 137 too, and as interrupted it would be tried
    # again, to be killed again.
    if _OUT_OF_MEMORY.search(words):
        return RunState.FAILED, f"step {step} ran out of memory ({words}); give it more in spec.resources.memory"
    if _GONE.search(words):
        # Of a process below the container's first one, some runtimes do not say that memory was the cause.
        cause = "; if nobody did that, give it more in spec.resources.memory" if "exit code 137" in words else ""
        return RunState.INTERRUPTED, f"the pod of step {step} is gone without an outcome: {words}{cause}"
    if step:
        return RunState.FAILED, f"step {step} failed: {words}"
    return RunState.FAILED, words or "the run failed, and the server does not say why; the logs of its pods may"


def _waiting(run: Struct) -> str | None:
    """Why the run's step does not begin; None unless a step waits and none runs."""
    pods = [task for task in _tasks(run) if _is_pod(run, task)]
    if any(task.get("state") == "RUNNING" for task in pods):
        return None
    for task in pods:
        if task.get("state") == "PENDING":
            return _queued(run, f"step {_step(run, task)}", _said(task))
    return None


def _queued(run: Struct, what: str, words: str = "") -> str:
    queue = placement.read_queue(run.get("pipeline_spec") or {})
    words = words or _said(run)
    if _QUOTA.search(words):
        return f"{what} waits for the namespace's quota: {words}"
    where = f" in the queue {queue}" if queue else ""
    return f"{what} waits for capacity{where}{': ' + words if words else ''}"


def _is_pod(run: Struct, task: Struct) -> bool:
    """Whether a task stands for the pod of a step: neither a group nor what only prepares one."""
    name = str(task.get("display_name", ""))
    if name in _steps(run):
        return not task.get("child_tasks")
    return not name.endswith("-driver") and name != "root"


def _step(run: Struct, task: Struct) -> str:
    """The name of the step that a task belongs to."""
    steps = _steps(run)
    for _ in range(_DEEPEST):
        # The server tells of children only, by their task's id or, of a pod's, by its name.
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
        if task.get("display_name") in steps or parent is None:
            break
        task = parent
    return str(task.get("display_name") or task.get("pod_name") or "")


def _steps(run: Struct) -> Struct:
    struct = run.get("pipeline_spec") or {}
    spec = struct.get("pipeline_spec") or struct
    steps: Struct = spec.get("root", {}).get("dag", {}).get("tasks", {})
    return steps


def _said(thing: Struct) -> str:
    """The last error that a run or a task tells of; it may be one that is being retried, such as a lack of room."""
    history = [entry.get("error") for entry in reversed(thing.get("state_history") or [])]
    for error in (thing.get("error"), *history):
        if error and error.get("message"):
            words = " ".join(str(error["message"]).split())
            # The beginning says what ended, and the end of a traceback why.
            return words if len(words) <= _LONGEST else f"{words[: _LONGEST // 4]} ... {words[-_LONGEST * 3 // 4 :]}"
    return ""


def _tasks(run: Struct) -> list[Struct]:
    tasks: list[Struct] = (run.get("run_details") or {}).get("task_details") or []
    return tasks


def _time(text: object) -> datetime | None:
    """A point in time; None for what is not known yet."""
    if not isinstance(text, str) or not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time if time.year > 1970 else None
