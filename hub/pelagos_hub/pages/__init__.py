"""Pages that only show: the catalogue and models. ``ROUTES`` is what the application adds to its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from pelagos_hub import rendering
from pelagos_hub.context import hub

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def catalogue(request: Request) -> Response:
    """All models."""
    found = hub(request).cluster.services()
    return rendering.page(request, "catalogue.html", services=list(found.objects.values()))


ROUTES = [Route("/", catalogue, name="catalogue")]
