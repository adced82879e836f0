"""Leadership: which of several operators may act. On one machine there is only one, and it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pelagos.ports.errors import OutageError


class NotLeadingError(OutageError):
    """A change was refused because this operator does not lead, or no longer knows that it does. Nothing was changed."""

    def __init__(self, operation: str) -> None:
        super().__init__("leadership", f"this operator does not lead: {operation} was not done")


Guard = Callable[[str, str], None]
"""Asked by clients of outside systems right before each request that changes something, with system and operation; raises
NotLeadingError. A call of a port may look first, and wait; leadership may be lost on the way."""


def unguarded(system: str, operation: str) -> None:
    """A Guard that refuses nothing: for tools, and where there is one operator only."""
    del system, operation


class Leadership(Protocol):
    """Decides who acts. ``leads`` is asked right before every change, so it must cost nothing and never guess."""

    @property
    def leads(self) -> bool:
        """Whether this operator may change something now."""

    @property
    def standing(self) -> str:
        """How it stands, in words, for /readyz and people."""

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Begin to seek leadership; calls ``gained`` and ``lost`` in turns."""

    async def stop(self) -> None:
        """Give leadership up, so that another operator need not wait. Does not call ``lost``."""


class Sole:
    """Implements Leadership where there is one operator only."""

    @property
    def leads(self) -> bool:
        """Always."""
        return True

    @property
    def standing(self) -> str:
        """Nothing to be said."""
        return "leads"

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Lead."""
        del lost
        gained()

    async def stop(self) -> None:
        """No other operator waits."""
