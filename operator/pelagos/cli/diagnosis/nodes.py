"""Checks of the offers of a cluster: GPUs, storage classes, and third-party operators that ours can use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from pelagos import engine_registry
from pelagos.cli.diagnosis.sections import Section
from pelagos.engines.diagnosis import DoctorContext, Finding, hidden, items, note, ok, warning
from pelagos.ports.placement import GPU_PRODUCT_LABEL, GPU_RESOURCE

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


async def gpus(context: DoctorContext) -> Iterable[Finding]:
    """Report the number of GPUs, and their products."""
    if not engine_registry.is_on_cluster(context.settings):
        return []
    answer = await context.api.get("/api/v1/nodes?limit=2000")
    if answer.status != 200:
        return [hidden("GPUs", answer)]
    nodes = items(answer)
    count: Counter[str] = Counter()
    for node in nodes:
        number = int((node.get("status", {}).get("allocatable") or {}).get(GPU_RESOURCE, 0))
        if number:
            labels = node["metadata"].get("labels") or {}
            count[labels.get(GPU_PRODUCT_LABEL, "")] += number
    if not count:
        message = f"none of {len(nodes)} nodes offers {GPU_RESOURCE}: resources that ask for GPUs will wait"
        return [warning("GPUs", message, "Install NVIDIA's device plugin or GPU operator, or request no GPUs.")]
    if "" in count:
        message = f"{count['']} of {count.total()} GPUs are on nodes without the label {GPU_PRODUCT_LABEL}"
        return [warning("GPUs", message, "Install GPU feature discovery; without it gpuProduct finds no node.")]
    return [ok("GPUs", ", ".join(f"{number} {product}" for product, number in sorted(count.items())))]


async def storage_classes(context: DoctorContext) -> Iterable[Finding]:
    """Report the storage classes, from which claims are provisioned."""
    if not engine_registry.is_on_cluster(context.settings) or not (
        context.settings.data_claim or context.settings.objects_claim
    ):
        return []
    answer = await context.api.get("/apis/storage.k8s.io/v1/storageclasses")
    if answer.status != 200:
        return [hidden("storage classes", answer)]
    classes = [found["metadata"] for found in items(answer)]
    usual = [found["name"] for found in classes if (found.get("annotations") or {}).get(_DEFAULT_CLASS) == "true"]
    if not classes:
        return [
            warning(
                "storage classes", "there are none: claims must be bound manually", "Install a storage provisioner."
            )
        ]
    names = ", ".join(str(found["name"]) for found in classes)
    return [ok("storage classes", f"{names} (default: {', '.join(usual) or 'none'})")]


async def others(context: DoctorContext) -> Iterable[Finding]:
    """Report optional third-party operators."""
    if not engine_registry.is_on_cluster(context.settings):
        return []
    groups = {str(group.get("name")) for group in (await context.api.get("/apis")).body.get("groups", ())}
    findings = []
    for subject, group, use in (
        ("Kueue", "kueue.x-k8s.io", "trainings can wait in queues"),
        ("Prometheus operator", "monitoring.coreos.com", "manifests/overlays/monitoring can be applied"),
    ):
        there = group in groups
        findings.append(ok(subject, use) if there else note(subject, f"not installed ({group}); with it, {use}"))
    return findings


SECTION = Section("Cluster", (("GPUs", gpus), ("storage classes", storage_classes), ("others", others)))
