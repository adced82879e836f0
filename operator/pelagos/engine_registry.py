"""The engines there are, a line for each. Everything that goes by their names follows from here; nothing compares them.

From their descriptors follow the values of the settings, what the factory makes, what contradicts, the operator's roles, the
values of the chart, and names in metrics. An engine of others is added by ``including``, by whoever starts the operator.
"""

from __future__ import annotations

from pelagos.api import permissions
from pelagos.api.permissions import Permission
from pelagos.engines.deployment import descriptor as deployment
from pelagos.engines.descriptors import Descriptor, Registry
from pelagos.engines.kfp_local import descriptor as kfp_local
from pelagos.engines.kserve import descriptor as kserve
from pelagos.engines.kubeflow import descriptor as kubeflow
from pelagos.engines.triton_local import descriptor as triton_local
from pelagos.settings import Settings

PIPELINES = Registry("PELAGOS_PIPELINES_ENGINE", (kfp_local.DESCRIPTOR, kubeflow.DESCRIPTOR))
SERVING = Registry("PELAGOS_SERVING_ENGINE", (triton_local.DESCRIPTOR, kserve.DESCRIPTOR, deployment.DESCRIPTOR))


def chosen(settings: Settings) -> tuple[Descriptor, Descriptor]:
    """The engines for pipelines and serving that settings name. ValueError for a name that there is not."""
    return PIPELINES.get(settings.pipelines_engine), SERVING.get(settings.serving_engine)


def rights() -> tuple[Permission, ...]:
    """All that the operator may need, with whatever engines."""
    engines = (*SERVING.engines, *PIPELINES.engines)
    return (*permissions.PERMISSIONS, *(right for engine in engines for right in engine.rights))


def is_on_cluster(settings: Settings) -> bool:
    """Whether anything runs elsewhere than on this machine."""
    return any(engine.is_elsewhere for engine in chosen(settings))
