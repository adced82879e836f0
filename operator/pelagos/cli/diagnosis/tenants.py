"""Each namespace that holds resources: conventions, and whether everything that they name is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pelagos.api import conventions, kinds, meta
from pelagos.cli.diagnosis.findings import Finding, Patient, Section, failure, hidden, items, note, ok, warning
from pelagos.engines.kubernetes_rest import KubernetesRest
from pelagos.engines.kubernetes_tenants import KubernetesTenants, Place
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import CA_KEY, NOT_ADMITTED, Tenant

MOST = 20
"""Namespaces that are looked at; more are counted."""
_TRACKING_KEYS = ({"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}, {"MLFLOW_TRACKING_TOKEN"})
_OBJECTS_KEYS = ({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},)


async def namespaces(api: KubernetesRest, only: str | None) -> tuple[str, ...]:
    """Namespaces that hold resources of ours, as far as we may see."""
    if only:
        return (only,)
    found: set[str] = set()
    for kind in kinds.KINDS:
        answer = await api.get(f"/apis/{meta.API_VERSION}/{kind.plural}?limit=2000")
        found |= {str(item["metadata"]["namespace"]) for item in items(answer) if isinstance(item["metadata"], dict)}
    return tuple(sorted(found))


async def look(patient: Patient) -> Iterable[Finding]:
    """All of them."""
    if not patient.tenants:
        return [note("namespaces", "none holds resources yet")]
    findings: list[Finding] = []
    for namespace in patient.tenants[:MOST]:
        findings += await _tenant(patient, namespace)
    if len(patient.tenants) > MOST:
        findings.append(
            note("namespaces", f"{len(patient.tenants) - MOST} more were not looked at", "Name one: --namespace")
        )
    return findings


async def _tenant(patient: Patient, namespace: str) -> list[Finding]:
    if not patient.on_cluster:
        return [ok(namespace, "its resources run on this machine")]
    given = patient.settings
    usual = Tenant(
        tracking_secret=given.tracking_secret,
        objects_secret=given.objects_secret,
        data_claim=given.data_claim,
        objects_claim=given.objects_claim,
        ca_config_map=given.ca_config_map,
    )
    try:
        tenant = await KubernetesTenants(patient.api, usual, Place(patient.home, given.namespace or "")).find(namespace)
    except RejectedError as error:
        return [failure(namespace, str(error), _remedy(patient, namespace, error))]
    found = [
        await _pod_security(patient, namespace),
        await _secret(patient, namespace, tenant.tracking_secret, _TRACKING_KEYS),
        await _secret(patient, namespace, tenant.objects_secret, _OBJECTS_KEYS),
        *[await _secret(patient, namespace, name, ()) for name in tenant.image_pull_secrets],
        *[await _claim(patient, namespace, name) for name in dict.fromkeys((tenant.data_claim, tenant.objects_claim))],
        *[
            await _exists(patient, namespace, "ServiceAccount", "/api/v1", "serviceaccounts", name)
            for name in dict.fromkeys((tenant.service_account, tenant.pipeline_service_account))
        ],
        await _authorities(patient, namespace, tenant.ca_config_map),
        await _queue(patient, namespace, tenant.queue),
    ]
    told = [finding for finding in found if finding is not None]
    return told or [ok(namespace, "its conventions hold")]


def _remedy(patient: Patient, namespace: str, error: RejectedError) -> str:
    if error.reason == NOT_ADMITTED:
        return "Follow the message, or move the resources to a namespace that is a tenant."
    if f"the ConfigMap {conventions.RETIRED} " in str(error):
        return f"kubectl -n {namespace} get configmap {conventions.RETIRED} -o yaml"
    return f"kubectl -n {patient.home} edit configmap {conventions.name_of(namespace)}"


async def _pod_security(patient: Patient, namespace: str) -> Finding | None:
    answer = await patient.api.get(f"/api/v1/namespaces/{namespace}")
    if answer.status != 200:
        return hidden(namespace, answer)
    labels = answer.body["metadata"].get("labels") or {}
    level = labels.get("pod-security.kubernetes.io/enforce")
    if level == "restricted":
        return ok(namespace, "admits restricted pods only, as ours are")
    return warning(
        namespace,
        f"admits pods of level {level or 'privileged'}; ours need no more than restricted",
        f"kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=restricted",
    )


async def _secret(patient: Patient, namespace: str, name: str, alternatives: tuple[set[str], ...]) -> Finding | None:
    if not name:
        return None
    answer = await patient.api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if answer.status == 404:
        return failure(
            namespace, f"the Secret {name} does not exist", f"kubectl -n {namespace} create secret generic {name} ..."
        )
    if answer.status != 200:
        return hidden(namespace, answer)
    keys = set(answer.body.get("data") or {})
    if alternatives and not any(wanted <= keys for wanted in alternatives):
        wanted = " or ".join(", ".join(sorted(each)) for each in alternatives)
        return failure(
            namespace, f"the Secret {name} has the keys {', '.join(sorted(keys)) or 'none'}", f"Put in {wanted}."
        )
    return ok(namespace, f"Secret {name}")


async def _claim(patient: Patient, namespace: str, name: str) -> Finding | None:
    if not name:
        return None
    answer = await patient.api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
    if answer.status == 404:
        return failure(
            namespace, f"the PersistentVolumeClaim {name} does not exist", "kubectl apply one with ReadWriteMany."
        )
    if answer.status != 200:
        return hidden(namespace, answer)
    phase, modes = _claim_status(answer.body)
    if phase != "Bound":
        remedy = f"kubectl -n {namespace} describe pvc {name}"
        return failure(namespace, f"the PersistentVolumeClaim {name} is {phase}, not Bound", remedy)
    if not {"ReadWriteMany", "ReadOnlyMany"} & set(modes):
        message = f"the PersistentVolumeClaim {name} is {', '.join(modes)}: pods on other nodes than the first cannot mount it"
        return warning(namespace, message, "Use a StorageClass with ReadWriteMany.")
    return ok(namespace, f"PersistentVolumeClaim {name} ({', '.join(modes)})")


def _claim_status(body: Mapping[str, Any]) -> tuple[str, list[str]]:
    status, spec = body.get("status") or {}, body.get("spec") or {}
    return str(status.get("phase", "Pending")), list(status.get("accessModes") or spec.get("accessModes") or ())


async def _exists(patient: Patient, namespace: str, kind: str, root: str, plural: str, name: str) -> Finding | None:
    if not name:
        return None
    answer = await patient.api.get(f"{root}/namespaces/{namespace}/{plural}/{name}")
    if answer.status == 200:
        return ok(namespace, f"{kind} {name}")
    if answer.status == 404:
        return failure(
            namespace, f"the {kind} {name} does not exist", f"Create it, or correct {conventions.name_of(namespace)}."
        )
    return hidden(namespace, answer)


async def _authorities(patient: Patient, namespace: str, name: str) -> Finding | None:
    if not name:
        return None
    answer = await patient.api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    if answer.status not in (200, 404):
        return hidden(namespace, answer)
    if CA_KEY in (answer.body.get("data") or {}):
        return ok(namespace, f"ConfigMap {name} ({CA_KEY})")
    found = "does not exist" if answer.status == 404 else f"has no key {CA_KEY}"
    remedy = f"kubectl -n {namespace} create configmap {name} --from-file={CA_KEY}=..."
    return failure(namespace, f"the ConfigMap {name} {found}: pods that need its certificate authorities fail", remedy)


async def _queue(patient: Patient, namespace: str, name: str) -> Finding | None:
    if not name:
        return None
    group = await patient.api.get("/apis/kueue.x-k8s.io")
    if group.status == 404:
        return failure(
            namespace, f"the queue {name} is named, and Kueue is not installed", "Install Kueue, or name no queue."
        )
    version = str(group.body.get("preferredVersion", {}).get("version", "v1beta1"))
    return await _exists(patient, namespace, "LocalQueue", f"/apis/kueue.x-k8s.io/{version}", "localqueues", name)


SECTION = Section("Tenants", (("namespaces", look),))
