"""Which services exist and who may call them. Pure functions of API objects; read by ``judging``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pelagos.api import tenant_settings
from pelagos.engines.envoy.shared import Served, cluster_name

NOBODY, AUTHENTICATED, ENTITLED = "Nobody", "Authenticated", "Entitled"
_PORTS = {"http": 80, "https": 443}

Key = tuple[str, str]
Body = Mapping[str, Any]


@dataclass(frozen=True)
class Policy:
    """Who may call the services of a namespace without a trial: Nobody, Authenticated, or Entitled by one of ``entitlements``."""

    access: str = NOBODY
    entitlements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Services by ``namespace/name``, and policies by namespace; ``usual`` holds for all other namespaces."""

    services: Mapping[str, Served] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)
    usual: Policy = Policy()

    def policy(self, service: str) -> Policy:
        """The policy of the service's namespace."""
        return self.policies.get(service.partition("/")[0], self.usual)


def services(found: Mapping[Key, Body]) -> dict[str, Served]:
    """The services that have valid addresses, by ``namespace/name``; others are left out."""
    made = (_served(f"{namespace}/{name}", body) for (namespace, name), body in sorted(found.items()))
    return {each.name: each for each in made if each is not None}


def addresses(found: Mapping[str, Served]) -> dict[str, str]:
    """The URL of each service by its Envoy HTTP cluster, for the converter: ``http://host:port`` or ``https://host:port``."""
    return {cluster_name(name, "http"): f"http{'s' if each.tls else ''}://{each.http}" for name, each in found.items()}


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


def _served(name: str, body: Body) -> Served | None:
    try:
        endpoints = body["status"]["endpoints"]
        parts = urlsplit(endpoints["http"])
        http = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        host, _, port = str(endpoints["grpc"]).rpartition(":")
        if parts.scheme not in _PORTS or not parts.hostname or not host or not 0 < int(port) < 65536:
            return None
        return Served(name, http, f"{host}:{int(port)}", tls=parts.scheme == "https")
    except (KeyError, TypeError, ValueError):
        return None
