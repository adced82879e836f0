"""Limits the host names under which our HTTP server answers. Used by observability.server.

Against DNS rebinding: a page that is open in a browser can make its own name resolve to our address, and could then read what we
serve. Its name in the header ``Host`` gives it away.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.typedefs import Handler, Middleware

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_IN_CLUSTER = (".svc", ".svc.cluster.local")
"""Endings of the names of Services, which only exist in a cluster: no page on the network has such a name."""


def only(allowed: Iterable[str]) -> Middleware:
    """A middleware that answers 421 to requests under any name except ``allowed``, loopback, Services and our own address."""
    names = LOOPBACK | {name.strip().lower() for name in allowed if name.strip()}

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        hosts = request.headers.getall("Host", [])
        name = _name(hosts[0]) if len(hosts) == 1 else ""
        if name and (name in names or name.endswith(_IN_CLUSTER) or name == _asked(request)):
            return await handler(request)
        words = "this server answers only under its own names; add others to PELAGOS_ALLOWED_HOSTS\n"
        return web.Response(status=421, text=words)

    return checked


def _name(host: str) -> str:
    """The host name without the port, which port forwarding changes; empty when the header is malformed."""
    host = host.strip().lower()
    if host.startswith("["):
        inside, closed, port = host[1:].partition("]")
        return inside if closed and (not port or _is_port(port)) else ""
    name, colon, port = host.partition(":")
    return name.removesuffix(".") if not colon or _is_port(f":{port}") else ""


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit() and int(text[1:]) < 65536


def _asked(request: web.Request) -> str | None:
    """The IP address of our end of the connection, which kubelet and Prometheus use. None when it is not known."""
    end = request.transport.get_extra_info("sockname") if request.transport is not None else None
    if not isinstance(end, tuple):
        return None
    address = ipaddress.ip_address(str(end[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
