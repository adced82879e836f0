"""The engines, trackers and stores there are, a line for each. All that goes by their names follows; nothing compares them.

From their descriptors follow the values of the settings, what the factory makes, what contradicts, the operator's roles, the
values of the chart, what `pelagos doctor` looks at, and names in metrics. One of others is added by ``including``, by whoever
starts the operator.
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
    """What stands behind each port."""

    pipelines: Descriptor[EngineContext]
    serving: Descriptor[EngineContext]
    tracking: Descriptor[EngineContext]
    objects: Descriptor[Settings]
    volumes: Descriptor[Settings]

    @property
    def systems(self) -> dict[str, str]:
        """What metrics call the system behind a port; a port that is missing here is not measured."""
        named: dict[str, Descriptor[Any]] = self._asdict()
        systems = {port: descriptor.system for port, descriptor in named.items()}
        return {"cluster": "kubernetes", "registry": self.tracking.system, **systems}


def chosen(settings: Settings) -> Chosen:
    """What settings name. ValueError for a name that there is not."""
    return Chosen(
        pipelines=PIPELINES.get(settings.pipelines_engine),
        serving=SERVING.get(settings.serving_engine),
        tracking=TRACKERS.get(settings.tracker),
        objects=OBJECTS.by_uri(settings.objects_uri),
        volumes=VOLUMES.by_uri(settings.data_uri),
    )


def objects_at(uri: str, settings: Settings) -> Objects:
    """The store below ``uri``, which has a scheme or is the path of a folder. ValueError for a scheme that there is not."""
    place = {"objects_uri": uri} if "://" in uri else {"objects_uri": "", "objects_root": Path(uri)}
    there = settings.model_copy(update=place)
    found: Objects = OBJECTS.by_uri(there.objects_uri).make(there)
    return found


def contradiction(settings: Settings) -> str | None:
    """The first setting with which something that is chosen cannot work, and what to change. ValueError as ``chosen``."""
    on_cluster = is_on_cluster(settings)
    found = (descriptor.contradiction(settings, on_cluster) for descriptor in chosen(settings))
    return next(filter(None, found), None)


def rights() -> tuple[Permission, ...]:
    """All that the operator may need, with whatever engines."""
    engines = (*SERVING.engines, *PIPELINES.engines)
    return (*permissions.PERMISSIONS, *(right for engine in engines for right in engine.rights))


def is_on_cluster(settings: Settings) -> bool:
    """Whether anything runs elsewhere than on this machine."""
    engines = PIPELINES.get(settings.pipelines_engine), SERVING.get(settings.serving_engine)
    return any(engine.is_elsewhere for engine in engines)
