"""Where on a cluster pods may run, and what they may use. For requests of pipelines and of serving; ignored on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GPU_RESOURCE = "nvidia.com/gpu"
GPU_PRODUCT_LABEL = "nvidia.com/gpu.product"
"""Node label that NVIDIA's GPU feature discovery writes."""


@dataclass(frozen=True)
class Toleration:
    """As in Kubernetes; empty fields are absent."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True)
class Placement:
    """``memory`` and ``shared_memory`` are Kubernetes quantities, empty: the engine's default."""

    memory: str = ""
    gpus: int = 0
    gpu_product: str = ""
    """Value of the node label ``nvidia.com/gpu.product``; empty: any."""
    shared_memory: str = ""
    """Size of /dev/shm; empty: the container runtime's default."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    queue: str = ""
    """Kueue LocalQueue; empty: none."""
    millicores: int = 0
    """Thousandths of a core that are requested; 0: whole cores, as many as there are threads."""
    millicores_limit: int = 0
    """Thousandths of a core that may be used, likewise."""
    memory_limit: str = ""
    """A quantity; empty: as ``memory`` says."""


def processors(placement: Placement, cores: int, copies: int = 1) -> tuple[str, str]:
    """Request and limit of ``copies`` that have ``cores`` threads each, as quantities of Kubernetes."""
    bounds = (placement.millicores or cores * 1000, placement.millicores_limit or cores * 1000)
    request, limit = (
        f"{bound * copies}m" if bound * copies % 1000 else str(bound * copies // 1000) for bound in bounds
    )
    return request, limit


def tolerated(placement: Placement, gpus: int) -> tuple[Toleration, ...]:
    """Tolerations of a pod: those of the placement, and of nodes that are kept for GPUs when it uses ``gpus`` of them."""
    wanted = placement.tolerations
    if gpus and not any(each.key in ("", GPU_RESOURCE) for each in wanted):
        return (*wanted, Toleration(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule"))
    return wanted
