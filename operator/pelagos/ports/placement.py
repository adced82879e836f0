"""Where on a cluster pods run, and with which resources. Part of requests to pipelines and serving; ignored on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GPU_RESOURCE = "nvidia.com/gpu"
GPU_PRODUCT_LABEL = "nvidia.com/gpu.product"
"""The node label that NVIDIA's GPU feature discovery sets."""


@dataclass(frozen=True)
class Toleration:
    """A toleration as in Kubernetes; empty fields are left out there."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True)
class Placement:
    """The requests of the pods of a run or a service. ``memory`` is a Kubernetes quantity; empty means the engine's default."""

    memory: str = ""
    gpus: int = 0
    gpu_product: str = ""
    """The required value of the node label ``nvidia.com/gpu.product``; empty: any."""
    shared_memory: str = ""
    """The size of /dev/shm, as a Kubernetes quantity; empty: the container runtime's default."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    queue: str = ""
    """The Kueue LocalQueue; empty: none."""
    millicores: int = 0
    """Requested thousandths of a core; 0: one whole core for each thread."""
    millicores_limit: int = 0
    """The most thousandths of a core that may be used; 0: one whole core for each thread."""
    memory_limit: str = ""
    """The most memory that may be used, as a Kubernetes quantity; empty: as much as ``memory``."""


def processors(placement: Placement, cores: int, copies: int = 1) -> tuple[str, str]:
    """The processor request and limit of ``copies`` processes with ``cores`` threads each, as Kubernetes quantities."""
    bounds = (placement.millicores or cores * 1000, placement.millicores_limit or cores * 1000)
    request, limit = (
        f"{bound * copies}m" if bound * copies % 1000 else str(bound * copies // 1000) for bound in bounds
    )
    return request, limit


def tolerated(placement: Placement, gpus: int) -> tuple[Toleration, ...]:
    """The tolerations of a pod that uses ``gpus`` GPUs: those of the placement and, if it uses any, of the taint of GPU nodes."""
    wanted = placement.tolerations
    if gpus and not any(each.key in ("", GPU_RESOURCE) for each in wanted):
        return (*wanted, Toleration(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule"))
    return wanted
