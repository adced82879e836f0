"""Rules for every request and response: accepted host names, security headers, and limits on the size and time of bodies.

Plain ASGI middleware around everything else, so that no route can bypass it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pelagos_hub.settings import Settings

MOST_UPLOADED = 64 * 2**20
"""Most bytes of an uploaded image."""
_AROUND = 2**16
"""Most bytes of the form around an image, and of any other form."""
_UPLOAD_SECONDS, _FORM_SECONDS = 120.0, 15.0
"""Time within which a whole body must arrive."""
_LONGEST_TARGET = 4_000

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, browsers would send "Origin: null" for our own forms, which are checked by it.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def is_upload(scope: Scope) -> bool:
    """Whether this request may carry an image."""
    return bool(scope["method"] == "POST" and scope["path"].endswith(("/predict", "/predict.json")))


class Hosts:
    """Accepts only the host of ``settings.url``, against DNS rebinding by a web page."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._authority = urlsplit(settings.origin).netloc.lower()
        default = ":443" if settings.https else ":80"
        has_port = urlsplit(settings.origin).port is not None
        self._names = {self._authority} if has_port else {self._authority, self._authority + default}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            given = [value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"host"]
            if len(given) != 1 or given[0] not in self._names:
                words = f"This server answers only as {self._authority} (PELAGOS_HUB_URL).\n"
                return await PlainTextResponse(words, 421)(scope, receive, send)
        return await self._app(scope, receive, send)


class AnswerHeaders:
    """Adds the security headers, which keep browsers from loading or embedding foreign content."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        secure = {"Strict-Transport-Security": "max-age=31536000"} if settings.https else {}
        self._headers = HEADERS | secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, told)


class Bodies:
    """Refuses bodies that are too large or too slow before they are parsed. Only paths that ``is_upload`` names accept images."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if len(scope["path"]) + len(scope.get("query_string", b"")) > _LONGEST_TARGET:
            return await PlainTextResponse("The address is too long.\n", 414)(scope, receive, send)
        uploads = is_upload(scope)
        most = _AROUND + (MOST_UPLOADED if uploads else 0)
        told = Headers(scope=scope).get("content-length", "0")
        if not (told.isascii() and told.isdigit()) or int(told) > most:
            return await _too_large(most)(scope, receive, send)
        bounded = _Bounded(receive, most, _UPLOAD_SECONDS if uploads else _FORM_SECONDS)
        began = False

        async def noted(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            return await self._app(scope, bounded, noted)
        except BodyError as error:
            if began:
                raise
            return await error.answer(scope, receive, send)


class BodyError(Exception):
    """Ends a request whose body is not read to its end."""

    def __init__(self, answer: PlainTextResponse) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


class _Bounded:
    """A ``receive`` that limits the bytes and the seconds of a body."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive = receive
        self._most = most
        self._seconds = seconds
        self._deadline: float | None = None
        self._size = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            # The body is complete: a call now waits for the client to disconnect, which may take any time.
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            words = f"The body did not arrive within {self._seconds:.0f} seconds.\n"
            raise BodyError(PlainTextResponse(words, 408, {"Connection": "close"})) from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
        if self._size > self._most:
            raise BodyError(_too_large(self._most))
        return message


def _too_large(most: int) -> PlainTextResponse:
    words = f"The body is larger than {most // 2**20 or 1} MiB.\n"
    return PlainTextResponse(words, 413, {"Connection": "close"})
