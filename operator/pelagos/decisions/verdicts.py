"""The parts of a decision: verdicts about single aspects, effects, status fields, and when to make the next pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from pelagos.api import reasons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos.decisions.effects import Effect


READY = "Ready"
"""The condition that summarizes all others, in every kind."""


class ConditionState(Enum):
    """The state of one aspect, and its meaning for the summary."""

    DONE = "Done"
    """Holds."""
    PROGRESSING = "Progressing"
    """On its way, without anybody's help."""
    WAITING = "Waiting"
    """Not possible yet: something is missing that somebody else will bring, without a change of the resource."""
    FAILING = "Failing"
    """Broken, and recovering without anybody's help."""
    REFUSED = "Refused"
    """A person must change something."""
    UNKNOWN = "Unknown"
    """Not known at present, because a system does not answer."""
    PAUSED = "Paused"
    """Stopped because spec.suspend asks for it."""
    NOTED = "Noted"
    """Does not hold, but does not keep the resource from being Ready."""


@dataclass(frozen=True)
class Verdict:
    """The verdict about one aspect: the condition's ``type``, its state, its reason, and a message for people."""

    type: str
    state: ConditionState
    reason: reasons.Reason
    message: str
    is_aside: bool = False
    """Whether the summary ignores it, because nothing else depends on this aspect."""

    @property
    def stops(self) -> bool:
        """Whether aspects after this one cannot be judged yet."""
        return self.state not in {ConditionState.DONE, ConditionState.NOTED}

    @property
    def is_stuck(self) -> bool:
        """Whether somebody has to bring or correct something."""
        return self.state in {ConditionState.REFUSED, ConditionState.WAITING}


_TOLD: Mapping[reasons.State, ConditionState] = {
    "in progress": ConditionState.PROGRESSING,
    "waiting": ConditionState.WAITING,
    "unknown": ConditionState.UNKNOWN,
}


def obstacle(aspect: str, reason: reasons.Reason, message: str) -> Verdict:
    """A verdict about an obstacle. Its state follows from that of its reason, and is REFUSED unless that says otherwise."""
    return Verdict(aspect, _TOLD.get(reason.state, ConditionState.REFUSED), reason, message)


@dataclass(frozen=True)
class Decision:
    """What to report and what to do next.

    ``status`` holds the fields to publish: None removes a field, and one that is absent stays as it is. ``recheck_after`` is in
    seconds; with None, only a change leads to the next pass.
    """

    verdicts: tuple[Verdict, ...]
    effects: tuple[Effect, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    recheck_after: float | None = None
    ready: Verdict | None = None
    """The summary if no aspect blocks it; ``kubectl get`` shows its reason and message."""


def summary(decision: Decision) -> Verdict:
    """The verdict on Ready: that of the aspect which is most in the way, by the order below, else ``decision.ready``."""
    order = (
        ConditionState.PAUSED,
        ConditionState.REFUSED,
        ConditionState.FAILING,
        ConditionState.UNKNOWN,
        ConditionState.WAITING,
        ConditionState.PROGRESSING,
    )
    for state in order:
        for verdict in decision.verdicts:
            if verdict.state is state and not verdict.is_aside:
                return Verdict(READY, state, verdict.reason, verdict.message)
    return decision.ready or Verdict(READY, ConditionState.DONE, reasons.READY, "")
