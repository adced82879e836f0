"""Limits on the requests of a tenant. Pure; shared by the kinds that use GPUs, queues and priorities."""

from __future__ import annotations

from dataclasses import dataclass

from pelagos.api import reasons
from pelagos.api.reasons import Reason
from pelagos.ports.tenants import Tenant


@dataclass(frozen=True)
class Excess:
    """That a resource asks for more than its namespace may have."""

    reason: Reason
    message: str


def exceeded(
    gpus: int, queue: str | None, tenant: Tenant, *, priority: str | None = None, replicas: int = 1
) -> Excess | None:
    """The first limit of the namespace that is exceeded; None when none is.

    Limited are the GPUs of all replicas together, the queue, and the priority.
    """
    return _gpus(gpus, tenant, replicas) or _queue(queue, tenant) or _priority(priority, tenant)


def _gpus(gpus: int, tenant: Tenant, replicas: int) -> Excess | None:
    if tenant.max_gpus is None or gpus * replicas <= tenant.max_gpus:
        return None
    each = f" for each of up to {replicas} replicas (spec.scaling), {gpus * replicas} in all" if replicas > 1 else ""
    message = (
        f"spec.resources.gpus is {gpus}{each}, and the namespace allows at most {tenant.max_gpus} for one resource "
        "(maxGpus, which the platform sets). Ask for fewer, or have the limit raised"
    )
    return Excess(reasons.GPU_LIMIT_EXCEEDED, message)


def _queue(queue: str | None, tenant: Tenant) -> Excess | None:
    allowed = [name for name in (tenant.queue, *tenant.queues) if name]
    if not queue or not allowed or queue in allowed:
        return None
    message = (
        f"spec.resources.queue is {queue!r}, and the namespace may use {', '.join(allowed)} (queue and queues, which the "
        "platform sets). Name one of these, or have yours allowed"
    )
    return Excess(reasons.QUEUE_NOT_ALLOWED, message)


def _priority(priority: str | None, tenant: Tenant) -> Excess | None:
    allowed = [name for name in (tenant.priority, *tenant.priorities) if name]
    if not priority or tenant.any_priority or priority in allowed:
        return None
    change = "Name one of these, or none" if allowed else "Name none"
    message = (
        f"spec.priority is {priority!r}, and the namespace may use {', '.join(allowed) or 'no priority'} (priority and "
        f"priorities, which the platform sets). {change}, or have yours allowed"
    )
    return Excess(reasons.PRIORITY_NOT_ALLOWED, message)
