"""Errors as a page that says what to do, or as JSON for clients that asked for it."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse

from pelagos.ports.errors import OutageError, RejectedError
from pelagos_hub import rendering
from pelagos_hub.security import BodyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG = logging.getLogger("pelagos.hub")

_WORDS = {
    404: (
        "There is nothing here",
        "It may have been removed, or it belongs to somebody else. Go back to the catalogue.",
    ),
    405: ("This cannot be done here", "Go back to the catalogue."),
    500: (
        "The hub failed",
        "Try again. If the problem persists, tell the administrator of this installation; the hub's log has the cause.",
    ),
}


class Problem(HTTPException):
    """Ends a request with a status, a summary and advice."""

    def __init__(self, status: int, summary: str, advice: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, summary, dict(headers or {}))
        self.summary = summary
        self.advice = advice


async def answer(request: Request, error: Exception) -> Response:
    """The response to an exception."""
    headers: Mapping[str, str] = {}
    if isinstance(error, Problem):
        status, summary, advice, headers = error.status_code, error.summary, error.advice, error.headers or {}
    elif isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers or {}
        summary, advice = _WORDS.get(status, (HTTPStatus(status).phrase, error.detail))
    elif isinstance(error, OutageError):
        _LOG.warning("%s %s: %s", request.method, request.url.path, error)
        status, summary = 503, "The cluster does not answer"
        advice = "Nothing was changed except what you see here. Try again in a minute."
    elif isinstance(error, RejectedError):
        _LOG.warning("%s %s: %s", request.method, request.url.path, error)
        status, summary, advice = 409, "The cluster refused this", str(error)
    else:
        status, (summary, advice) = 500, _WORDS[500]
    if wants_json(request):
        body = {"error": {"summary": summary, "advice": advice}}
        return JSONResponse(body, status, headers={"Cache-Control": "no-store", **headers})
    found = rendering.page(request, "problem.html", status, summary=summary, advice=advice)
    found.headers.update(headers)
    return found


class Catching:
    """Turns unhandled exceptions into responses inside the other middleware. Starlette would do so outside of it, where responses
    get no security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = False

        async def noted(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            return await self._app(scope, receive, noted)
        except (BodyError, ClientDisconnect):
            raise
        except Exception as error:
            _LOG.exception("%s %s", scope["method"], scope["path"])
            if began:
                raise
            request = Request(scope, receive)
            return await (await answer(request, error))(scope, receive, send)


def wants_json(request: Request) -> bool:
    """Whether the client is a program that wants JSON."""
    accepted = request.headers.get("accept", "")
    return (
        request.url.path.endswith(".json")
        or request.url.path.startswith("/api/")
        or ("application/json" in accepted and "text/html" not in accepted)
    )
