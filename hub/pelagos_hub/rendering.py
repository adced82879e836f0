"""Pages from templates. Untrusted text is always escaped; a template that uses an undefined name raises an error."""

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
    """The package's templates, with autoescaping regardless of their file names."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pelagos_hub"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Control and other invisible characters in untrusted text are shown escaped, as everywhere else.
    made.filters["shown"] = shown
    made.filters["spaced"] = spaced
    return made


def page(request: Request, template: str, status: int = HTTPStatus.OK, **known: Any) -> HTMLResponse:
    """Render a page. Besides ``known`` a template gets ``installation``, the request's ``path``, ``person`` (None without login),
    ``csrf`` for its forms, and ``stale`` (how old the shown data is, in words; empty while it is current)."""
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
