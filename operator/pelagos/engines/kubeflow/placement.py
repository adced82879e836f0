"""Adds to a compiled flow what a run on a Kubeflow Pipelines server needs: where its pods run, what they get, who owns them.

Pure. Used by the engine kubeflow, which sends the result as the ``pipeline_spec`` of a new run. The compiled flow stays as it is,
except for each executor's container (image, resources, environment) and the part ``platforms.kubernetes``, written in the form
that kfp-kubernetes gives it; a test compiles the same flows with kfp-kubernetes and compares. What that form cannot express is
left to the cluster (a namespace's defaults, or a policy): fsGroup, automountServiceAccountToken and PriorityClasses. Kueue's own
priority is a label. Seccomp profile and dropped capabilities are the server's defaults.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pelagos.api import tenant_settings
from pelagos.api.meta import GROUP
from pelagos.engines.kubernetes import quantities
from pelagos.ports.errors import RejectedError
from pelagos.ports.pipelines import STEP_ENVIRONMENT
from pelagos.ports.placement import GPU_PRODUCT_LABEL, GPU_RESOURCE, processors
from pelagos.ports.pods import NO_STEP_PODS, StepPods
from pelagos.ports.tenants import CA_FOLDER, CA_KEY
from pelagos_contract import source_hosts
from pelagos_contract.flows import PREPARATION
from pelagos_contract.remote_sources import SECRET_FOLDER, SECRET_MOUNT
from pelagos_contract.sealing import STEP_NAMESPACE_KEY, step_identity
from pelagos_contract.tags import RESOURCE_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pelagos.ports.pipelines import RunRequest

Struct = dict[str, Any]

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
RUN_ANNOTATION = f"{GROUP}/run"
ATTEMPT_ANNOTATION = f"{GROUP}/attempt"
RETRY_KEY_ANNOTATION = f"{GROUP}/retry-key"
ATTEMPTS_WITH_KEY_ANNOTATION = f"{GROUP}/attempts-with-key"
STEP = "pelagos-pipeline-step"
"""The value of the label app.kubernetes.io/name on all pods of steps."""
SHARED_MEMORY = "shared-memory"
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_ENVIRONMENT = {
    **STEP_ENVIRONMENT,
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108 - private to the pod
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Mount:
    """A PersistentVolumeClaim mounted at an absolute path. An empty claim means no mount."""

    claim: str
    path: str


@dataclass(frozen=True)
class PodDefaults:
    """Defaults for all runs of an installation. Names of Secrets and claims refer to the namespace of the run."""

    image: str
    image_pull_policy: str = "IfNotPresent"
    data: Mount = Mount("", "")
    objects: Mount = Mount("", "")
    object_storage: bool = False
    """Whether data or objects are in S3-compatible storage."""
    s3_endpoint: str = ""
    s3_region: str = ""
    objects_secret: str = ""
    tracking_secret: str = ""
    ca_config_map: str = ""
    user: str = "10001"
    """User and group id of the pods; empty: the cluster chooses."""
    pods: StepPods = NO_STEP_PODS
    environment: tuple[tuple[str, str], ...] = ()
    """Environment variables: the limits on untrusted input, and third-party modules."""


@dataclass(frozen=True)
class Count:
    """The number of this attempt of a run; ``with_key`` counts the attempts with the request's retry key."""

    attempt: int
    with_key: int


def place(
    documents: Sequence[Struct], request: RunRequest, pod_defaults: PodDefaults, count: Count, key: str = ""
) -> Struct:
    """The ``pipeline_spec`` of a run: ``{"pipeline_spec": ..., "platform_spec": ...}``.

    ``documents`` is the compiled flow: its IR and, if it has one, its platform part. ``key`` is the Secret with the key with
    which steps seal their reports. Raises RejectedError for claims that cannot be mounted, and invalid memory quantities.
    """
    spec = copy.deepcopy(documents[0])
    executors: Struct = spec["deploymentSpec"]["executors"]
    platform: Struct = copy.deepcopy(documents[1]) if len(documents) > 1 else {}
    kubernetes = platform.setdefault("platforms", {}).setdefault("kubernetes", {}).setdefault("deploymentSpec", {})
    configured: Struct = kubernetes.setdefault("executors", {})
    on_gpus = {f"exec-{step.name}" for step in request.steps if step.on_gpus}
    for label, executor in executors.items():
        gpus = request.resources.placement.gpus if label in on_gpus else 0
        _fill_container(executor["container"], request, pod_defaults, gpus)
        pod = configured.get(label, {}) | _pod(request, pod_defaults, count, gpus)
        if key:
            pod["secretAsEnv"] = [*pod.get("secretAsEnv", []), _secret(key, (STEP_NAMESPACE_KEY,), optional=False)]
            identity = step_identity(request.name, count.attempt)
            executor["container"]["env"] += [{"name": name, "value": value} for name, value in identity.items()]
        configured[label] = pod
    return {"pipeline_spec": spec, "platform_spec": platform}


def read_count(struct: Struct) -> tuple[Count, str] | None:
    """The reverse of ``place``: count and retry key of a run, from its ``pipeline_spec``; None when it is not one of ours."""
    for config in _configured(struct).values():
        notes = config.get("podMetadata", {}).get("annotations", {})
        if ATTEMPT_ANNOTATION in notes:
            count = Count(int(notes[ATTEMPT_ANNOTATION]), int(notes.get(ATTEMPTS_WITH_KEY_ANNOTATION, 1)))
            return count, str(notes.get(RETRY_KEY_ANNOTATION, ""))
    return None


def read_time_limit(struct: Struct) -> int:
    """Seconds after which the cluster ends each step of a run; 0 if some step has no limit."""
    limits = [int(config.get("activeDeadlineSeconds", 0)) for config in _configured(struct).values()]
    return max(limits) if limits and min(limits) > 0 else 0


def read_queue(struct: Struct) -> str:
    """The Kueue LocalQueue of a run's pods; "" for none."""
    return _read_label(struct, QUEUE_LABEL)


def read_priority(struct: Struct) -> str:
    """The Kueue WorkloadPriorityClass of a run's pods; "" for none."""
    return _read_label(struct, PRIORITY_LABEL)


def _read_label(struct: Struct, label: str) -> str:
    for config in _configured(struct).values():
        return str(config.get("podMetadata", {}).get("labels", {}).get(label, ""))
    return ""


def read_resource(struct: Struct) -> str:
    """``<kind>/<namespace>/<name>`` of the resource that a run is for; "" when it does not say."""
    notes = (config.get("podMetadata", {}).get("annotations", {}) for config in _configured(struct).values())
    return next((str(each[RESOURCE_TAG]) for each in notes if RESOURCE_TAG in each), "")


def _configured(struct: Struct) -> Struct:
    platforms = struct.get("platform_spec", {}).get("platforms", {})
    executors: Struct = platforms.get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return executors


def _fill_container(container: Struct, request: RunRequest, pod_defaults: PodDefaults, gpus: int) -> None:
    container["image"] = pod_defaults.image
    resources = container.setdefault("resources", {})
    asked = request.resources
    cores = processors(asked.placement, asked.cpu)
    usual = resources.get("resourceMemoryLimit", "")
    memories = quantities.memory(asked.placement, usual, "pipelines") if asked.placement.memory or usual else ("", "")
    # Older servers expect numbers (memory in units of 10^9 bytes), newer ones text. Both are set.
    for bound, cpu, memory in zip(("Request", "Limit"), cores, memories, strict=True):
        resources |= {f"resourceCpu{bound}": cpu, f"cpu{bound}": float(quantities.number_of(cpu))}
        if memory:
            resources[f"resourceMemory{bound}"] = memory
            resources[f"memory{bound}"] = float(quantities.number_of(memory)) / 1e9
    resources.pop("accelerator", None)
    if gpus:
        kind, number = GPU_RESOURCE, str(gpus)
        resources["accelerator"] = {"type": kind, "count": number, "resourceType": kind, "resourceCount": number}
    variables = {variable["name"]: variable["value"] for variable in container.get("env", [])}
    variables |= _ENVIRONMENT | {"OMP_NUM_THREADS": str(asked.cpu)} | dict(pod_defaults.environment)
    if not gpus:
        # GPU images request all GPUs by default, and some clusters grant them to pods that requested none.
        variables["NVIDIA_VISIBLE_DEVICES"] = "void"
    if pod_defaults.object_storage:
        settings = {"AWS_ENDPOINT_URL": pod_defaults.s3_endpoint, "AWS_REGION": pod_defaults.s3_region}
        variables |= {name: value for name, value in settings.items() if value}
    variables |= _of_source(request)
    if _authorities(request, pod_defaults):
        file = f"{CA_FOLDER}/{CA_KEY}"
        variables["MLFLOW_TRACKING_SERVER_CERT_PATH"] = file
        if _asks_others(request):
            variables[source_hosts.AUTHORITY] = file
        if pod_defaults.object_storage:
            variables["AWS_CA_BUNDLE"] = file
    variables |= {name: value for name, value in pod_defaults.pods.env.items() if name not in variables}
    container["env"] = [{"name": name, "value": value} for name, value in variables.items()]


def _pod(request: RunRequest, pod_defaults: PodDefaults, count: Count, gpus: int) -> Struct:
    placement = request.resources.placement
    labels = {key: value for key, value in request.labels.items() if _LABEL_VALUE.fullmatch(value)} | {
        "app.kubernetes.io/name": STEP,
        "app.kubernetes.io/instance": request.name[:63].rstrip("-_."),
        "app.kubernetes.io/component": request.flow,
        "app.kubernetes.io/part-of": "pelagos",
        "app.kubernetes.io/managed-by": "pelagos-operator",
    }
    if queue := placement.queue or request.tenant.queue:
        labels[QUEUE_LABEL] = queue
    if request.resources.priority:
        labels[PRIORITY_LABEL] = request.resources.priority
    # Annotations hold labels whose values Kubernetes does not accept, and the state that `read_count` reads back later: the
    # server stores nothing else for us, and a restarted operator knows only what the server has.
    annotations = {key: value for key, value in request.labels.items() if not _LABEL_VALUE.fullmatch(value)} | {
        RUN_ANNOTATION: request.name,
        ATTEMPT_ANNOTATION: str(count.attempt),
        ATTEMPTS_WITH_KEY_ANNOTATION: str(count.with_key),
        RETRY_KEY_ANNOTATION: request.retry_key,
    }
    given, user = pod_defaults.pods, pod_defaults.user
    config: Struct = {
        "imagePullPolicy": pod_defaults.image_pull_policy,
        "podMetadata": {"labels": given.labels | labels, "annotations": given.annotations | annotations},
        "securityContext": ({"runAsUser": user, "runAsGroup": user} if user else {}) | {"runAsNonRoot": True},
    }
    lists = {
        "imagePullSecret": [_named("secretName", name) for name in request.tenant.image_pull_secrets],
        "pvcMount": _mounts(request, pod_defaults),
        "secretAsEnv": _secrets(request, pod_defaults),
        "configMapAsVolume": _authorities(request, pod_defaults),
        "secretAsVolume": _source_secret(request),
        "tolerations": [
            {field: given for field, given in asdict(each).items() if given} for each in placement.tolerations
        ]
        + given.tolerations,
    }
    config |= {key: value for key, value in lists.items() if value}
    if placement.shared_memory:
        memory = {"medium": "Memory", "sizeLimit": placement.shared_memory}
        config["emptyDirMounts"] = [{"volumeName": SHARED_MEMORY, "mountPath": "/dev/shm"} | memory]  # noqa: S108
    selector = given.node_selector | dict(placement.node_selector)
    if gpus and placement.gpu_product:
        selector[GPU_PRODUCT_LABEL] = placement.gpu_product
    if selector:
        config["nodeSelector"] = {"labels": selector}
    if request.resources.time_limit > 0:
        config["activeDeadlineSeconds"] = str(request.resources.time_limit)
    return config


def _mounts(request: RunRequest, pod_defaults: PodDefaults) -> list[Struct]:
    data = request.tenant.data_claim or pod_defaults.data.claim
    objects = request.tenant.objects_claim or pod_defaults.objects.claim
    mounts = [(data, pod_defaults.data.path), (objects, pod_defaults.objects.path)]
    used = [(claim, path) for claim, path in mounts if claim and path]
    if len(used) == 2 and data == objects:
        message = (
            f"dataClaim and objectsClaim are both {data!r}; a pod of a pipeline mounts a claim once. Use two claims: "
            "PELAGOS_DATA_CLAIM and PELAGOS_OBJECTS_CLAIM, or dataClaim and objectsClaim of the tenant"
        )
        raise RejectedError("pipelines", message)
    return [
        {"mountPath": path, "constant": claim, "pvcNameParameter": {"runtimeValue": {"constant": claim}}}
        for claim, path in used
    ]


def _secrets(request: RunRequest, pod_defaults: PodDefaults) -> list[Struct]:
    secrets = []
    objects = request.tenant.objects_secret or pod_defaults.objects_secret
    if pod_defaults.object_storage and objects:
        secrets.append(_secret(objects, ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), optional=False))
    tracking = request.tenant.tracking_secret or pod_defaults.tracking_secret
    if tracking:
        # The Secret holds either a user with a password, or a token, so each key may be missing.
        keys = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
        secrets.append(_secret(tracking, keys, optional=True))
    return secrets


def _of_source(request: RunRequest) -> dict[str, str]:
    """Variables for steps that talk to third-party servers: the allowed hosts, where people set them, and the Secret's folder."""
    if not _asks_others(request):
        return {}
    told = {source_hosts.VARIABLE: request.tenant.source_hosts} if request.tenant.source_hosts else {}
    told[source_hosts.OF] = f"the ConfigMap {tenant_settings.name_of(request.namespace)} of the operator's namespace"
    return told | ({SECRET_FOLDER: SECRET_MOUNT} if request.secret is not None else {})


def _asks_others(request: RunRequest) -> bool:
    """Whether the steps talk to servers that a spec names: of sources, of initial weights, or one that a Secret is for."""
    if request.flow == PREPARATION.name or request.secret is not None:
        return True
    try:
        asked = json.loads(request.parameters.get("request", "{}"))
        return bool(asked["model"]["weights"]["uri"])
    except (ValueError, KeyError, TypeError):  # third-party flows may have other parameters
        return False


def _source_secret(request: RunRequest) -> list[Struct]:
    """The user's Secret as a mount, not as environment, which child processes would inherit. The pod waits until it exists."""
    if request.secret is None:
        return []
    return [_named("secretName", request.secret.name) | {"mountPath": SECRET_MOUNT, "optional": False}]


def _authorities(request: RunRequest, pod_defaults: PodDefaults) -> list[Struct]:
    name = request.tenant.ca_config_map or pod_defaults.ca_config_map
    return [_named("configMapName", name) | {"mountPath": CA_FOLDER, "optional": False}] if name else []


def _secret(name: str, keys: Sequence[str], *, optional: bool) -> Struct:
    variables = [{"secretKey": key, "envVar": key} for key in keys]
    return _named("secretName", name) | {"keyToEnv": variables, "optional": optional}


def _named(field: str, name: str) -> Struct:
    """A reference in both forms: servers before 2.5 read the constant, later ones the parameter."""
    return {field: name, f"{field}Parameter": {"runtimeValue": {"constant": name}}}
