"""Leadership that a test controls."""

from __future__ import annotations

from collections.abc import Callable


class LeadershipFake:
    """Implements Leadership. ``grant`` and ``withdraw`` notify the operator; setting ``leads`` does not, as in a long pause."""

    def __init__(self, *, leads: bool = False) -> None:
        self.leads = leads
        self.released = False
        self._gained: Callable[[], None] = lambda: None
        self._lost: Callable[[], None] = lambda: None

    @property
    def standing(self) -> str:
        """Whether it leads, for people."""
        return "leads" if self.leads else "standby"

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Keep the callbacks. Calls ``gained`` at once if it leads already."""
        self._gained, self._lost = gained, lost
        if self.leads:
            gained()

    async def stop(self) -> None:
        """Release leadership, and note that in ``released``."""
        self.released, self.leads = True, False

    def grant(self) -> None:
        """Let this operator lead, and notify it."""
        self.leads = True
        self._gained()

    def withdraw(self) -> None:
        """Let another operator lead, and notify this one."""
        self.leads = False
        self._lost()
