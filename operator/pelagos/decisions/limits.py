"""What a tenant may ask for. Pure; shared by the kinds that use GPUs."""

from __future__ import annotations

from pelagos.ports.tenants import Tenant


def exceeded(gpus: int, tenant: Tenant, *, replicas: int = 1) -> str | None:
    """In words, that a resource asks for more GPUs, in all its replicas, than its namespace allows; None when it does not."""
    if tenant.max_gpus is None or gpus * replicas <= tenant.max_gpus:
        return None
    each = (
        f" for each of up to {replicas} replicas (spec.scaling.max), {gpus * replicas} in all" if replicas > 1 else ""
    )
    return (
        f"spec.resources.gpus is {gpus}{each}, and the namespace allows at most {tenant.max_gpus} for one resource "
        "(maxGpus in its ConfigMap pelagos-config). Ask for fewer, or have the limit raised"
    )
