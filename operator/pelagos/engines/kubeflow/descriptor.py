"""The descriptor of Kubeflow Pipelines; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.api.permissions import Permission
from pelagos.engines.descriptors import Descriptor, EngineContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.kubeflow.engine import Kubeflow
    from pelagos.settings import Settings

GROUP = "pipelines.kubeflow.org"
RIGHTS = (
    Permission(
        GROUP,
        ("runs",),
        ("create", "get", "list", "terminate", "delete"),
        "Run pipelines in the namespaces of resources.",
    ),
    Permission(
        GROUP,
        ("experiments",),
        ("create", "get", "list", "delete"),
        "Keep the runs of a resource together.",
    ),
)
"""A multi-user server checks these rights at the API server; none of our own requests to the API server uses them."""


def _make(context: EngineContext) -> Kubeflow:
    from pelagos.engines.kubeflow import engine
    from pelagos.engines.kubeflow.step_secrets import StepSecrets

    secrets = StepSecrets(context.api, context.authority)
    return engine.from_settings(
        context.settings, context.flows, context.namespace_of, context.guard, secrets, context.api
    )


def _contradiction(settings: Settings, _on_cluster: bool) -> str | None:
    if settings.kubeflow_url:
        return None
    return (
        "PELAGOS_PIPELINES_ENGINE is kubeflow: PELAGOS_KUBEFLOW_URL must be the address of the Kubeflow Pipelines API, "
        "for example http://ml-pipeline.kubeflow:8888"
    )


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.kubeflow import diagnosis

    return await diagnosis.look(context)


DESCRIPTOR = Descriptor(
    name="kubeflow",
    system="kfp",
    summary="a Kubeflow Pipelines server",
    make=_make,
    contradiction=_contradiction,
    rights=RIGHTS,
    diagnose=_diagnose,
)
