"""What is reported before effects that end what runs, so that status says what is being done and not what was. Pure."""

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
"""Reasons that report how the effects went the last time: they are tried again, and there is nothing new to report before."""


def announcement(decision: Decision, status: Mapping[str, Any]) -> Decision | None:
    """What to publish before the effects of ``decision``; None when they end nothing, or it was said before."""
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
