"""Checks of each namespace with resources: its tenant settings, and whether everything that they name exists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from pelagos import engine_registry
from pelagos.api import kinds, meta, reasons, tenant_settings
from pelagos.cli.diagnosis.sections import Section
from pelagos.engines.diagnosis import DoctorContext, Finding, failure, hidden, items, note, ok, warning
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.kubernetes.tenants import KubernetesTenants, Place
from pelagos.ports.errors import RejectedError
from pelagos.ports.tenants import CA_KEY, Tenant
from pelagos_contract import source_hosts
from pelagos_contract.publication import TOKEN
from pelagos_contract.sources import SOURCES
from pelagos_contract.taxonomy import WORMS

MOST = 20
"""Most namespaces that are checked; more are only counted."""


async def namespaces(api: KubernetesRest, only: str | None) -> tuple[str, ...]:
    """The namespaces with our resources, as far as we may see."""
    if only:
        return (only,)
    found: set[str] = set()
    for kind in kinds.KINDS:
        answer = await api.get(f"/apis/{meta.API_VERSION}/{kind.plural}?limit=2000")
        found |= {str(item["metadata"]["namespace"]) for item in items(answer) if isinstance(item["metadata"], dict)}
    return tuple(sorted(found))


async def look(context: DoctorContext) -> Iterable[Finding]:
    """Check all tenants, at most MOST."""
    if not context.tenants:
        return [note("namespaces", "none holds resources yet")]
    findings: list[Finding] = []
    for namespace in context.tenants[:MOST]:
        findings += await _tenant(context, namespace)
    if len(context.tenants) > MOST:
        findings.append(
            note("namespaces", f"{len(context.tenants) - MOST} more were not checked", "Name one: --namespace")
        )
    return findings


async def _tenant(context: DoctorContext, namespace: str) -> list[Finding]:
    if not engine_registry.is_on_cluster(context.settings):
        fetched = await _sources(context, namespace, context.settings.source_hosts)
        return fetched or [ok(namespace, "its resources run on this machine")]
    given, chosen = context.settings, engine_registry.chosen(context.settings)
    usual = Tenant(
        tracking_secret=given.tracking_secret,
        objects_secret=given.objects_secret,
        data_claim=given.data_claim,
        objects_claim=given.objects_claim,
        ca_config_map=given.ca_config_map,
        source_hosts=given.source_hosts,
    )
    try:
        tenant = await KubernetesTenants(context.api, usual, Place(context.home, given.namespace or "")).find(namespace)
    except RejectedError as error:
        return [failure(namespace, str(error), _hint(context, namespace, error))]
    found = [
        await _pod_security(context, namespace),
        await _secret(context, namespace, tenant.tracking_secret, chosen.tracking.secrets),
        await _secret(context, namespace, tenant.objects_secret, chosen.objects.secrets or chosen.volumes.secrets),
        *[await _secret(context, namespace, name, ()) for name in tenant.image_pull_secrets],
        *[await _claim(context, namespace, name) for name in dict.fromkeys((tenant.data_claim, tenant.objects_claim))],
        *[
            await _exists(context, namespace, name, kind="ServiceAccount", root="/api/v1", plural="serviceaccounts")
            for name in dict.fromkeys((tenant.service_account, tenant.pipeline_service_account))
        ],
        await _authorities(context, namespace, tenant.ca_config_map),
        await _queue(context, namespace, tenant.queue),
        await _priorities(context, namespace, tenant),
        await _storage_initializer(context, namespace, tenant) if chosen.serving.name == "kserve" else None,
    ]
    told = [finding for finding in found if finding is not None]
    told += await _sources(context, namespace, tenant.source_hosts)
    return told or [ok(namespace, "its tenant settings are valid")]


def _hint(context: DoctorContext, namespace: str, error: RejectedError) -> str:
    if error.reason == reasons.NAMESPACE_NOT_ADMITTED:
        return "Follow the message, or move the resources to a namespace that is a tenant."
    if f"the ConfigMap {tenant_settings.RETIRED} " in str(error):
        return f"kubectl -n {namespace} get configmap {tenant_settings.RETIRED} -o yaml"
    return f"kubectl -n {context.home} edit configmap {tenant_settings.name_of(namespace)}"


async def _pod_security(context: DoctorContext, namespace: str) -> Finding | None:
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}")
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


async def _secret(
    context: DoctorContext, namespace: str, name: str, alternatives: tuple[frozenset[str], ...]
) -> Finding | None:
    if not name:
        return None
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
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


async def _sources(context: DoctorContext, namespace: str, hosts: str) -> list[Finding]:
    """Check from where the namespace's Datasets may be fetched, where they may be published, and the Secrets for both.

    Empty if no Dataset is fetched or published.
    """
    answer = await context.api.get(f"/apis/{meta.API_VERSION}/namespaces/{namespace}/{kinds.DATASET.plural}?limit=500")
    named, fetched, registers = dict[str, tuple[frozenset[str], ...]](), False, set[str]()
    for body in items(answer):
        spec = body.get("spec")
        registers |= _registers(spec)
        given = spec.get("source") if isinstance(spec, dict) else None
        for place in SOURCES if isinstance(given, dict) else ():
            fields = given.get(place.name) if isinstance(given, dict) else None
            if isinstance(fields, dict) and place.path is None:
                fetched = True
                reference = fields.get("secretRef")
                if isinstance(reference, dict):
                    named[str(reference.get("name"))] = tuple(map(frozenset, place.keys))
        reference = _publishing(spec)
        if reference is not None:
            fetched, name = True, str(reference.get("name"))
            # One Secret may be used for both; then it needs the keys of both.
            wanted = frozenset({str(reference.get("key") or TOKEN)})
            named[name] = tuple(each | wanted for each in named.get(name) or (frozenset(),))
    asked = [_register(namespace, url, hosts) for url in sorted(registers)]
    if not fetched:
        return asked
    beside = f", and from {hosts}" if hosts else " alone"
    found = [ok(namespace, f"sources and repositories are at public addresses over https{beside} (sourceHosts)")]
    secrets = [await _secret(context, namespace, name, keys) for name, keys in sorted(named.items())]
    return found + [each for each in secrets if each is not None] + asked


def _registers(spec: object) -> set[str]:
    """The address of the taxonomic register that a Dataset asks about its classes; empty when it asks none."""
    labels = spec.get("labels") if isinstance(spec, dict) else None
    asked = labels.get("taxonomy") if isinstance(labels, dict) else None
    return {str(asked.get("url") or WORMS)} if isinstance(asked, dict) and not asked.get("table") else set()


def _register(namespace: str, url: str, hosts: str) -> Finding:
    """Check that the register's address is allowed, as far as this can be determined without a request."""
    try:
        parts = urlsplit(url)
        port = parts.port or source_hosts.PORTS.get(parts.scheme, 0)
        is_named = source_hosts.parse(hosts).host(parts.scheme, (parts.hostname or "").lower(), port)
        entry = source_hosts.entry(parts.scheme, parts.hostname or "", port)
    except ValueError:
        return failure(namespace, f"{url} in labels.taxonomy.url is not an address that can be queried", "Correct it.")
    if parts.scheme == "http" and not is_named:
        hint = f"Use https, or add {entry} to {source_hosts.KEY} of {tenant_settings.name_of(namespace)}."
        return failure(
            namespace,
            f"{url} is not asked which taxa classes are: it uses http, which sourceHosts does not allow",
            hint,
        )
    return ok(namespace, f"{url} is asked which taxa classes are (labels.taxonomy)")


def _publishing(spec: object) -> Mapping[str, object] | None:
    """The reference to the Secret with the token of a Dataset's repository; None when it is not published."""
    found = spec
    for name in ("publish", "zenodo", "secretRef"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


async def _claim(context: DoctorContext, namespace: str, name: str) -> Finding | None:
    if not name:
        return None
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
    if answer.status == 404:
        return failure(namespace, f"the PersistentVolumeClaim {name} does not exist", "Create one with ReadWriteMany.")
    if answer.status != 200:
        return hidden(namespace, answer)
    status, spec = answer.body.get("status") or {}, answer.body.get("spec") or {}
    phase, modes = status.get("phase", "Pending"), status.get("accessModes") or spec.get("accessModes") or ()
    if phase != "Bound":
        hint = f"kubectl -n {namespace} describe pvc {name}"
        return failure(namespace, f"the PersistentVolumeClaim {name} is {phase}, not Bound", hint)
    if not {"ReadWriteMany", "ReadOnlyMany"} & set(modes):
        message = f"the PersistentVolumeClaim {name} is {', '.join(modes)}: pods on other nodes than the first cannot mount it"
        return warning(namespace, message, "Use a StorageClass with ReadWriteMany.")
    return ok(namespace, f"PersistentVolumeClaim {name} ({', '.join(modes)})")


async def _exists(
    context: DoctorContext, namespace: str, name: str, *, kind: str, root: str, plural: str
) -> Finding | None:
    if not name:
        return None
    answer = await context.api.get(f"{root}/namespaces/{namespace}/{plural}/{name}")
    if answer.status == 200:
        return ok(namespace, f"{kind} {name}")
    if answer.status == 404:
        return failure(
            namespace,
            f"the {kind} {name} does not exist",
            f"Create it, or correct {tenant_settings.name_of(namespace)}.",
        )
    return hidden(namespace, answer)


async def _authorities(context: DoctorContext, namespace: str, name: str) -> Finding | None:
    if not name:
        return None
    answer = await context.api.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    if answer.status not in (200, 404):
        return hidden(namespace, answer)
    if CA_KEY in (answer.body.get("data") or {}):
        return ok(namespace, f"ConfigMap {name} ({CA_KEY})")
    found = "does not exist" if answer.status == 404 else f"has no key {CA_KEY}"
    hint = f"kubectl -n {namespace} create configmap {name} --from-file={CA_KEY}=..."
    return failure(namespace, f"the ConfigMap {name} {found}: pods that need its certificate authorities fail", hint)


async def _queue(context: DoctorContext, namespace: str, name: str) -> Finding | None:
    if not name:
        return None
    group = await context.api.get("/apis/kueue.x-k8s.io")
    if group.status == 404:
        return failure(
            namespace, f"the queue {name} is named, and Kueue is not installed", "Install Kueue, or name no queue."
        )
    version = str(group.body.get("preferredVersion", {}).get("version", "v1beta1"))
    root = f"/apis/kueue.x-k8s.io/{version}"
    return await _exists(context, namespace, name, kind="LocalQueue", root=root, plural="localqueues")


async def _priorities(context: DoctorContext, namespace: str, tenant: Tenant) -> Finding | None:
    named = [name for name in (tenant.priority, *tenant.priorities) if name]
    if not named:
        return None
    group = await context.api.get("/apis/kueue.x-k8s.io")
    if group.status == 404:
        message = f"priorities are named ({', '.join(named)}), and Kueue is not installed"
        return failure(namespace, message, "Install Kueue, or name none.")
    version = str(group.body.get("preferredVersion", {}).get("version", "v1beta1"))
    answer = await context.api.get(f"/apis/kueue.x-k8s.io/{version}/workloadpriorityclasses")
    if answer.status != 200:
        return hidden(namespace, answer)
    there = [str(each["metadata"]["name"]) for each in items(answer)]
    absent = next((name for name in named if name not in there), None)
    if absent is None:
        return None
    hint = f"Create it, or correct priority and priorities of {tenant_settings.name_of(namespace)}."
    known = ", ".join(sorted(there)[:MOST]) or "none"
    return failure(namespace, f"WorkloadPriorityClass {absent} does not exist; there are: {known}", hint)


async def _storage_initializer(context: DoctorContext, namespace: str, tenant: Tenant) -> Finding | None:
    """Check that KServe finds the object storage: credentials through the ServiceAccount, the address by annotations."""
    given, secret, account = context.settings, tenant.objects_secret, tenant.service_account or "default"
    if not given.objects_uri or not secret:
        return None
    core = f"/api/v1/namespaces/{namespace}"
    answers = [await context.api.get(f"{core}/{path}") for path in (f"serviceaccounts/{account}", f"secrets/{secret}")]
    unseen = next((answer for answer in answers if answer.status != 200), None)
    if unseen is not None:
        return None if unseen.status == 404 else hidden(namespace, unseen)  # Other checks report what is missing.
    listed = [each.get("name") for each in answers[0].body.get("secrets") or ()]
    if secret not in listed:
        message = (
            f"the ServiceAccount {account} does not list the Secret {secret}: without it KServe cannot fetch packages"
        )
        patch = json.dumps({"secrets": [{"name": secret}]})
        return failure(namespace, message, f"kubectl -n {namespace} patch serviceaccount {account} -p '{patch}'")
    notes = answers[1].body["metadata"].get("annotations") or {}
    wanted = annotations_for_kserve(given.s3_endpoint, given.s3_region)
    wrong = [f"{name}={value}" for name, value in wanted.items() if notes.get(name) != value]
    if wrong:
        message = f"the Secret {secret} does not say where the storage is for KServe; it needs {', '.join(wrong)}"
        return failure(
            namespace, message, f"kubectl -n {namespace} annotate --overwrite secret {secret} {' '.join(wrong)}"
        )
    return ok(namespace, f"KServe finds the credentials of the storage ({account}, {secret})")


def annotations_for_kserve(endpoint: str, region: str) -> dict[str, str]:
    """Annotations for the Secret with the storage's credentials, from the common settings; empty for AWS itself."""
    scheme, _, host = endpoint.rpartition("://")
    told = {"s3-endpoint": host, "s3-usehttps": "0" if scheme == "http" else "1"} if host else {}
    told |= {"s3-region": region} if region else {}
    return {f"serving.kserve.io/{name}": value for name, value in told.items()}


SECTION = Section("Tenants", (("namespaces", look),))
