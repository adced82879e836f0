"""Logs kopf in with a session that notes when the API server sends anything on a watch, and what its lists contain.

kopf calls handlers for objects only, never for bookmarks, and in a cluster where nothing changes nothing else arrives. Nor does
it say where a list begins and ends. But after an expired watch, a resource deleted in the meantime is only missing from the next
list, and no event reports it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, cast

import aiohttp
import kopf
import pydantic_core
from aiohttp.connector import Connection
from typing_extensions import override

from pelagos.api import kinds, meta
from pelagos.observability.watches import WATCHES

_KINDS = {kind.plural: kind.kind for kind in kinds.KINDS}
_OF_KOPF = frozenset({401, 429})
"""Statuses that kopf handles itself: it logs in again (401), and waits for as long as Retry-After says (429)."""


class Lists(Protocol):
    """Receives what lists contain: one list of each kind at a time, and each page before kopf delivers its resources."""

    def list_asked(self, kind: str) -> None:
        """The first page is being requested. Called again when that is retried."""

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        """A page has arrived. ``version`` is the list's resourceVersion, which all pages share; ``found`` has versions by uid."""

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        """The last page has arrived; ``uids`` are those of all pages."""


class Pages:
    """Puts the pages of lists together. Shared by all sessions: kopf may log in again between two pages of a list."""

    def __init__(self, lists: Callable[[], Lists]) -> None:
        self._lists = lists  # Looked up late: kopf logs in before the loop exists, and lists after that.
        self._uids: dict[str, set[str]] = {}

    def asked(self, kind: str) -> None:
        """The first page is being requested, perhaps again."""
        # Discards an interrupted list. Its uids may include resources deleted since, which would then never be noticed.
        self._uids[kind] = set()
        self._lists().list_asked(kind)

    def came(self, kind: str, page: Any) -> None:
        """A page has arrived. kopf requests the next one when it has delivered everything in this one."""
        uids = self._uids.get(kind)
        if (
            uids is None
        ):  # A page of a list whose first page was not seen, or another GET of this path: it proves nothing.
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
    """The session that kopf would create from these credentials, with listening added. Must be called in the event loop."""
    listened = pages

    class Response(_Response):
        pages = listened

    async def asked(_session: object, _context: object, request: aiohttp.TraceRequestStartParams) -> None:
        kind = _listed(request.url.path)
        # Not further pages, and not watches: only the request for the first page begins a list.
        if kind and request.method == "GET" and {"continue", "watch"}.isdisjoint(request.url.query):
            pages.asked(kind)

    # By a trace and not by the response: the cache must note what it knows before the request leaves, and for every attempt of
    # it. Noted when the response arrives, a resource created in between would look as if the list had lost it.
    tracing = aiohttp.TraceConfig()
    tracing.on_request_start.append(asked)
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
        # A list of thousands costs the API server more to compress than the network between it and us costs to carry it.
        headers={**found.as_http_headers(), "Accept-Encoding": "identity"},
        proxy=found.proxy_url,
        trust_env=found.trust_env,
        response_class=Response,
        trace_configs=[tracing],
    )
    return kopf.AiohttpSession(
        server=found.server, aiohttp_session=made, default_namespace=found.default_namespace, priority=found.priority
    )


class _Response(aiohttp.ClientResponse):
    """Notes when a response begins and every chunk of a watch, and passes on the contents of a list."""

    pages: Pages

    @override
    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """The status line and the headers have arrived. Raises ClientConnectionError for statuses that kopf cannot handle."""
        await super().start(connection)
        kind = _listed(self.url.path)
        if kind and self.status >= 400 and self.status not in _OF_KOPF:
            # kopf would end the operator on a status that it does not expect, which would help neither this kind nor the others.
            # It does retry after a lost connection, so that is what it gets to see. The status is noted first, for /readyz.
            WATCHES.refused(kind, self.status)
            raise aiohttp.ClientConnectionError(f"the API server answered {self.status}")
        if kind and self.status == 200:
            WATCHES.heard(kind)
            if self.url.query.get("watch") == "true":
                # kopf reads the body chunk by chunk. Each chunk is a sign of life, even if it is only a bookmark.
                self.content = cast("aiohttp.StreamReader", _Content(self.content, kind))
        return self

    @override
    async def json(self, **how: Any) -> Any:
        """The body of a list, or of any other response that is not a watch."""
        kind = _listed(self.url.path)
        if kind and self.status == 200 and self.method == "GET":
            # Not by the json module, which takes twice as long. In a thread it would still hold the lock of the interpreter.
            body = pydantic_core.from_json(await self.read())
            # Before kopf gets the page and delivers its resources. By then, the cache must have dropped what the page
            # contradicts, or it would drop older but valid versions as stale.
            self.pages.came(kind, body)
            return body
        return await super().json(**how)


class _Content:
    """Wraps the body of a watch to note each chunk."""

    def __init__(self, content: aiohttp.StreamReader, kind: str) -> None:
        self._content = content
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)  # aiohttp itself uses other methods, for example to end the connection.

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The method that kopf reads a watch with."""
        async for chunk in self._content.iter_chunked(size):
            WATCHES.heard(self._kind)
            yield chunk


def _listed(path: str) -> str | None:
    """The kind that is listed or watched at this path, in the whole cluster or in a namespace; None for any other path."""
    prefix = f"/apis/{meta.API_VERSION}/"
    return _KINDS.get(path.rsplit("/", 1)[-1]) if path.startswith(prefix) else None
