"""The checks of ``pelagos doctor`` for KServe. Called through the descriptor."""

from __future__ import annotations

from collections.abc import Iterable

from pelagos.engines.diagnosis import DoctorContext, Finding, failure, hidden, note, ok, warning
from pelagos.engines.kserve.manifests import STORAGE_CONTAINER
from pelagos.engines.kubernetes import served_kinds
from pelagos.engines.model_server import diagnosis as model_servers

RUNTIME = "pelagos-triton"
WEBHOOKS = "inferenceservice.serving.kserve.io"
_MUTATING = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{WEBHOOKS}"
_FOR_PODS = "pod-mutator"


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check that KServe is installed, with its webhooks and our runtime, and that model servers reach their packages."""
    return [*await _kserve(context), *model_servers.network(context.settings)]


async def _kserve(context: DoctorContext) -> list[Finding]:
    group = await context.api.get("/apis/serving.kserve.io/v1beta1")
    if group.status != 200 or not any(
        kind.get("name") == "inferenceservices" for kind in group.body.get("resources", ())
    ):
        hint = "Install KServe, or set PELAGOS_SERVING_ENGINE=deployment, which needs nothing."
        return [failure("serving", "KServe is not installed: InferenceService (v1beta1) is not served", hint)]
    findings = [ok("serving", f"KServe {await _kserve_version(context)}"), await _webhook(context)]
    if context.settings.objects_uri:
        findings.append(await _storage_container(context))
    wide = await context.api.get(f"/apis/serving.kserve.io/v1alpha1/clusterservingruntimes/{RUNTIME}")
    if wide.status == 200:
        return [*findings, ok("runtime", f"ClusterServingRuntime {RUNTIME}")]
    for namespace in context.tenants:
        own = await context.api.get(
            f"/apis/serving.kserve.io/v1alpha1/namespaces/{namespace}/servingruntimes/{RUNTIME}"
        )
        if own.status == 404:
            hint = f"{served_kinds.APPLY} manifests/overlays/kserve"
            findings.append(failure("runtime", f"neither the cluster nor {namespace} has the runtime {RUNTIME}", hint))
        elif own.status == 200:
            findings.append(ok("runtime", f"ServingRuntime {namespace}/{RUNTIME}"))
        else:
            findings.append(hidden("runtime", own))
    if not context.tenants:
        findings.append(
            note("runtime", f"no ClusterServingRuntime {RUNTIME}", f"{served_kinds.APPLY} manifests/overlays/kserve")
        )
    return findings


async def _webhook(context: DoctorContext) -> Finding:
    """Check KServe's webhook for pods. Without it, pods get neither the container that fetches packages nor the claim's mount."""
    answer = await context.api.get(_MUTATING)
    if answer.status not in (200, 404):
        return hidden("webhooks", answer)
    if any(_FOR_PODS in str(each.get("name")) for each in answer.body.get("webhooks") or ()):
        return ok("webhooks", f"KServe's webhook adds packages to pods ({WEBHOOKS})")
    message = f"KServe's webhook for pods is missing: nothing adds packages to model servers ({WEBHOOKS})"
    return failure(
        "webhooks", message, "Install all of KServe: its MutatingWebhookConfiguration is part of its release."
    )


async def _storage_container(context: DoctorContext) -> Finding:
    """Check the storage container. Without it, namespaces that admit only restricted pods refuse KServe's storage initializer."""
    answer = await context.api.get(f"/apis/serving.kserve.io/v1alpha1/clusterstoragecontainers/{STORAGE_CONTAINER}")
    if answer.status == 200:
        return ok("storage", f"ClusterStorageContainer {STORAGE_CONTAINER}")
    if answer.status != 404:
        return hidden("storage", answer)
    message = f"no ClusterStorageContainer {STORAGE_CONTAINER}: namespaces that admit only restricted pods refuse model servers"
    return warning("storage", message, f"{served_kinds.APPLY} manifests/overlays/kserve")


async def _kserve_version(context: DoctorContext) -> str:
    found = await context.api.get("/apis/apps/v1/namespaces/kserve/deployments/kserve-controller-manager")
    containers = found.body.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    images = [str(container.get("image")) for container in containers]
    return next(
        (image.rsplit(":", 1)[1] for image in images if "kserve-controller" in image and ":" in image), "(v1beta1)"
    )
