"""Turns a decision into conditions and the new status. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pelagos.api import reasons
from pelagos.decisions.moments import timestamp
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, summary
from pelagos_contract.text import shown, shown_in

_STATUS = {
    ConditionState.DONE: "True",
    ConditionState.PROGRESSING: "Unknown",
    ConditionState.WAITING: "Unknown",
    ConditionState.UNKNOWN: "Unknown",
    ConditionState.FAILING: "False",
    ConditionState.REFUSED: "False",
    ConditionState.PAUSED: "False",
    ConditionState.NOTED: "False",
}
_FOR_SHOW = ("classes", "warnings", "excluded", "altered", "corrections", "measured", "slices", "capture")
"""Status fields with text from those who supplied data, made safe to print. What the operator reads back stays as it is."""
_IN_PROGRESS = frozenset(
    {ConditionState.PROGRESSING, ConditionState.WAITING, ConditionState.FAILING, ConditionState.UNKNOWN}
)
_UNPLANNED = frozenset({ConditionState.REFUSED, ConditionState.FAILING, ConditionState.UNKNOWN})
_PATIENCE_LOST = ". Waited for since "
LONG = timedelta(minutes=30)
"""After this, what is waited for may never come: its name may be wrong. The alert PelagosResourceWaitsLong uses the same."""


def new_status(
    previous: Mapping[str, Any], decision: Decision, owned: Sequence[str], *, generation: int, now: datetime
) -> dict[str, Any]:
    """The whole status after ``decision``; equal to ``previous`` when nothing changed.

    Ready comes first. Reconciling, Stalled and Waiting are present only while True. Every condition in ``owned`` is present, and
    Unknown if the decision has no verdict on it. Any other condition is present only if it has.
    """
    status = {**previous, **decision.status}
    status |= {key: shown_in(status[key]) for key in _FOR_SHOW if key in status}
    status = {key: value for key, value in status.items() if value is not None}
    status["observedGeneration"] = generation
    known = {condition["type"]: condition for condition in previous.get("conditions", ())}
    verdicts = _verdicts(decision, owned, known.get("Waiting"), now)
    status["conditions"] = [_condition(verdict, known.get(verdict.type), generation, now) for verdict in verdicts]
    return status


def _verdicts(
    decision: Decision, owned: Sequence[str], waiting: Mapping[str, Any] | None, now: datetime
) -> list[Verdict]:
    ready = summary(decision)
    if ready.state is ConditionState.WAITING and waiting is not None:
        since = waiting["lastTransitionTime"]
        if now - datetime.fromisoformat(since) >= LONG:
            late = f"{_PATIENCE_LOST}{since}: what should create it may have failed, or the name may be wrong"
            ready = replace(ready, message=ready.message.rstrip(".") + late)
    verdicts = [ready]
    if ready.state in _IN_PROGRESS:
        verdicts.append(Verdict("Reconciling", ConditionState.DONE, ready.reason, ready.message))
    if ready.state is ConditionState.REFUSED:
        verdicts.append(Verdict("Stalled", ConditionState.DONE, ready.reason, ready.message))
    if ready.state is ConditionState.WAITING:
        verdicts.append(Verdict("Waiting", ConditionState.DONE, ready.reason, ready.message))
    judged = {verdict.type: verdict for verdict in decision.verdicts}
    unjudged = "what comes before it is not done"
    verdicts += [judged.get(name) or Verdict(name, ConditionState.UNKNOWN, reasons.PENDING, unjudged) for name in owned]
    there = {verdict.type for verdict in verdicts}
    verdicts += [verdict for name, verdict in judged.items() if name not in there]
    return verdicts


def _condition(verdict: Verdict, known: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    status = _STATUS[verdict.state]
    same = known is not None and known.get("status") == status
    return {
        "type": verdict.type,
        "status": status,
        "reason": str(verdict.reason),
        "message": shown(verdict.message, lines=True)[:32000],
        "observedGeneration": generation,
        "lastTransitionTime": known["lastTransitionTime"] if known is not None and same else timestamp(now),
    }


@dataclass(frozen=True)
class Announcement:
    """The event about a change of Ready: a Warning only if the change was not planned, or a wait has become long."""

    warns: bool
    reason: str
    message: str


def announcement(before: Mapping[str, Any], after: Mapping[str, Any], decision: Decision) -> Announcement | None:
    """The event for the transition from one status to the next; None when there is none."""
    old, new = ready_condition(before), ready_condition(after)
    is_late = _PATIENCE_LOST in new["message"] and _PATIENCE_LOST not in old.get("message", "")
    if (old.get("status"), old.get("reason")) == (new["status"], new["reason"]) and not is_late:
        return None
    state = summary(decision).state
    is_lost = state is ConditionState.WAITING and old.get("status") == "True"  # What it waits for existed before.
    warns = is_late or is_lost or state in _UNPLANNED
    return Announcement(warns, new["reason"], new["message"])


def stages_ended(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """Stages that ended between the two statuses, with their seconds. A new attempt starts a new list, so all of it counts."""
    old, new = ((status.get("progress") or {}).get("stages") or [] for status in (before, after))
    fresh = new[len(old) :] if new[: len(old)] == old else new
    return tuple((stage["stage"], stage["seconds"]) for stage in fresh)


def waited_in_queue(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """Seconds that a step waited in a queue, if it was admitted between the two statuses; None otherwise."""
    old, new = (status.get("queue") or {} for status in (before, after))
    admitted, since = new.get("admittedAt"), new.get("since")
    if not admitted or not since or admitted == old.get("admittedAt"):
        return None
    return (datetime.fromisoformat(admitted) - datetime.fromisoformat(since)).total_seconds()


def ready_condition(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The Ready condition; an empty mapping when there is none."""
    for condition in status.get("conditions", ()):
        if condition.get("type") == "Ready":
            return condition  # type: ignore[no-any-return]
    return {}
