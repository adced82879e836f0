"""All engines, trackers and stores, one line for each. No other code compares their names.

Everything else follows from their descriptors: the values of settings, the choices of the factory, contradictions, the operator's
roles, the values of the chart, the checks of `pelagos doctor`, and names in metrics. Third-party ones are added by ``register``,
which a module in PELAGOS_EXTENSIONS calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pelagos.api import permissions
from pelagos.api.permissions import Permission
from pelagos.engines.deployment import descriptor as deployment
from pelagos.engines.descriptors import Descriptor, EngineContext, Registry
from pelagos.engines.folders import descriptor as folders
from pelagos.engines.kfp_local import descriptor as kfp_local
from pelagos.engines.kserve import descriptor as kserve
from pelagos.engines.kubeflow import descriptor as kubeflow
from pelagos.engines.mlflow import descriptor as mlflow
from pelagos.engines.oscar import descriptor as oscar
from pelagos.engines.s3 import descriptor as s3
from pelagos.engines.triton_local import descriptor as triton_local
from pelagos.ports.objects import Objects
from pelagos.settings import Settings

PIPELINES = Registry("PELAGOS_PIPELINES_ENGINE", (kfp_local.DESCRIPTOR, kubeflow.DESCRIPTOR))
SERVING = Registry(
    "PELAGOS_SERVING_ENGINE", (triton_local.DESCRIPTOR, kserve.DESCRIPTOR, deployment.DESCRIPTOR, oscar.DESCRIPTOR)
)
TRACKERS = Registry("PELAGOS_TRACKER", (mlflow.DESCRIPTOR,))
OBJECTS = Registry("PELAGOS_OBJECTS_URI", (folders.OBJECTS, s3.OBJECTS))
VOLUMES = Registry("PELAGOS_DATA_URI", (folders.VOLUMES, s3.VOLUMES))


class Chosen(NamedTuple):
    """The descriptors behind each port."""

    pipelines: Descriptor[EngineContext]
    serving: Descriptor[EngineContext]
    tracking: Descriptor[EngineContext]
    objects: Descriptor[Settings]
    volumes: Descriptor[Settings]

    @property
    def systems(self) -> dict[str, str]:
        """The name in metrics of the system behind each port; a port that is missing here is not measured."""
        named: dict[str, Descriptor[Any]] = self._asdict()
        systems = {port: descriptor.system for port, descriptor in named.items()}
        return {"cluster": "kubernetes", "registry": self.tracking.system, **systems}


def chosen(settings: Settings) -> Chosen:
    """The descriptors that settings name. Raises ValueError for an unknown name."""
    return Chosen(
        pipelines=PIPELINES.get(settings.pipelines_engine),
        serving=SERVING.get(settings.serving_engine),
        tracking=TRACKERS.get(settings.tracker),
        objects=OBJECTS.by_uri(settings.objects_uri),
        volumes=VOLUMES.by_uri(settings.data_uri),
    )


def objects_at(uri: str, settings: Settings) -> Objects:
    """The store below ``uri``, which has a scheme or is the path of a folder. Raises ValueError for an unknown scheme."""
    place = {"objects_uri": uri} if "://" in uri else {"objects_uri": "", "objects_root": Path(uri)}
    there = settings.model_copy(update=place)
    found: Objects = OBJECTS.by_uri(there.objects_uri).make(there)
    return found


def contradiction(settings: Settings) -> str | None:
    """The first setting that a chosen engine cannot work with, and what to change. Raises ValueError as ``chosen`` does."""
    on_cluster = is_on_cluster(settings)
    found = (descriptor.contradiction(settings, on_cluster) for descriptor in chosen(settings))
    return next(filter(None, found), None)


def rights() -> tuple[Permission, ...]:
    """All rights that the operator may need with any engines."""
    engines = (*SERVING.engines, *PIPELINES.engines)
    return (*permissions.PERMISSIONS, *(right for engine in engines for right in engine.rights))


def is_on_cluster(settings: Settings) -> bool:
    """Whether pipelines or model servers run outside this machine."""
    engines = PIPELINES.get(settings.pipelines_engine), SERVING.get(settings.serving_engine)
    return any(engine.is_elsewhere for engine in engines)
