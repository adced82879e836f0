"""Connections on which nobody asks anything: uvicorn would keep them for ever, and counts them against its bound."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class Impatient(H11Protocol):  # type: ignore[misc]  # its types are not looked at
    """Ends a connection on which no whole head of a request came in time."""

    seconds: ClassVar[float] = 15.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._patience = self.loop.call_later(self.seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._patience.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        request: Any = self.cycle
        if request is None and not self.transport.is_closing():
            self.transport.close()
