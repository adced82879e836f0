"""Envoy's external authorization (ext_authz), on a Unix socket that only the owner can open. Started by ``app``.

It fails closed: without it, no request passes. It is on the path of every request, so it does as little as it can.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from pelagos.engines.envoy import routes, shared
from pelagos_gateway.judging import Allowed, Asked, Judge, Refused
from pelagos_gateway.metrics import METRICS

logger = logging.getLogger(__name__)

_HTTP, _GRPC = "/http", "/grpc"
_OK = 200
_LONGEST = 32 * 1024
"""Longest line or header in bytes: more than Envoy accepts from clients."""


class Authority:
    """Translates between Envoy's requests and ``judge``, which decides."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """200 with the chosen cluster in a header, or the refusal that Envoy sends to the client."""
        # The raw path, which Envoy routes by: decoded or normalized, it could name another service than the one authorized.
        path = request.raw_path
        is_grpc = path.startswith(_GRPC)
        asked = Asked(
            is_grpc,
            path.removeprefix(_GRPC if is_grpc else _HTTP),
            request.headers.get(shared.CALL, ""),
            request.headers.get(shared.SERVICE),
            request.headers.get("Authorization"),
            is_upload=not is_grpc and request.method == "POST" and _is_long(request.headers.get(shared.LENGTH, "")),
        )
        try:
            told = await self._judge.judge(asked)
        except Exception:
            # Fails closed. Refused and not raised, so that it is counted; Envoy replaces the text (shared._unjudged).
            logger.exception("a request could not be judged")
            told = Refused(503, "Try again: the gateway failed to judge this request")
        if isinstance(told, Allowed):
            headers = {
                shared.CHOSEN: shared.cluster_name(told.service, "grpc" if is_grpc else "http"),
                shared.LABELS: f"{told.service} {told.access}",
            }
            return web.Response(status=_OK, headers=headers)
        METRICS.refused(told.status)
        if is_grpc:
            # The gRPC code is set here because Envoy maps 429 to UNAVAILABLE, which clients retry at once.
            return web.Response(status=told.status, text=told.message, headers={"grpc-status": str(told.grpc)})
        headers = {"Content-Type": "application/json", **told.headers}
        return web.Response(status=told.status, body=json.dumps({"error": told.message}).encode(), headers=headers)


def _is_long(length: str) -> bool:
    """Whether Envoy counts a body of this length as an upload: longer than ``routes.SMALL``, or of unknown length."""
    return not (length.isascii() and length.isdecimal() and len(length) < 20) or int(length) > routes.SMALL


class UnixServer:
    """Serves a handler on a Unix socket that only the owner can open."""

    def __init__(self, path: Path, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        self._path = path
        self._answer = answer
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen; removes a socket left by an earlier process."""
        self._path.unlink(missing_ok=True)
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None, max_line_size=_LONGEST, max_field_size=_LONGEST),
            shutdown_timeout=1,
        )
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop, and abort requests in progress after one second."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._path.unlink(missing_ok=True)
