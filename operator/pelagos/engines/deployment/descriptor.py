"""The descriptor of plain Deployments of Triton; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.api.permissions import APPLY, LEFT, PODS, Permission
from pelagos.engines.descriptors import Descriptor, EngineContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.deployment.engine import TritonDeployment
    from pelagos.engines.diagnosis import DoctorContext, Finding

RIGHTS = (
    Permission("apps", ("deployments",), APPLY, "Serve models by plain Deployments."),
    Permission("", ("services",), APPLY, "Give model servers an address."),
    Permission("autoscaling", ("horizontalpodautoscalers",), APPLY, "Scale model servers."),
    Permission(
        "policy",
        ("poddisruptionbudgets",),
        APPLY,
        "Keep a replica while nodes are drained.",
    ),
    Permission(
        "networking.k8s.io",
        ("networkpolicies",),
        APPLY,
        "Close model servers to strangers.",
    ),
    Permission("", ("pods",), PODS, "Report why a model server does not start, and restart it."),
    Permission("serving.kserve.io", ("inferenceservices",), LEFT, "Take over from the engine kserve."),
)


def _make(context: EngineContext) -> TritonDeployment:
    from pelagos.engines.deployment.engine import TritonDeployment
    from pelagos.engines.kubernetes.objects import KubernetesObjects

    return TritonDeployment.from_settings(
        context.settings, KubernetesObjects(context.api), context.objects, context.namespace_of
    )


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.deployment import diagnosis

    return await diagnosis.look(context)


DESCRIPTOR = Descriptor(
    name="deployment",
    system="deployment",
    summary="plain Deployments of Triton",
    make=_make,
    rights=RIGHTS,
    diagnose=_diagnose,
)
