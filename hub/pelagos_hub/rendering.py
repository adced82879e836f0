"""Pages from templates. All that strangers wrote is escaped; a template that names what it was not given fails in tests."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import jinja2
from starlette.responses import HTMLResponse

from pelagos_contract.text import shown
from pelagos_hub.catalogue.browsing import spaced
from pelagos_hub.context import hub
from pelagos_hub.login import sessions

if TYPE_CHECKING:
    from starlette.requests import Request


def environment() -> jinja2.Environment:
    """Templates of the package, escaped whatever they are called."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pelagos_hub"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Control characters and the like of strangers' texts are written out, as everywhere else.
    made.filters["shown"] = shown
    made.filters["spaced"] = spaced
    return made


def page(request: Request, template: str, status: int = HTTPStatus.OK, **known: Any) -> HTMLResponse:
    """A page. Besides ``known`` a template has ``installation``, ``path`` of the request, ``person`` (None: not logged in),
    ``csrf`` for its forms, and ``stale`` (how old what is shown is, in words; empty: it is what there is)."""
    at, session = hub(request), sessions.of(request)
    common = {
        "installation": at.settings.title,
        "path": request.url.path,
        "person": session.person if session else None,
        "csrf": session.csrf if session else "",
        "stale": at.staleness(at.cluster.services()),
    }
    text = at.templates.get_template(template).render({**common, **known})
    return HTMLResponse(text, status, headers={"Cache-Control": "no-store"})
