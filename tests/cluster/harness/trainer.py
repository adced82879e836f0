"""What a pod needs to run pipeline code in the trainer's image without its environment (target `runtime`).

The environment `pipelines` has several gigabytes, because PyTorch comes with CUDA; copying it into an image takes minutes
and the space twice. Pods mount that of this machine instead, and this tree, read-only, at the very paths they have here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.harness import machine

if TYPE_CHECKING:
    from pathlib import Path

_PATHS = {
    "environment": machine.ENVIRONMENTS / "pipelines" / "lib" / "python3.11" / "site-packages",
    "code": machine.ROOT / "pipelines",
}


def variables() -> list[dict[str, str]]:
    """`env` of the container."""
    return [{"name": "PYTHONPATH", "value": ":".join(str(path) for path in _PATHS.values())}]


def mounts() -> list[dict[str, Any]]:
    """`volumeMounts` of the container."""
    return [{"name": name, "mountPath": str(path), "readOnly": True} for name, path in _PATHS.items()]


def volumes() -> list[dict[str, Any]]:
    """`volumes` of the pod."""
    return [
        {"name": name, "hostPath": {"path": str(_resolved(path)), "type": "Directory"}} for name, path in _PATHS.items()
    ]


def _resolved(path: Path) -> Path:
    return path.resolve(strict=True)
