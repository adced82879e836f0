"""Checks the operator's dependencies, in the background and in bounded time, so that /readyz answers at once with the cause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

logger = logging.getLogger("pelagos.readiness")

PERIOD = 10.0
"""Seconds between two rounds of checks while nothing is missing."""
SOON = 2.0
"""Seconds between two rounds of checks while something is missing."""
PATIENCE = 5.0
"""Seconds after which a system that does not answer counts as unreachable."""
UNKNOWN = "not checked yet"

Check = Callable[[], Awaitable[str | None]]
"""Returns what is missing, or None. May raise: the error counts as a problem, too."""


class Readiness:
    """Runs named checks periodically, and keeps their results."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        *,
        period: float = PERIOD,
        patience: float = PATIENCE,
    ) -> None:
        self._checks = dict(checks)
        self._period = period
        self._patience = patience
        self._problems: dict[str, str] = dict.fromkeys(self._checks, UNKNOWN)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start checking in a background task, unless there are no checks."""
        if self._checks:
            self._task = asyncio.create_task(self._run(), name="readiness")

    async def stop(self) -> None:
        """Stop checking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def problem(self) -> str | None:
        """The missing dependencies, one line for each; None when nothing is missing."""
        lines = [f"{name}: {problem}" for name, problem in self._problems.items()]
        return "\n".join(lines) or None

    async def look(self) -> None:
        """Run all checks once, concurrently."""
        found = await asyncio.gather(*(self._examine(check) for check in self._checks.values()))
        for name, problem in zip(self._checks, found, strict=True):
            # Only changes are logged: an outage of hours must not fill the log.
            if problem is None:
                if self._problems.pop(name, UNKNOWN) != UNKNOWN:
                    logger.warning("%s: works again", name)
                continue
            if self._problems.get(name) != problem:
                logger.warning("%s: %s", name, problem)
            self._problems[name] = problem

    async def _examine(self, check: Check) -> str | None:
        try:
            return await asyncio.wait_for(check(), self._patience)
        except TimeoutError:
            return f"no answer within {self._patience:.0f} s"
        except Exception as error:
            return str(error) or type(error).__name__

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._period if not self._problems else min(self._period, SOON))
