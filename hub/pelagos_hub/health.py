"""Endpoints for Prometheus and the kubelet, on a separate port that is not public."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from pelagos_hub.context import Hub


def make_app(hub: Hub) -> Starlette:
    """Create the application with /metrics, /healthz (always 200) and /readyz (200 once the cluster has been read)."""

    async def metrics(_request: Request) -> Response:
        hub.metrics.sessions.set(len(hub.sessions))
        listings = {
            "ModelService": hub.cluster.services(),
            "Trial": hub.cluster.trials(),
            "Dataset": hub.cluster.datasets(),
            "TrainingRun": hub.cluster.trainings(),
        }
        for kind, listing in listings.items():
            silence = -1.0 if listing.heard is None else hub.clock.elapsed() - listing.heard
            hub.metrics.silence.labels(kind).set(silence)
        return Response(generate_latest(hub.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def alive(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        # The cluster need not answer now: without it, pages show the last known state and say how old it is.
        known = hub.cluster.services()
        if known.heard is None:
            return PlainTextResponse(f"the models have not been read yet: {known.problem}\n", 503)
        return PlainTextResponse("ok\n")

    routes = [Route("/metrics", metrics), Route("/healthz", alive), Route("/readyz", ready)]
    return Starlette(routes=routes, middleware=[Middleware(_NearBy)])


class _NearBy:
    """Accepts only IP addresses, localhost and names of Services as Host, against DNS rebinding by a web page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            given = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
            if len(given) != 1 or not _is_near(given[0]):
                words = "This server answers only at its address, or at the name of its Service.\n"
                return await PlainTextResponse(words, 421)(scope, receive, send)
        return await self._app(scope, receive, send)


def _is_near(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith((".svc", ".svc.cluster.local")):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
