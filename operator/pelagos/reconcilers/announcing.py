"""What to report before effects that end something that runs, so that status is not outdated while they take place. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos.api import reasons
from pelagos.decisions import effects
from pelagos.decisions.verdicts import ConditionState, Decision
from pelagos.reconcilers import reporting

_ENDING = (effects.CancelRun, effects.RestartService, effects.StopService)
_TRIED = frozenset({reasons.SYSTEM_UNAVAILABLE, reasons.SYSTEM_REJECTED, reasons.INTERNAL_ERROR, reasons.ENDING})
"""Reasons that report how the effects went last time. The effects are tried again, with nothing new to report beforehand."""


def announcement(decision: Decision, status: Mapping[str, Any]) -> Decision | None:
    """What to publish before the effects of ``decision``; None when they end nothing, or it was published already."""
    ends = any(isinstance(effect, _ENDING) for effect in decision.effects)
    if not ends or reporting.ready_condition(status).get("reason") in _TRIED:
        return None
    # A suspended resource reads as suspended only once nothing runs for it any more.
    verdicts = tuple(
        replace(
            verdict,
            state=ConditionState.PROGRESSING,
            reason=reasons.ENDING,
            message=f"{verdict.message}; what runs for it is being ended",
        )
        if verdict.state is ConditionState.PAUSED
        else verdict
        for verdict in decision.verdicts
    )
    return replace(decision, verdicts=verdicts)
