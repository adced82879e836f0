"""The descriptor of KServe; see engines/descriptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.api.permissions import APPLY, LEFT, PODS, Permission, Where
from pelagos.engines.descriptors import Descriptor, EngineContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pelagos.engines.diagnosis import DoctorContext, Finding
    from pelagos.engines.kserve.engine import Kserve
    from pelagos.settings import Settings

RIGHTS = (
    Permission("serving.kserve.io", ("inferenceservices",), APPLY, "Serve models by KServe."),
    Permission(
        "serving.kserve.io",
        ("servingruntimes",),
        ("get",),
        "Check whether the namespace has our runtime.",
        names=("pelagos-triton",),
    ),
    Permission(
        "serving.kserve.io",
        ("clusterservingruntimes",),
        ("get",),
        "Check whether all namespaces have our runtime.",
        where=Where.CLUSTER,
        names=("pelagos-triton",),
    ),
    Permission(
        "serving.kserve.io",
        ("clusterstoragecontainers",),
        ("get",),
        "Check whether KServe's storage initializer may run in restricted namespaces.",
        where=Where.CLUSTER,
        names=("pelagos",),
    ),
    Permission("", ("services",), ("get",), "Learn the address of model servers."),
    Permission("", ("pods",), PODS, "Report why a model server does not start, and restart it."),
    Permission("networking.k8s.io", ("networkpolicies",), APPLY, "Close model servers to strangers."),
    Permission("apps", ("deployments",), LEFT, "Take over from the engine deployment."),
    Permission("", ("services",), LEFT, "Likewise."),
    Permission("autoscaling", ("horizontalpodautoscalers",), LEFT, "Likewise."),
    Permission("policy", ("poddisruptionbudgets",), LEFT, "Likewise."),
)


def _make(context: EngineContext) -> Kserve:
    from pelagos.engines.kserve.engine import Kserve
    from pelagos.engines.kubernetes.objects import KubernetesObjects

    return Kserve.from_settings(context.settings, KubernetesObjects(context.api), context.objects, context.namespace_of)


def _contradiction(settings: Settings, _on_cluster: bool) -> str | None:
    if settings.objects_uri or settings.objects_claim:
        return None
    return (
        "PELAGOS_SERVING_ENGINE is kserve: KServe fetches models by itself, so they must be in object storage "
        "(PELAGOS_OBJECTS_URI=s3://bucket/prefix) or on a claim (PELAGOS_OBJECTS_CLAIM)"
    )


async def _diagnose(context: DoctorContext) -> Iterable[Finding]:
    from pelagos.engines.kserve import diagnosis

    return await diagnosis.look(context)


DESCRIPTOR = Descriptor(
    name="kserve",
    system="kserve",
    summary="InferenceServices of an installed KServe",
    make=_make,
    contradiction=_contradiction,
    rights=RIGHTS,
    diagnose=_diagnose,
)
