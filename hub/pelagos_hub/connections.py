"""Closes idle connections. uvicorn would keep them forever and count them against its connection limit."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol


class Impatient(H11Protocol):
    """Closes a connection when no complete request head arrives within ``seconds``, for the first and every further request.

    Also aborts one whose client reads nothing of a response for ``stalled`` seconds.
    """

    seconds: ClassVar[float] = 15.0
    stalled: ClassVar[float] = 60.0
    _patience: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._look()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    @override
    def on_response_complete(self) -> None:
        """Start to wait for the next request, unless it has arrived already."""
        super().on_response_complete()
        self._look()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        self._flow()
        super().connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        """The client does not read; abort unless that changes."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.stalled, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        """The client reads again."""
        self._flow()
        super().resume_writing()

    def _look(self) -> None:
        if not self._is_waiting():
            self._rest()
        elif self._patience is None and not self.transport.is_closing():
            self._patience = self.loop.call_later(self.seconds, self._give_up)

    def _is_waiting(self) -> bool:
        """Whether the connection waits for the head of a request."""
        request: Any = self.cycle
        return request is None or bool(request.response_complete)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _flow(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _give_up(self) -> None:
        self._patience = None
        if self._is_waiting() and not self.transport.is_closing():
            self.transport.close()
