"""From the resources in a spec to a placement on a cluster. Shared by the kinds; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.ports.placement import Placement, Toleration

if TYPE_CHECKING:
    from pelagos.api.meta import PlacementSpec


def place(spec: PlacementSpec, queue: str = "") -> Placement:
    """The placement that ``spec`` asks for; ``queue`` is used when it names none."""
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
    )
