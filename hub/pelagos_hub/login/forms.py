"""Protection against cross-site request forgery: changes need a POST from our own origin with the session's CSRF token."""

from __future__ import annotations

import contextlib
import functools
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartParser

from pelagos_hub.context import hub
from pelagos_hub.login import sessions
from pelagos_hub.problems import Problem
from pelagos_hub.security import MOST_UPLOADED, is_upload

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Action = Callable[["Request", "sessions.Session", FormData], Awaitable["Response"]]

# Uploads stay in memory and never touch the disk.
MultiPartParser.spool_max_size = MOST_UPLOADED
_MOST_FIELDS = 20
_LONGEST_FIELD = 16_384


def action(handler: Action) -> Callable[[Request], Awaitable[Response]]:
    """Wrap the handler of a POST route: it is called with session and form after origin, login and CSRF token are checked."""

    @functools.wraps(handler)
    async def checked(request: Request) -> Response:
        _from_our_page(request)
        session = sessions.of(request)
        if session is None or session.person is None:
            raise Problem(401, "You are no longer signed in", "Sign in, then do this again.")
        async with (
            _turn(request, session.person.key),
            request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD) as form,
        ):
            given = request.headers.get("x-csrf-token") or form.get("csrf")
            if not isinstance(given, str) or not hmac.compare_digest(given.encode(), session.csrf.encode()):
                raise Problem(403, "This page was too old", "Go back, reload the page, and try again.")
            return await handler(request, session, form)

    checked.checks_csrf = True  # type: ignore[attr-defined]  # read by the test that no route goes without
    return checked


@contextlib.asynccontextmanager
async def _turn(request: Request, person: str) -> AsyncIterator[None]:
    """Hold one of the few places for uploads before the body is read; each person has one place at a time.

    A second upload of the same person is refused instead of queued, so that it cannot keep others waiting.
    """
    if not is_upload(request.scope):
        yield
        return
    turns = hub(request).turns
    if (own := turns.of(f"upload {person}")).locked():
        raise Problem(
            429, "Another image of yours is being processed", "Wait for its answer, then send this one again."
        )
    async with own, turns.uploading:
        yield


def _from_our_page(request: Request) -> None:
    """Raise Problem unless the request comes from our origin, by headers that browsers set and pages cannot forge."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if (origin != hub(request).settings.origin) or site not in {None, "same-origin"}:
        raise Problem(
            403,
            "This request did not come from a page of this site",
            "Nothing was done. If you followed a link from elsewhere, open the page here and try again.",
        )


def local_path(told: str | None) -> str:
    """The path to open after logging in: ``told`` when it is a path of this site, else ``/``."""
    plain = told is not None and told.isascii() and told.isprintable() and len(told) <= 1000
    # Browsers treat \ like /, and //host as another site.
    if not plain or told is None or not told.startswith("/") or told.startswith(("//", "/\\")) or "\\" in told:
        return "/"
    return told if not told.startswith(("/login", "/logout")) else "/"
