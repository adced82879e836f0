"""Leadership: which of several operators may act. On one machine there is only one, and it leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pelagos.ports.errors import OutageError


class NotLeadingError(OutageError):
    """A change was refused because this operator does not lead, or cannot be sure that it still does. Nothing was changed."""

    def __init__(self, operation: str) -> None:
        super().__init__("leadership", f"this operator does not lead: {operation} was not done")


Guard = Callable[[str, str], None]
"""Called by clients of outside systems right before each request that changes something, with system and operation. Raises
NotLeadingError. A check when a port is called is not enough: the call may first read or wait, and leadership be lost."""


def unguarded(system: str, operation: str) -> None:
    """A Guard that refuses nothing: for tools, and for a single operator."""
    del system, operation


class Leadership(Protocol):
    """Decides which operator acts. ``leads`` is read right before every change, so it must be fast, and True only if certain."""

    @property
    def leads(self) -> bool:
        """Whether this operator may change something now."""

    @property
    def standing(self) -> str:
        """Who leads, or why that is not known, for /readyz and logs."""

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Begin to seek leadership. Calls ``gained`` and ``lost`` alternately, ``gained`` first."""

    async def stop(self) -> None:
        """Release leadership, so that another operator need not wait for it. Does not call ``lost``."""


class Sole:
    """Implements Leadership for a single operator, which leads from its start."""

    @property
    def leads(self) -> bool:
        """Always True."""
        return True

    @property
    def standing(self) -> str:
        """Always the same."""
        return "leads"

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Call ``gained`` at once, and never ``lost``."""
        del lost
        gained()

    async def stop(self) -> None:
        """No effect: no other operator waits."""
