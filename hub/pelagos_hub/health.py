"""What Prometheus and kubelet ask, on a port of its own that people do not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from pelagos_hub.context import Hub


def make_app(hub: Hub) -> Starlette:
    """/metrics, /healthz (always, while the process answers) and /readyz (once the cluster was read)."""

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
        # Not whether it answers now: without it pages still show what was there, and say how old that is.
        known = hub.cluster.services()
        if known.heard is None:
            return PlainTextResponse(f"the models have not been read yet: {known.problem}\n", 503)
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", alive), Route("/readyz", ready)])
