"""What a decision consists of: verdicts about single aspects, effects to bring about, status fields, and when to look again."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from pelagos.api import reasons

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pelagos.decisions.effects import Effect


READY = "Ready"
"""The summary of every kind."""


class ConditionState(Enum):
    """How an aspect stands, and what that means for the summary."""

    DONE = "Done"
    """Holds."""
    PROGRESSING = "Progressing"
    """On the way, by itself."""
    WAITING = "Waiting"
    """Not possible yet: somebody else brings what is missing, and nobody need change the resource for it."""
    FAILING = "Failing"
    """Broken, and recovering without anybody's help."""
    REFUSED = "Refused"
    """A person must change something."""
    UNKNOWN = "Unknown"
    """Not known now: a system does not answer."""
    PAUSED = "Paused"
    """Stopped because spec.suspend asks for it."""
    NOTED = "Noted"
    """Does not hold, and does not stand in the way of Ready."""


@dataclass(frozen=True)
class Verdict:
    """One aspect: ``type`` of the condition, state, reason and message in words."""

    type: str
    state: ConditionState
    reason: reasons.Reason
    message: str
    is_aside: bool = False
    """Whether the summary does not count it: what it is about never stands in the way of anything else."""

    @property
    def stops(self) -> bool:
        """Whether what follows this aspect cannot be judged yet."""
        return self.state not in {ConditionState.DONE, ConditionState.NOTED}

    @property
    def is_stuck(self) -> bool:
        """Whether somebody else must bring or correct something."""
        return self.state in {ConditionState.REFUSED, ConditionState.WAITING}


_TOLD: Mapping[reasons.State, ConditionState] = {
    "in progress": ConditionState.PROGRESSING,
    "waiting": ConditionState.WAITING,
    "unknown": ConditionState.UNKNOWN,
}


def obstacle(aspect: str, reason: reasons.Reason, message: str) -> Verdict:
    """The verdict that something stands in the way, as the table of reasons says of what kind it is."""
    return Verdict(aspect, _TOLD.get(reason.state, ConditionState.REFUSED), reason, message)


@dataclass(frozen=True)
class Decision:
    """What must hold next.

    ``status`` holds the fields to publish; a field that is not named stays as it is, None removes it. ``recheck_after`` is in
    seconds; None: only when something changes.
    """

    verdicts: tuple[Verdict, ...]
    effects: tuple[Effect, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    recheck_after: float | None = None
    ready: Verdict | None = None
    """The summary when everything is done; its reason and message show in kubectl get."""


def summary(decision: Decision) -> Verdict:
    """Ready: the first aspect that stands in the way, else the decision's own word."""
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
