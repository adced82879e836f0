"""Which services exist and who may call them. Pure functions of API objects; read by ``judging``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pelagos.api import service_logins, tenant_settings
from pelagos.api.service_logins import SECRET, ServiceLogin
from pelagos.engines.envoy.shared import Served, cluster_name

NOBODY, AUTHENTICATED, ENTITLED = "Nobody", "Authenticated", "Entitled"
_PORTS = {"http": 80, "https": 443}

Key = tuple[str, str]
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """The base URL of a service, and the header Authorization that it asks for; empty: none."""

    url: str
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True)
class Policy:
    """Who may call the services of a namespace without a trial: Nobody, Authenticated, or Entitled by one of ``entitlements``."""

    access: str = NOBODY
    entitlements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Services by ``namespace/name``, and policies by namespace; ``usual`` holds for all other namespaces."""

    services: Mapping[str, Served] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    """Services that ask for a login which the gateway does not have."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    usual: Policy = Policy()

    def policy(self, service: str) -> Policy:
        """The policy of the service's namespace."""
        return self.policies.get(service.partition("/")[0], self.usual)


def services(found: Mapping[Key, Body], secrets: Mapping[Key, Body]) -> tuple[dict[str, Served], frozenset[str]]:
    """The services that have valid addresses, by ``namespace/name``, and the names of those that lack a login."""
    made, closed = {}, set()
    for (namespace, name), body in sorted(found.items()):
        service = f"{namespace}/{name}"
        endpoints = _endpoints(body)
        if endpoints.get("grpc"):
            served = _served(service, endpoints)
        elif endpoints.get("http"):
            served = _behind_login(service, str(endpoints["http"]), _login(secrets.get((namespace, SECRET)), name))
            closed |= {service} if served is None else set()
        else:
            served = None
        if served is not None:
            made[service] = served
    return made, frozenset(closed)


def places(found: Mapping[str, Served]) -> dict[str, Place]:
    """Where the converter reaches each service, by its Envoy HTTP cluster."""
    return {
        cluster_name(name, "http"): Place(f"http{'s' if each.tls else ''}://{each.http}{each.path}", each.authorization)
        for name, each in found.items()
    }


def policies(found: Mapping[Key, Body], usual: Policy) -> dict[str, Policy]:
    """Policies by namespace, from the tenants' ConfigMaps. An invalid ConfigMap allows nobody."""
    made = {}
    for (_, name), body in found.items():
        if name.startswith(tenant_settings.PREFIX):
            data = body.get("data") or {}
            made[name.removeprefix(tenant_settings.PREFIX)] = _policy(data, usual)
    return made


def _policy(data: Mapping[str, str], usual: Policy) -> Policy:
    if tenant_settings.problem(data) is not None:
        return Policy()
    access = data.get("gatewayAccess") or usual.access
    entitlements = tuple((data.get("gatewayEntitlements") or "").replace(",", " ").split()) or usual.entitlements
    return Policy(access, entitlements)


def _endpoints(body: Body) -> Mapping[str, Any]:
    status = body.get("status")
    endpoints = status.get("endpoints") if isinstance(status, Mapping) else None
    return endpoints if isinstance(endpoints, Mapping) else {}


def _served(name: str, endpoints: Mapping[str, Any]) -> Served | None:
    try:
        parts = urlsplit(endpoints["http"])
        http = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        host, _, port = str(endpoints["grpc"]).rpartition(":")
        if parts.scheme not in _PORTS or not parts.hostname or not host or not 0 < int(port) < 65536:
            return None
        return Served(name, http, f"{host}:{int(port)}", tls=parts.scheme == "https")
    except (KeyError, TypeError, ValueError):
        return None


def _behind_login(name: str, url: str, login: ServiceLogin | None) -> Served | None:
    """A service that has HTTP alone and asks for a login. The login is sent only to the address that it was written for."""
    if login is None or login.url != url:
        return None
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    http = f"{host}:{parts.port or _PORTS[parts.scheme]}"
    return Served(name, http, "", tls=parts.scheme == "https", path=login.path, authorization=login.authorization)


def _login(secret: Body | None, name: str) -> ServiceLogin | None:
    data = (secret or {}).get("data")
    try:
        text = (
            base64.b64decode(str(data[service_logins.key(name)]), validate=True).decode()
            if isinstance(data, Mapping)
            else ""
        )
    except (KeyError, ValueError):
        return None
    return service_logins.read(text)
