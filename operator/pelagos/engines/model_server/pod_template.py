"""The parts of a serving pod that do not depend on the engine: container, volumes, security. Pure.

Called by the engines deployment and kserve for their manifests. A pod gets the model package in ``/mnt/models`` and runs
``pelagos_pipelines.serving.entrypoint``, which verifies it and then replaces itself with Triton
(docs/design/0004-cluster-mode.md).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from pelagos.engines.kubernetes import quantities
from pelagos.engines.model_server import marks
from pelagos.engines.model_server.options import SYSTEM, Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.placement import GPU_PRODUCT_LABEL, GPU_RESOURCE, processors, tolerated
from pelagos.ports.serving import DesiredService
from pelagos.ports.tenants import CA_FOLDER, CA_KEY

HTTP, GRPC, METRICS = 8080, 9000, 8002
PORTS = (("http", HTTP), ("grpc", GRPC), ("metrics", METRICS))
NO_GPUS = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
"""GPU images request all GPUs by default, and some clusters grant them to pods that requested none."""
STORAGE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""The keys that a container gets from the object storage's Secret; others in it are not passed on."""
MODELS = "/mnt/models"
SOCKETS = "/run/pelagos"
"""The folder of the server's sockets, which only the gateway in the same pod can reach."""
SOCKETS_MOUNT = {"name": "sockets", "mountPath": SOCKETS}
DEFAULT_MEMORY = "4Gi"
DEFAULT_SHARED_MEMORY = "512Mi"
DRAIN_SECONDS = 5
"""How long a pod keeps listening after its deletion was requested, until routes to it have been removed."""
EXIT_SECONDS = 30
"""After that, how long Triton has to finish the requests in progress."""


def rolling(*, old_first: bool) -> dict[str, Any]:
    """The update strategy of a Deployment. By default the new server is ready before an old one ends, which takes more room."""
    unavailable, surge = (1, 0) if old_first else (0, 1)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}}


def is_remote(want: DesiredService) -> bool:
    """Whether the package is in object storage."""
    return want.package_uri.startswith("s3://")


def claim_path(want: DesiredService, given: Options) -> tuple[str, str]:
    """The PersistentVolumeClaim with the package, and the path in it. Raises RejectedError when there is none."""
    claim = want.tenant.objects_claim or given.objects_claim
    root = given.objects_root.rstrip("/")
    if not claim:
        message = (
            f"model servers cannot reach {want.package_uri}: set PELAGOS_OBJECTS_URI to an object storage (s3://...), or "
            f"PELAGOS_OBJECTS_CLAIM to the PersistentVolumeClaim behind {root}"
        )
        raise RejectedError(SYSTEM, message)
    if not want.package_uri.startswith(f"{root}/"):
        raise RejectedError(
            SYSTEM, f"{want.package_uri} is not below {root}, which PersistentVolumeClaim {claim} holds"
        )
    return claim, want.package_uri.removeprefix(f"{root}/").rstrip("/")


def environment(want: DesiredService, config: str) -> list[dict[str, str]]:
    """The environment variables that the entrypoint reads."""
    values = {
        "PELAGOS_MODEL_NAME": want.model_name,
        "PELAGOS_PACKAGE": MODELS,
        "PELAGOS_MANIFEST_SHA256": want.manifest_sha256,
        "PELAGOS_TRITON_CONFIG": config,
        "PELAGOS_SOCKETS": SOCKETS,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def storage_environment(want: DesiredService, given: Options) -> list[dict[str, Any]]:
    """Address and credentials of the object storage, for the container that fetches the package."""
    values = {
        "AWS_ENDPOINT_URL": given.s3_endpoint,
        "AWS_REGION": given.s3_region,
        "AWS_CA_BUNDLE": f"{CA_FOLDER}/{CA_KEY}" if _ca_config_map(want, given) else "",
        "PELAGOS_PACKAGE_URI": want.package_uri,
    }
    made: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in values.items() if value]
    secret = want.tenant.objects_secret or given.objects_secret
    keys = STORAGE_KEYS if secret else ()
    return [*made, *({"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in keys)]


def authorities(want: DesiredService, given: Options) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts with the object storage's certificate authorities; empty where the system's are enough."""
    name = _ca_config_map(want, given)
    if not name:
        return [], []
    return [{"name": "ca", "configMap": {"name": name}}], [{"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}]


def _ca_config_map(want: DesiredService, given: Options) -> str:
    return want.tenant.ca_config_map or given.ca_config_map


def container(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    """The serving container without name and command. It listens on no port: its probes go through the gateway in the pod."""
    model_ready = {"path": f"/v2/models/{want.model_name}/ready", "port": HTTP}
    live = {"path": "/v2/health/live", "port": HTTP}
    ours = [
        *environment(want, config),
        *({"name": name, "value": value} for name, value in given.ceilings),
        *(() if want.placement.gpus else (NO_GPUS,)),
    ]
    return {
        "image": given.image,
        "imagePullPolicy": given.pull_policy,
        "env": with_additions(ours, given),
        "resources": resources(want),
        "securityContext": container_security(),
        # Triton reports why a model does not load only in its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": {"httpGet": model_ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 3},
        # Loading a large model onto a GPU takes minutes, during which the server does not listen: allow for 15.
        "startupProbe": {"httpGet": live, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 450},
        "livenessProbe": {"httpGet": live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": ["/bin/sleep", str(DRAIN_SECONDS)]}}},
    }


def with_additions(ours: list[dict[str, Any]], given: Options) -> list[dict[str, Any]]:
    """Our environment variables with those that the platform adds; ours take precedence."""
    known = {each["name"] for each in ours}
    return [*ours, *({"name": name, "value": value} for name, value in given.pods.env.items() if name not in known)]


def scratch(want: DesiredService) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Volumes and mounts that a server writes to, since its root file system is read-only."""
    shared = want.placement.shared_memory or DEFAULT_SHARED_MEMORY
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shared}},
        {"name": SOCKETS_MOUNT["name"], "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shared-memory", "mountPath": "/dev/shm"}]  # noqa: S108
    return volumes, [*mounts, SOCKETS_MOUNT]


def pod(want: DesiredService, given: Options) -> dict[str, Any]:
    """A pod's spec without its containers and volumes."""
    placement, tenant = want.placement, want.tenant
    selector = given.pods.node_selector | dict(placement.node_selector)
    if placement.gpu_product:
        selector[GPU_PRODUCT_LABEL] = placement.gpu_product
    made: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(given),
        "terminationGracePeriodSeconds": DRAIN_SECONDS + EXIT_SECONDS + 10,
        "nodeSelector": selector,
        "tolerations": [
            {name: value for name, value in dataclasses.asdict(each).items() if value}
            for each in tolerated(placement, placement.gpus)
        ]
        + given.pods.tolerations,
        "priorityClassName": given.pods.priority_class_name,
        "affinity": given.pods.affinity,
        "topologySpreadConstraints": [
            {"labelSelector": {"matchLabels": marks.selector(want)}} | each
            for each in given.pods.topology_spread_constraints
        ],
        "serviceAccountName": tenant.service_account,
        "imagePullSecrets": [{"name": name} for name in tenant.image_pull_secrets],
    }
    return {name: value for name, value in made.items() if value or value is False}


def resources(want: DesiredService, *, with_gpus: bool = True) -> dict[str, Any]:
    """Requests and limits: cores per instance, memory and GPUs per server. Limits equal requests unless the spec says more."""
    cores = processors(want.placement, want.cpu, want.instances)
    bounds = zip(cores, quantities.memory(want.placement, DEFAULT_MEMORY, SYSTEM), strict=True)
    gpus = {GPU_RESOURCE: str(want.placement.gpus)} if want.placement.gpus and with_gpus else {}
    request, limit = ({"cpu": cpu, "memory": memory} | gpus for cpu, memory in bounds)
    return {"requests": request, "limits": limit}


def container_security() -> dict[str, Any]:
    """A container securityContext that the Pod Security level "restricted" admits."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def pod_security(given: Options) -> dict[str, Any]:
    """A pod securityContext for the same level. No fsGroup: it would change the group of all files on a shared volume."""
    user = {"runAsUser": int(given.user), "runAsGroup": int(given.user)} if given.user else {}
    return {"runAsNonRoot": True, **user, "seccompProfile": {"type": "RuntimeDefault"}}
