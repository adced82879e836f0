"""Conventions of namespaces in memory. For tests of reconcilers."""

from __future__ import annotations

from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tenants import Tenant


class TenantsFake:
    """Implements Tenants over ``known``, by namespace. ``refused`` holds messages of namespaces whose ConfigMap is wrong."""

    def __init__(self) -> None:
        self.outage = False
        self.known: dict[str, Tenant] = {}
        self.refused: dict[str, str] = {}

    async def find(self, namespace: str) -> Tenant:
        """The conventions of a namespace."""
        if self.outage:
            raise OutageError("kubernetes", "the API server does not answer")
        if namespace in self.refused:
            raise RejectedError("pelagos-config", self.refused[namespace])
        return self.known.get(namespace, Tenant())
