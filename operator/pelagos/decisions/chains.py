"""Chains of checks, as which the rules of every kind are written. Pure.

A check asks one question of what is observed, and is named by what it finds. It says nothing (None), or passes on with what it
contributes, or ends the chain: nothing after it can be judged yet. The tuple of a kind's checks, in order, is its specification.
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
    """What a check contributes when those after it are asked, too.

    Of ``status`` the fields that are set are published: None removes one, and one that is not set stays as it is.
    """

    verdicts: tuple[Verdict, ...] = ()
    effects: tuple[Effect, ...] = ()
    status: BaseStatus | None = None


@dataclass(frozen=True)
class Ended(Passed):
    """What the last check contributes; ``recheck_after`` and ``ready`` are those of the decision."""

    recheck_after: float | None = None
    ready: Verdict | None = None


Observed = TypeVar("Observed")
Check = Callable[[Observed], Passed | None]


def evaluate(chain: Sequence[Check[Observed]], seen: Observed) -> Decision:
    """Ask one check after the other until one ends the chain; the last one always does."""
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
