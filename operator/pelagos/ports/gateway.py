"""Where people reach model servers: the addresses of the gateway in front of them, from settings. It is never called."""

from __future__ import annotations

from dataclasses import dataclass

NAMESPACE = "{namespace}"
"""Placeholder in an address for the namespace of the service."""


@dataclass(frozen=True)
class Gateway:
    """Addresses of a gateway; empty for a protocol that it does not support."""

    http: str = ""
    """URL without a trailing slash."""
    grpc: str = ""
    """``host:port``."""

    @property
    def is_there(self) -> bool:
        """Whether there is a gateway."""
        return bool(self.http or self.grpc)

    def http_of(self, namespace: str, service: str) -> str | None:
        """The base URL of a service's KServe v2 paths; None without HTTP."""
        base = self.http.replace(NAMESPACE, namespace).rstrip("/")
        return f"{base}/{namespace}/{service}" if base else None

    def grpc_of(self, namespace: str) -> str | None:
        """``host:port`` for all services of a namespace; None without gRPC."""
        return self.grpc.replace(NAMESPACE, namespace) or None
