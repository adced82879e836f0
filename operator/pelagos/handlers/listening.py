"""Logs kopf in with a session that takes what the API server lists and watches, and notes when it sends anything.

kopf keeps the watches: it logs in, lists, follows, and begins anew when a watch ends or expires. What comes on them goes from
here right to the loop, which is a queue of keys; kopf sees no objects, only how far a watch has come. By itself it would decode
each event and hand it to a task, a queue and a memory of its object's own: for most events in vain, because they are about our
own writes. Nor does it say where a list begins and ends: when a watch has expired, what was deleted meanwhile is missing from the
list that follows, and no event says so.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Any, Protocol, cast

import aiohttp
import kopf
import msgspec
from aiohttp.connector import Connection

from pelagos.api import kinds, meta
from pelagos.observability.watches import WATCHES
from pelagos.ports.cluster import Key, Resource, from_body

logger = logging.getLogger("pelagos.watch")

_KINDS = {kind.plural: kind for kind in kinds.KINDS}
_SEEN = frozenset({"ADDED", "MODIFIED"})
_OF_KOPF = frozenset({401, 429})
"""Answers that kopf handles itself: it logs in again (401), and waits for as long as Retry-After says (429)."""


class Receiver(Protocol):
    """Receives what the API server shows: of each kind one list at a time, each page before what is in it."""

    def list_asked(self, kind: str) -> None:
        """The first page is being asked for."""

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        """A page has come, as of a resourceVersion, which all pages share: versions by uid."""

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        """The last page has come; ``uids`` are those of all pages."""

    def is_news(self, key: Key, uid: str, version: str) -> bool:
        """Whether this need be shown at all."""

    def seen(self, resource: Resource) -> None:
        """A resource, new or changed."""

    def gone(self, key: Key, uid: str) -> None:
        """The resource of this uid is no more."""


class Shown:
    """Hands on what comes, and puts the pages of lists together. One for all sessions: kopf may log in again between two pages.

    ``receiver`` is looked up late: kopf logs in before there is a loop, and lists after. Nothing is shown of kinds that are not
    ``working``: their schema may be none that we can read.
    """

    def __init__(self, receiver: Callable[[], Receiver], working: Callable[[], Collection[str]]) -> None:
        self._receiver = receiver
        self._working = working
        self._uids: dict[str, set[str]] = {}

    def asked(self, kind: kinds.Kind) -> None:
        """The first page is being asked for, perhaps again."""
        # Also after a list that broke off in the middle: half of its uids would make the rest look deleted.
        self._uids[kind.kind] = set()
        self._receiver().list_asked(kind.kind)

    def came(self, kind: kinds.Kind, page: Any) -> None:
        """A page has come. kopf asks for the next one after it."""
        items = page.get("items") or ()
        metadata = page.get("metadata") or {}
        version = str(metadata.get("resourceVersion", ""))
        uids = self._uids.get(kind.kind)
        # A page of a list whose first one was not seen, or another GET of this path, proves nothing of what is not in it.
        if uids is not None:
            found = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in items}
            uids.update(found)
            # Before what is in it: the cache must be rid of what it contradicts.
            self._receiver().page_came(kind.kind, version, found)
        for item in items:
            self._show(kind, item)
        if uids is not None and not metadata.get("continue"):
            self._receiver().list_ended(kind.kind, version, frozenset(self._uids.pop(kind.kind)))

    def happened(self, kind: kinds.Kind, line: bytes) -> str | None:
        """A line of a watch has come; the resourceVersion that it is of, or None when it is about no resource."""
        event = _EVENT.decode(line)
        metadata = event.object.metadata
        key = Key(kind.kind, metadata.namespace, metadata.name)
        if event.type == "DELETED":
            self._receiver().gone(key, metadata.uid)
        elif event.type not in _SEEN:
            return None
        elif kind.kind in self._working() and self._receiver().is_news(key, metadata.uid, metadata.resource_version):
            # Most events are about our own writes, known from the replies: the rest of those is not even decoded.
            self._show(kind, msgspec.json.decode(line)["object"])
        return metadata.resource_version

    def _show(self, kind: kinds.Kind, body: Any) -> None:
        if kind.kind not in self._working():
            return
        try:
            self._receiver().seen(from_body(kind, body))
        except Exception:  # One that cannot be read must not end the watch of all others.
            logger.exception("%s cannot be read: %.300s", kind.kind, body.get("metadata"))


class _Metadata(msgspec.Struct, rename="camel"):
    """What tells events apart."""

    resource_version: str = ""
    uid: str = ""
    name: str = ""
    namespace: str = ""


class _Object(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Event(msgspec.Struct):
    type: str
    object: _Object


_EVENT = msgspec.json.Decoder(_Event)


def session(found: kopf.ConnectionInfo, shown: Shown) -> kopf.AiohttpSession:
    """What kopf would make of these credentials, and listening. Must be called in the event loop."""
    listened = shown

    class Response(_Response):
        shown = listened

    async def asked(_session: object, _context: object, request: aiohttp.TraceRequestStartParams) -> None:
        kind = _listed(request.url.path)
        # Neither further pages nor watches: only the first page of a list begins one.
        if kind and request.method == "GET" and {"continue", "watch"}.isdisjoint(request.url.query):
            shown.asked(kind)

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

    shown: Shown

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """The status line and the headers have come."""
        await super().start(connection)
        kind = _listed(self.url.path)
        if kind and self.status >= 400 and self.status not in _OF_KOPF:
            # kopf would end the operator for a status that it does not expect, which would help neither this kind nor the others.
            # A lost connection it simply tries again, so that is what it gets to see. Noted before, for /readyz to say.
            WATCHES.refused(kind.kind, self.status)
            raise aiohttp.ClientConnectionError(f"the API server answered {self.status}")
        if kind and self.status == 200:
            WATCHES.heard(kind.kind)
            if self.url.query.get("watch") == "true":
                # kopf reads the body chunk by chunk; each chunk, be it a mere bookmark, is a sign of life.
                self.content = cast("aiohttp.StreamReader", Content(self.content, kind, self.shown))
        return self

    async def json(self, **how: Any) -> Any:
        """The body of a list without its items, or of anything else but a watch."""
        kind = _listed(self.url.path)
        if not (kind and self.status == 200 and self.method == "GET"):
            return await super().json(**how)
        page = msgspec.json.decode(await self.read())
        self.shown.came(kind, page)
        return {**page, "items": []}


class Content:
    """The body of a watch: events are handed on, and kopf gets a bookmark for all that a chunk has."""

    def __init__(self, content: aiohttp.StreamReader, kind: kinds.Kind, shown: Shown) -> None:
        self._content = content
        self._kind = kind
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)  # aiohttp itself uses more of it: to end the connection, for example.

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The way in which kopf reads."""
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            WATCHES.heard(self._kind.kind)
            *lines, rest = (rest + chunk).split(b"\n")
            yield self._taken(lines)

    def _taken(self, lines: list[bytes]) -> bytes:
        """What is left for kopf: how far the watch has come, and what is about no resource."""
        left, version = [], None
        for line in filter(None, lines):
            try:
                found = self._shown.happened(self._kind, line)
            except msgspec.MsgspecError as error:  # Cut off, or no watch at all: kopf opens another one.
                raise aiohttp.ClientPayloadError(f"the watch of {self._kind.kind} says no JSON: {error}") from error
            version = found or version
            left += [] if found else [line]
        if version is not None:
            left.insert(
                0, msgspec.json.encode({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}})
            )
        return b"".join(line + b"\n" for line in left)


def _listed(path: str) -> kinds.Kind | None:
    """The kind that is listed or watched at this path, across the cluster or in a namespace; None for all other paths."""
    prefix = f"/apis/{meta.API_VERSION}/"
    return _KINDS.get(path.rsplit("/", 1)[-1]) if path.startswith(prefix) else None
