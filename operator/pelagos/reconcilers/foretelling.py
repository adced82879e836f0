"""What is said before effects that end what runs: whoever looks meanwhile reads what is being done, not what was. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos.api import reasons
from pelagos.decisions import effects
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict
from pelagos.reconcilers import reporting

_ENDING = (effects.CancelRun, effects.RestartService, effects.RemoveService)
_TRIED = frozenset({reasons.SYSTEM_UNAVAILABLE, reasons.SYSTEM_REJECTED, reasons.INTERNAL_ERROR, reasons.ENDING})
"""Reasons that tell how the effects went the last time. They are tried again, and there is nothing new to say before that."""


def foretold(decision: Decision, status: Mapping[str, Any]) -> Decision | None:
    """What to publish before the effects of ``decision``; None when they end nothing, or it was said before."""
    ends = any(isinstance(effect, _ENDING) for effect in decision.effects)
    if not ends or reporting.ready_condition(status).get("reason") in _TRIED:
        return None
    return replace(decision, verdicts=tuple(_before(verdict) for verdict in decision.verdicts))


def _before(verdict: Verdict) -> Verdict:
    """A verdict before what it tells of is done."""
    if verdict.state is not ConditionState.PAUSED:
        return verdict
    message = f"{verdict.message}; what runs for it is being ended"
    return Verdict(verdict.type, ConditionState.PROGRESSING, reasons.ENDING, message)
