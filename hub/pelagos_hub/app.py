"""The application: its routes and middleware. Others call ``make_app`` only."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from pelagos.ports.errors import OutageError, RejectedError
from pelagos_hub import observing, pages, problems, rendering, security
from pelagos_hub.context import Clock, Hub, SystemClock
from pelagos_hub.login import local, oidc, sessions
from pelagos_hub.login import routes as login_routes
from pelagos_hub.probes import Probes
from pelagos_hub.shelf import Shelf
from pelagos_hub.trials import routes as trial_routes
from pelagos_hub.turns import Starts, Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pelagos_hub.cluster import Cluster
    from pelagos_hub.settings import Settings


def make_app(settings: Settings, cluster: Cluster, clock: Clock | None = None) -> Starlette:
    """Create the hub on ``cluster``. Its lifespan runs the watches that keep the objects in memory current."""
    clock = clock or SystemClock()
    kept = sessions.Sessions(clock.elapsed, most=settings.sessions, longest=settings.session_hours * 3600.0)
    provider = oidc.Provider(settings) if settings.oidc_issuer else None
    link = local.Link(settings)
    turns, starts = Turns(settings.uploads), Starts(clock.elapsed)
    shelf = Shelf(settings, cluster)
    probes = Probes(settings.operator_metrics, clock.now)
    hub = Hub(
        settings,
        cluster,
        clock,
        kept,
        rendering.environment(),
        observing.Metrics(),
        provider,
        link,
        turns,
        starts,
        shelf,
        probes,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        link.renew()
        for name in hub.templates.list_templates():
            hub.templates.get_template(name)  # compiled now, so that the first page need not wait for it
        running = [asyncio.create_task(each.run()) for each in (cluster, shelf, probes)]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    app = Starlette(
        routes=[
            *login_routes.ROUTES,
            *trial_routes.ROUTES,
            *pages.ROUTES,
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static"),
        ],
        # Outermost first.
        middleware=[
            Middleware(observing.Middleware, metrics=hub.metrics),
            Middleware(security.AnswerHeaders, settings=settings),
            Middleware(security.Hosts, settings=settings),
            Middleware(security.Bodies),
            Middleware(sessions.Middleware, sessions=kept, settings=settings),
            Middleware(problems.Catching),
        ],
        exception_handlers=dict.fromkeys((HTTPException, OutageError, RejectedError), problems.answer),
        lifespan=lifespan,
    )
    app.state.hub = hub
    return app
