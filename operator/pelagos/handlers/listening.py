"""Logs kopf in with a session that notes when the API server sends anything on a watch, and what its lists contain.

kopf calls handlers for objects only, never for bookmarks; on a cluster where nothing changes, bookmarks are all that arrives. Nor
does it say where a list begins and ends: when a watch has expired, what was deleted meanwhile is missing from the list that
follows, and no event says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, cast

import aiohttp
import kopf
from aiohttp.connector import Connection

from pelagos.api import kinds, meta
from pelagos.observability.watches import WATCHES

_KINDS = {kind.plural: kind.kind for kind in kinds.KINDS}
_OF_KOPF = frozenset({401, 429})
"""Answers that kopf handles itself: it logs in again (401), and waits for as long as Retry-After says (429)."""


class Lists(Protocol):
    """Receives what lists contain: of each kind one list at a time, and each page before kopf hands on what is in it."""

    def list_asked(self, kind: str) -> None:
        """The first page is being asked for."""

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        """A page has come, as of a resourceVersion, which all pages share: versions by uid."""

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        """The last page has come; ``uids`` are those of all pages."""


class Pages:
    """Puts the pages of lists together. One for all sessions: kopf may log in again between two pages of a list."""

    def __init__(self, lists: Callable[[], Lists]) -> None:
        self._lists = lists  # Looked up late: kopf logs in before there is a loop, and lists after.
        self._uids: dict[str, set[str]] = {}

    def asked(self, kind: str) -> None:
        """The first page is being asked for, perhaps again."""
        # Also after a list that broke off in the middle: half of its uids would make the rest look deleted.
        self._uids[kind] = set()
        self._lists().list_asked(kind)

    def came(self, kind: str, page: Any) -> None:
        """A page has come. kopf asks for the next one when it has handed on all that is in this one."""
        uids = self._uids.get(kind)
        if (
            uids is None
        ):  # A page of a list whose first one was not seen, or another GET of this path: it proves nothing.
            return
        metadata = page.get("metadata") or {}
        version = str(metadata.get("resourceVersion", ""))
        items = [item["metadata"] for item in page.get("items") or ()]
        found = {item["uid"]: item["resourceVersion"] for item in items}
        uids.update(found)
        self._lists().page_came(kind, version, found)
        if not metadata.get("continue"):
            self._lists().list_ended(kind, version, frozenset(self._uids.pop(kind)))


def session(found: kopf.ConnectionInfo, pages: Pages) -> kopf.AiohttpSession:
    """What kopf would make of these credentials, and listening. Must be called in the event loop."""
    listened = pages

    class Response(_Response):
        pages = listened

    async def asked(_session: object, _context: object, request: aiohttp.TraceRequestStartParams) -> None:
        kind = _listed(request.url.path)
        # Neither further pages nor watches: only the first page of a list begins one.
        if kind and request.method == "GET" and {"continue", "watch"}.isdisjoint(request.url.query):
            pages.asked(kind)

    # By a trace and not by the response: what is known must be noted before the request leaves, and for each try of it. Noted
    # when the answer comes, a resource that was made in between would look as if the list had lost it.
    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(asked)
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
        headers=found.as_http_headers(),
        proxy=found.proxy_url,
        trust_env=found.trust_env,
        response_class=Response,
        trace_configs=[tracing],
    )
    return kopf.AiohttpSession(
        server=found.server, aiohttp_session=made, default_namespace=found.default_namespace, priority=found.priority
    )


class _Response(aiohttp.ClientResponse):
    """Notes the answer's beginning, and of a watch all that follows; of a list what is in it."""

    pages: Pages

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """The status line and the headers have come."""
        await super().start(connection)
        kind = _listed(self.url.path)
        if kind and self.status >= 400 and self.status not in _OF_KOPF:
            # kopf would end the operator for a status that it does not expect, which would help neither this kind nor the others.
            # A lost connection it simply tries again, so that is what it gets to see. Noted before, for /readyz to say.
            WATCHES.refused(kind, self.status)
            raise aiohttp.ClientConnectionError(f"the API server answered {self.status}")
        if kind and self.status == 200:
            WATCHES.heard(kind)
            if self.url.query.get("watch") == "true":
                # kopf reads the body chunk by chunk; each chunk, be it a mere bookmark, is a sign of life.
                self.content = cast("aiohttp.StreamReader", _Content(self.content, kind))
        return self

    async def json(self, **how: Any) -> Any:
        """The body of a list, or of anything else but a watch."""
        body = await super().json(**how)
        kind = _listed(self.url.path)
        if kind and self.status == 200 and self.method == "GET":
            # Before it is returned: kopf then hands on what is in the page, and must find the cache rid of what it contradicts.
            self.pages.came(kind, body)
        return body


class _Content:
    """The body of a watch."""

    def __init__(self, content: aiohttp.StreamReader, kind: str) -> None:
        self._content = content
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)  # aiohttp itself uses more of it: to end the connection, for example.

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The way in which kopf reads."""
        async for chunk in self._content.iter_chunked(size):
            WATCHES.heard(self._kind)
            yield chunk


def _listed(path: str) -> str | None:
    """The kind that is listed or watched at this path, across the cluster or in a namespace; None for all other paths."""
    prefix = f"/apis/{meta.API_VERSION}/"
    return _KINDS.get(path.rsplit("/", 1)[-1]) if path.startswith(prefix) else None
