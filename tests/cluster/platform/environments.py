"""Python environments of this machine inside of pods, mounted read-only at their paths on this machine.

Copying them into images would take gigabytes and minutes. Used for everything except for the operator and the model servers,
whose images are really built. Pods mount them by claims, which Pod Security allows, that are bound to the administrator's
volumes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.harness import machine, pods
from cluster.harness.cluster import Cluster


@dataclass(frozen=True)
class Mounted:
    """Environments by name, and folders with code or data. Entries of ``code`` are added to Python's path."""

    environments: tuple[str, ...]
    code: tuple[Path, ...] = ()
    data: tuple[Path, ...] = ()

    def folders(self) -> list[Path]:
        """All folders, in the order of Python's path."""
        packages = [machine.ENVIRONMENTS / name / "lib/python3.11/site-packages" for name in self.environments]
        return [*self.code, *packages, *self.data]

    def variables(self) -> list[dict[str, str]]:
        """`env` of the container."""
        path = [folder for folder in self.folders() if folder not in self.data]
        return [{"name": "PYTHONPATH", "value": ":".join(map(str, path))}]

    def mounts(self) -> list[dict[str, Any]]:
        """`volumeMounts` of the container."""
        return [{"name": _claim(each), "mountPath": str(each), "readOnly": True} for each in self.folders()]

    def volumes(self) -> list[dict[str, Any]]:
        """`volumes` of a pod, in a namespace for which `bind` was called."""
        claims = [_claim(folder) for folder in self.folders()]
        return [{"name": each, "persistentVolumeClaim": {"claimName": each, "readOnly": True}} for each in claims]

    def bind(self, cluster: Cluster, namespace: str) -> Mounted:
        """Let pods of a namespace mount these folders."""
        cluster.bind_volumes({_claim(folder): folder for folder in self.folders()}, namespace)
        return self

    def as_extra(self) -> dict[str, Any]:
        """Fields to add to a pod that other code describes."""
        return {"env": self.variables(), "volumeMounts": self.mounts(), "volumes": self.volumes()}


def _claim(folder: Path) -> str:
    return f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


TRAINER = Mounted(("pipelines",), code=(machine.ROOT / "pipelines",))
"""What pipeline steps need in the trainer's image without its environment (target `runtime`).

The environment takes several gigabytes, because PyTorch comes with CUDA.
"""


def serve(
    cluster: Cluster, name: str, namespace: str, port: int, command: tuple[str, ...], mounted: Mounted, **variables: str
) -> None:
    """A Deployment and a Service that run Python ``command`` on the small Debian; returns when it listens."""
    mounted.bind(cluster, namespace)
    scratch = {"name": "scratch", "mountPath": "/tmp"}
    container = pods.container(
        cluster.images.base(),
        *("python3", *command),
        env=[
            *mounted.variables(),
            *({"name": key, "value": value} for key, value in {"HOME": "/tmp", **variables}.items()),
        ],
        volumeMounts=[*mounted.mounts(), scratch],
        readinessProbe={"tcpSocket": {"port": port}, "periodSeconds": 1},
    )
    spec = pods.spec(container, volumes=[*mounted.volumes(), {"name": "scratch", "emptyDir": {}}])
    cluster.apply(pods.deployment(name, namespace, spec), pods.service(name, namespace, port))
    cluster.wait_for("Available", f"deployment/{name}", namespace, seconds=240)
