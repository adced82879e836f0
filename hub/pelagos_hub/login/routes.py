"""Routes to log in and out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.routing import Route

from pelagos_contract.text import shown
from pelagos_hub import rendering
from pelagos_hub.context import hub
from pelagos_hub.login import forms, local, oidc, sessions
from pelagos_hub.problems import Problem

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from pelagos_hub.login.identity import Person

_LOG = logging.getLogger("pelagos.hub")
_UNSTORED = {"Cache-Control": "no-store"}


async def begin(request: Request) -> Response:
    """Redirect to the provider; without one, show how to log in by the link."""
    after = forms.local_path(request.query_params.get("next"))
    known = sessions.of(request)
    if known and known.person:
        return RedirectResponse(after, 303, _UNSTORED)
    provider = hub(request).provider
    if provider is None:
        return rendering.page(request, "login.html", has_link=hub(request).settings.login_link_file is not None)
    session = sessions.begin(request)
    session.after = after
    try:
        return await provider.begin(request)
    except oidc.ProviderAwayError as error:
        raise _away(request, error) from error


async def back(request: Request) -> Response:
    """Complete a login when the provider redirects back with a code."""
    at, session = hub(request), sessions.of(request)
    if at.provider is None:
        raise Problem(404, "There is nothing here")
    if session is None or session.person is not None or not session.flow:
        at.metrics.logins.labels("Refused").inc()
        raise Problem(
            400,
            "This sign-in was not started here, or took too long",
            "Sign in again. If this keeps happening, check whether your browser accepts cookies from this site.",
        )
    try:
        person = await at.provider.complete(request)
    except oidc.ProviderAwayError as error:
        raise _away(request, error) from error
    except oidc.RefusedError as error:
        _LOG.warning("a login was refused: %s", shown(str(error))[:500])
        at.metrics.logins.labels("Refused").inc()
        sessions.end(request)
        raise Problem(
            403,
            "You were not signed in",
            f"{at.settings.oidc_name} did not say who you are. Sign in again; if the problem persists, tell the administrator of "
            "this hub.",
        ) from error
    return _welcome(request, person, session.after)


async def by_link(request: Request) -> Response:
    """Log in by the one-time link."""
    at = hub(request)
    person = at.link.use(request.query_params.get("token", ""))
    if person is None:
        at.metrics.logins.labels("Refused").inc()
        raise Problem(403, "This link was already used, or has expired", "Run `pelagos hub` for a new one.")
    return _welcome(request, person, "/")


@forms.action
async def end(request: Request, _session: sessions.Session, _form: FormData) -> Response:
    """Log out."""
    sessions.end(request)
    return RedirectResponse("/logged-out", 303, _UNSTORED)


async def ended(request: Request) -> Response:
    """The page after logging out. It links to the provider's logout, since form targets may not leave this site."""
    provider = hub(request).provider
    goodbye = await provider.goodbye() if provider else ""
    return rendering.page(request, "logged_out.html", goodbye=goodbye, provider=hub(request).settings.oidc_name)


def _welcome(request: Request, person: Person, after: str) -> Response:
    sessions.begin(request, person)
    hub(request).metrics.logins.labels("Done").inc()
    return RedirectResponse(after, 303, _UNSTORED)


def _away(request: Request, error: Exception) -> Problem:
    _LOG.warning("the OpenID provider: %s", shown(str(error))[:500])
    hub(request).metrics.logins.labels("Failed").inc()
    sessions.end(request)
    name = hub(request).settings.oidc_name
    return Problem(503, f"Signing in does not work now: {name} does not answer", "Try again in a minute.")


ROUTES = [
    Route("/login", begin, name="login"),
    Route(oidc.BACK, back, name="login-back"),
    Route(local.PATH, by_link, name="login-local"),
    Route("/logout", end, methods=["POST"], name="logout"),
    Route("/logged-out", ended, name="logged-out"),
]
