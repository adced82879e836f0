"""Server-side sessions: the browser only has a random number in a cookie.

A session ends by logout, by age, when idle, and with the process. Their number is bounded. Sessions without a login have a
separate bound, so that opening the login page a million times logs nobody out.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pelagos_hub.login.identity import Person
    from pelagos_hub.settings import Settings

IDLE = 3_600.0
"""Seconds without a request after which a session ends."""
LOGGING_IN = 600.0
"""Seconds within which a login must complete."""
_MOST_LOGGING_IN = 2_000
_MOST_TOKENS = 50
_SCOPE = "pelagos.session"
_CHANGE = "pelagos.session.cookie"


@dataclass
class Session:
    """The state of one browser."""

    began: float
    seen: float
    person: Person | None = None
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """CSRF token in the forms of this session."""
    flow: dict[str, Any] = field(default_factory=dict)
    """State, nonce and PKCE verifier of a login in progress."""
    after: str = "/"
    """Path to open after the login."""
    _tokens: OrderedDict[tuple[str, str, str], str] = field(default_factory=OrderedDict)

    def keep_token(self, namespace: str, name: str, uid: str, token: str) -> None:
        """Keep the token of a trial; beyond ``_MOST_TOKENS`` the oldest are dropped."""
        self._tokens[namespace, name, uid] = token
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)

    def token(self, namespace: str, name: str, uid: str) -> str | None:
        """The token of this trial; None when it was created by another session or before the hub restarted."""
        return self._tokens.get((namespace, name, uid))


class Sessions:
    """All sessions of this process, by the SHA-256 of their numbers, so that memory holds no usable cookie."""

    def __init__(self, clock: Callable[[], float], *, most: int, longest: float) -> None:
        self._clock = clock
        self._most = most
        self._longest = longest
        self._known: OrderedDict[bytes, Session] = OrderedDict()
        self._logging_in: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> list[Session]:
        """The sessions of all who are logged in."""
        return list(self._known.values())

    def begin(self, person: Person | None = None) -> tuple[str, Session]:
        """Create a session and return its number with it; without a person it can only be used to log in."""
        number, now = secrets.token_urlsafe(32), self._clock()
        session = Session(now, now, person)
        kept, most = (self._known, self._most) if person else (self._logging_in, _MOST_LOGGING_IN)
        kept[_digest(number)] = session
        # The dictionary is in the order of last use: the longest idle session goes first.
        while len(kept) > most:
            kept.popitem(last=False)
        return number, session

    def find(self, number: str) -> Session | None:
        """The session of this number; None when there is none or it has ended."""
        digest, now = _digest(number), self._clock()
        if (session := self._logging_in.get(digest)) is not None:
            if now - session.began <= LOGGING_IN:
                return session
            del self._logging_in[digest]
        if (session := self._known.get(digest)) is None:
            return None
        if now - session.began > self._longest or now - session.seen > IDLE:
            del self._known[digest]
            return None
        session.seen = now
        self._known.move_to_end(digest)
        return session

    def end(self, number: str) -> None:
        """End the session of this number, for every holder of the cookie."""
        self._known.pop(_digest(number), None)
        self._logging_in.pop(_digest(number), None)


def _digest(number: str) -> bytes:
    return hashlib.sha256(number.encode()).digest()


def of(request: HTTPConnection) -> Session | None:
    """The session of this request; None without one."""
    found: Session | None = request.scope.get(_SCOPE)
    return found


def begin(request: HTTPConnection, person: Person | None = None) -> Session:
    """Replace the session of this request by a new one. Its number is new too, which defeats session fixation."""
    store: Sessions = request.app.state.hub.sessions
    end(request)
    number, session = store.begin(person)
    request.scope[_CHANGE], request.scope[_SCOPE] = number, session
    request.scope["session"] = session.flow
    return session


def end(request: HTTPConnection) -> None:
    """End the session of this request."""
    number = request.scope.get(_CHANGE) or _number(request.scope, cookie_name(request.app.state.hub.settings))
    if number:
        request.app.state.hub.sessions.end(number)
    request.scope[_CHANGE], request.scope[_SCOPE] = "", None


def cookie_name(settings: Settings) -> str:
    """With https a ``__Host-`` name, which other hosts of the domain cannot set; else the port is part of it, since cookies are
    shared between ports."""
    return "__Host-pelagos" if settings.https else f"pelagos-{settings.origin.rpartition(':')[2].strip('/')}"


class Middleware:
    """Finds the session of each request, and sets the cookie when the session changes."""

    def __init__(self, app: ASGIApp, sessions: Sessions, settings: Settings) -> None:
        self._app = app
        self._sessions = sessions
        self._name = cookie_name(settings)
        self._marks = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if settings.https else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        number = _number(scope, self._name)
        session = self._sessions.find(number) if number else None
        scope[_SCOPE], scope["session"] = session, session.flow if session else {}

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and _CHANGE in scope:
                changed = scope[_CHANGE]
                lifetime = "" if changed else "; Max-Age=0"
                MutableHeaders(scope=message).append("Set-Cookie", f"{self._name}={changed}{self._marks}{lifetime}")
            await send(message)

        return await self._app(scope, receive, told)


def _number(scope: Scope, name: str) -> str:
    given = [value.decode("latin-1") for key, value in scope["headers"] if key == b"cookie"]
    return cookie_parser("; ".join(given)).get(name, "")[:100]
