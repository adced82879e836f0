"""Turns the resources in a spec into a placement on a cluster. Shared by the kinds; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.api import processors
from pelagos.ports.placement import Placement, Toleration

if TYPE_CHECKING:
    from pelagos.api.meta import PlacementSpec


def threads(spec: PlacementSpec) -> int:
    """The number of threads: the processor cores that ``spec`` may use, rounded up."""
    _, limit = processors.bounds(spec)
    return -(-limit // 1000)


def place(spec: PlacementSpec, queue: str = "") -> Placement:
    """The placement that ``spec`` asks for, in ``queue`` if it names none."""
    request, limit = processors.bounds(spec)
    # Whole cores without a separate limit are expressed by the number of threads alone, as in the first releases.
    is_plain = request == limit == 1000 * threads(spec)
    return Placement(
        memory=spec.memory or "",
        gpus=getattr(spec, "gpus", 0),
        gpu_product=getattr(spec, "gpu_product", None) or "",
        shared_memory=getattr(spec, "shared_memory", None) or "",
        node_selector=dict(spec.node_selector),
        tolerations=tuple(
            Toleration(each.key or "", each.operator, each.value or "", each.effect or "") for each in spec.tolerations
        ),
        queue=getattr(spec, "queue", None) or queue,
        millicores=0 if is_plain else request,
        millicores_limit=0 if is_plain else limit,
        memory_limit=(spec.limits.memory if spec.limits is not None else None) or "",
    )
