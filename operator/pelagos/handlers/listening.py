"""Logs kopf in with a session that notes whenever the API server says something on a watch.

kopf tells handlers of objects, never of bookmarks; on a cluster where nothing happens, these are all that there is to be heard.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import kopf
from aiohttp.connector import Connection

from pelagos.api import kinds, meta
from pelagos.observability.watches import WATCHES

_KINDS = {kind.plural: kind.kind for kind in kinds.KINDS}


def session(found: kopf.ConnectionInfo) -> kopf.AiohttpSession:
    """What kopf would make of these credentials, and listening. Must be called in the event loop."""
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=found.as_ssl_context()),
        headers=found.as_http_headers(),
        proxy=found.proxy_url,
        trust_env=found.trust_env,
        response_class=_Response,
    )
    return kopf.AiohttpSession(
        server=found.server, aiohttp_session=made, default_namespace=found.default_namespace, priority=found.priority
    )


class _Response(aiohttp.ClientResponse):
    """Notes the answer's beginning, and of a watch all that follows."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """The status line and the headers have come."""
        await super().start(connection)
        kind = _listed(self.url.path)
        if kind and self.status == 200:
            WATCHES.heard(kind)
            if self.url.query.get("watch") == "true":
                self.content = cast("aiohttp.StreamReader", _Content(self.content, kind))
        return self


class _Content:
    """The body of a watch."""

    def __init__(self, content: aiohttp.StreamReader, kind: str) -> None:
        self._content = content
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """The way in which kopf reads."""
        async for chunk in self._content.iter_chunked(size):
            WATCHES.heard(self._kind)
            yield chunk


def _listed(path: str) -> str | None:
    """The kind whose list or watch this is the path of."""
    prefix = f"/apis/{meta.API_VERSION}/"
    return _KINDS.get(path.rsplit("/", 1)[-1]) if path.startswith(prefix) else None
