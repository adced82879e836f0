"""Chains of checks. The rules of every kind are written as one. Pure.

A check answers one question about the observations, and is named after its finding. It returns None if it has nothing to
contribute, Passed if the next check is to follow, or Ended if nothing after it can be judged yet. The tuple of a kind's checks,
in order, is its specification.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pelagos.decisions.verdicts import Decision, Verdict

if TYPE_CHECKING:
    from pelagos.api.meta import BaseStatus
    from pelagos.decisions.effects import Effect


@dataclass(frozen=True)
class Passed:
    """The contribution of a check after which the next one is asked.

    Fields that are set in ``status`` are published; None removes a field. Fields that are not set stay as they are.
    """

    verdicts: tuple[Verdict, ...] = ()
    effects: tuple[Effect, ...] = ()
    status: BaseStatus | None = None


@dataclass(frozen=True)
class Ended(Passed):
    """The contribution of a check that ends the chain. ``recheck_after`` and ``ready`` become those of the decision."""

    recheck_after: float | None = None
    ready: Verdict | None = None


Observed = TypeVar("Observed")
Check = Callable[[Observed], Passed | None]


def evaluate(chain: Sequence[Check[Observed]], seen: Observed) -> Decision:
    """Ask one check after another until one ends the chain; the last one always does."""
    verdicts: tuple[Verdict, ...] = ()
    effects: tuple[Effect, ...] = ()
    status: dict[str, Any] = {}
    for check in chain:
        found = check(seen)
        if found is None:
            continue
        verdicts, effects = verdicts + found.verdicts, effects + found.effects
        status |= found.status.patch() if found.status is not None else {}
        if isinstance(found, Ended):
            return Decision(verdicts, effects, status, found.recheck_after, found.ready)
    raise AssertionError("the last check of a chain ends it")
