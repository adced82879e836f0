"""Serves the operator's /metrics, /healthz and /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pelagos.observability import hosts, metrics

LONGEST_SILENCE = 15.0
"""Seconds without a heartbeat of the event loop after which /healthz fails."""


class Server:
    """An HTTP server on one port.

    ``beat``: when the event loop last turned, in monotonic seconds; ``ready``: missing dependencies; ``standing``: who leads, for
    people; ``silent``: a watch that has fallen silent. A standby operator counts as ready, since it can take over at once.
    """

    def __init__(
        self,
        beat: Callable[[], float],
        ready: Callable[[], str | None],
        *,
        standing: Callable[[], str] = lambda: "",
        silent: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._ready = ready
        self._standing = standing
        self._silent = silent
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, address: str, port: int, allowed_hosts: Iterable[str] = ()) -> None:
        """Listen on ``port``, or with 0 on any free one; ``self.port`` has it after that. ``allowed_hosts`` is for hosts.only."""
        application = web.Application(middlewares=[hosts.only(allowed_hosts)])
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        silent = time.monotonic() - self._beat()
        if silent > LONGEST_SILENCE:
            return web.Response(status=503, text=f"the event loop has not turned for {silent:.0f} s\n")
        watch = self._silent()
        return web.Response(status=503, text=f"{watch}\n") if watch else web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        problem, standing = self._ready(), self._standing()
        if problem:
            return web.Response(status=503, text=f"{problem}\n")
        return web.Response(text=f"ok: {standing}\n" if standing else "ok\n")
