"""Leadership in the hands of a test."""

from __future__ import annotations

from collections.abc import Callable


class LeadershipFake:
    """Implements Leadership: ``grant`` and ``withdraw`` tell the operator, setting ``leads`` does not, like a pause would."""

    def __init__(self, *, leads: bool = False) -> None:
        self.leads = leads
        self.released = False
        self._gained: Callable[[], None] = lambda: None
        self._lost: Callable[[], None] = lambda: None

    @property
    def standing(self) -> str:
        """In words."""
        return "leads" if self.leads else "standby"

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Begin; calls ``gained`` at once when it leads already."""
        self._gained, self._lost = gained, lost
        if self.leads:
            gained()

    async def stop(self) -> None:
        """Give up."""
        self.released, self.leads = True, False

    def grant(self) -> None:
        """Let this operator lead."""
        self.leads = True
        self._gained()

    def withdraw(self) -> None:
        """Let another lead."""
        self.leads = False
        self._lost()
