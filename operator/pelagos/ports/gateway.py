"""Where people reach model servers: the gateway before them all, as settings tell it. A value; the gateway is never called."""

from __future__ import annotations

from dataclasses import dataclass

NAMESPACE = "{namespace}"
"""In an address: stands for the namespace of the service that is asked for."""


@dataclass(frozen=True)
class Gateway:
    """Addresses of a gateway; empty ones: it does not speak that."""

    http: str = ""
    """URL without a slash at its end."""
    grpc: str = ""
    """host:port."""

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return bool(self.http or self.grpc)

    def http_of(self, namespace: str, service: str) -> str | None:
        """Base of the KServe v2 paths of a service."""
        base = self.http.replace(NAMESPACE, namespace).rstrip("/")
        return f"{base}/{namespace}/{service}" if base else None

    def grpc_of(self, namespace: str) -> str | None:
        """host:port of the services of a namespace."""
        return self.grpc.replace(NAMESPACE, namespace) or None
