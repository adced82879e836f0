"""Tenant settings in memory. For tests of reconcilers."""

from __future__ import annotations

from pelagos.api import reasons, tenancy, tenant_settings
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tenants import SYSTEM, Tenant


class TenantsFake:
    """Implements Tenants over ``known``, by namespace. ``refused`` has messages, by namespace, for settings that are unusable.

    In ``unbound`` namespaces the operator has no rights. With ``apart``, conflicting prefixes are refused.
    """

    def __init__(self) -> None:
        self.outage = False
        self.apart = False
        self.known: dict[str, Tenant] = {}
        self.refused: dict[str, str] = {}
        self.unbound: set[str] = set()

    async def find(self, namespace: str) -> Tenant:
        """The tenant settings of a namespace; the defaults when it has none."""
        if self.outage:
            raise OutageError(SYSTEM, "the API server does not answer")
        if namespace in self.unbound:
            raise RejectedError(
                SYSTEM,
                f"the operator has no rights in the namespace {namespace}",
                reason=reasons.NAMESPACE_NOT_ADMITTED,
            )
        if namespace in self.refused:
            raise RejectedError(SYSTEM, self.refused[namespace], reason=reasons.TENANT_REFUSED)
        if self.apart:
            problem = tenancy.conflict(namespace, {each: _given(tenant) for each, tenant in self.known.items()})
            if problem:
                where = f"ConfigMap {tenant_settings.name_of(namespace)}"
                raise RejectedError(SYSTEM, f"{where}: {problem}", reason=reasons.TENANT_REFUSED)
        return self.known.get(namespace, Tenant())


def _given(tenant: Tenant) -> dict[str, str]:
    return {
        "storagePrefix": tenant.storage_prefix,
        "experimentPrefix": tenant.experiment_prefix,
        "sharedWith": ",".join(tenant.shared_with),
    }
