"""What a tenant may ask for. Pure; shared by the kinds that use GPUs."""

from __future__ import annotations

from pelagos.ports.tenants import Tenant


def exceeded(gpus: int, tenant: Tenant) -> str | None:
    """In words, that a resource asks for more GPUs than its namespace allows; None when it does not."""
    if tenant.max_gpus is None or gpus <= tenant.max_gpus:
        return None
    return (
        f"spec.resources.gpus is {gpus}, and the namespace allows at most {tenant.max_gpus} for one resource "
        "(maxGpus in its ConfigMap pelagos-config). Ask for fewer, or have the limit raised"
    )
