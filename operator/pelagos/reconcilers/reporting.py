"""From a decision to conditions and the one status patch. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pelagos.api.text import shown, shown_in
from pelagos.decisions.judging import timestamp
from pelagos.decisions.verdicts import Decision, Stance, Verdict, summary

_STATUS = {
    Stance.DONE: "True",
    Stance.PROGRESSING: "Unknown",
    Stance.UNKNOWN: "Unknown",
    Stance.FAILING: "False",
    Stance.REFUSED: "False",
    Stance.PAUSED: "False",
    Stance.NOTED: "False",
}
_FOR_SHOW = ("classes", "warnings", "excluded")
"""Status fields with words of those who supplied data. What the operator reads back itself stays as it is."""
_UNDER_WAY = frozenset({Stance.PROGRESSING, Stance.FAILING, Stance.UNKNOWN})


def new_status(
    previous: Mapping[str, Any], decision: Decision, owned: Sequence[str], *, generation: int, now: datetime
) -> dict[str, Any]:
    """The whole status after ``decision``; equal to ``previous`` when nothing changed.

    Ready comes first; Reconciling and Stalled are there only while True; every owned condition is there, Unknown when not judged.
    """
    status = {**previous, **decision.status}
    status |= {key: shown_in(status[key]) for key in _FOR_SHOW if key in status}
    status = {key: value for key, value in status.items() if value is not None}
    status["observedGeneration"] = generation
    known = {condition["type"]: condition for condition in previous.get("conditions", ())}
    status["conditions"] = [
        _condition(verdict, known.get(verdict.type), generation, now) for verdict in _verdicts(decision, owned)
    ]
    return status


def _verdicts(decision: Decision, owned: Sequence[str]) -> list[Verdict]:
    ready = summary(decision)
    verdicts = [ready]
    if ready.stance in _UNDER_WAY:
        verdicts.append(Verdict("Reconciling", Stance.DONE, ready.reason, ready.message))
    if ready.stance is Stance.REFUSED:
        verdicts.append(Verdict("Stalled", Stance.DONE, ready.reason, ready.message))
    judged = {verdict.type: verdict for verdict in decision.verdicts}
    unjudged = "what comes before it is not done"
    verdicts += [judged.get(name) or Verdict(name, Stance.UNKNOWN, "NotYetJudged", unjudged) for name in owned]
    return verdicts


def _condition(verdict: Verdict, known: Mapping[str, Any] | None, generation: int, now: datetime) -> dict[str, Any]:
    status = _STATUS[verdict.stance]
    same = known is not None and known.get("status") == status
    return {
        "type": verdict.type,
        "status": status,
        "reason": verdict.reason,
        "message": shown(verdict.message, lines=True)[:32000],
        "observedGeneration": generation,
        "lastTransitionTime": known["lastTransitionTime"] if known is not None and same else timestamp(now),
    }


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that turns ``before`` into ``after``; empty when they are equal."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            inner = merge_patch(old, value)
            if inner:
                patch[key] = inner
        elif old != value:
            patch[key] = value
    return patch


def ready_condition(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The Ready condition; an empty mapping when there is none."""
    for condition in status.get("conditions", ()):
        if condition.get("type") == "Ready":
            return condition  # type: ignore[no-any-return]
    return {}
