"""Read-only pages: the catalogue and models. ``ROUTES`` is included by the application."""

from __future__ import annotations

from starlette.routing import Route

from pelagos_hub.pages import machine, models

ROUTES = [
    Route("/", models.catalogue, name="catalogue"),
    Route("/models/{namespace}/{name}", models.model, name="model"),
    Route("/models/{namespace}/{name}/pictures/{number:int}", models.picture, name="picture"),
    Route("/models/{namespace}/{name}/{document}", models.document, name="document"),
    Route("/api/models", machine.models, name="api-models"),
    Route("/api/models/{namespace}/{name}", machine.model, name="api-model"),
    Route("/sitemap.xml", machine.sitemap, name="sitemap"),
    Route("/robots.txt", machine.robots, name="robots"),
]
