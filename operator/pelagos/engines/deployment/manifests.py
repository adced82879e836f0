"""Builds the objects of an endpoint on a cluster without KServe: Deployment, Service, budget and autoscaler. Pure.

Called by engine. A rolling update loses no request: a new pod takes over only when its server reports the model as ready; an old
one keeps listening while routes to it are removed, and then finishes the requests in progress.
"""

from __future__ import annotations

from typing import Any

from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.model_server import gateway as model_server_gateway
from pelagos.engines.model_server import marks, pod_template
from pelagos.engines.model_server.object_kinds import AUTOSCALERS
from pelagos.engines.model_server.options import Options
from pelagos.ports.serving import CPU_TARGET, DesiredService

LONGEST_NAME = 63
PYTHON = "python3"


def name_of(want: DesiredService) -> str:
    """The name of all objects of an endpoint."""
    return marks.object_name(want.name, LONGEST_NAME)


def deployment(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    """The Deployment of the servers. It has no ``replicas`` when an autoscaler decides about them."""
    name = name_of(want)
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 900,
        "selector": {"matchLabels": marks.selector(want)},
        "strategy": pod_template.rolling(old_first=want.scaling.old_first),
        "template": {
            "metadata": {
                "labels": given.pods.labels | marks.labels(want, name),
                "annotations": given.pods.annotations
                | {
                    marks.DIGEST_ANNOTATION: want.pod_template_digest,
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(pod_template.METRICS),
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": pod(want, config, given),
        },
    }
    if not is_scaled(want):
        spec["replicas"] = want.scaling.minimum
    metadata = marks.metadata(want, name, marks.record(want))
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def pod(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    """The spec of a server's pod. The package is on a volume, or an init container fetches it from object storage."""
    volumes, mounts = pod_template.scratch(want)
    server = pod_template.container(want, config, given) | {
        "name": "server",
        "command": [PYTHON, "-m", "pelagos_pipelines.serving.entrypoint"],
    }
    gateway = model_server_gateway.container(want, given) | {
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in pod_template.PORTS],
    }
    volumes += model_server_gateway.volumes()
    models: dict[str, Any] = {"name": "models", "mountPath": pod_template.MODELS, "readOnly": True}
    made = pod_template.pod(want, given)
    if pod_template.is_remote(want):
        trusted, trust = pod_template.authorities(want, given)
        volumes += [{"name": "models", "emptyDir": {}}, *trusted]
        storage, package = pod_template.storage_environment(want, given), pod_template.environment(want, "")[:3]
        # Only the init container gets the storage keys: the server, which untrusted requests reach, never sees them.
        fetch = {
            "name": "fetch",
            "env": pod_template.with_additions([*storage, *package, pod_template.NO_GPUS], given),
            "image": given.image,
            "imagePullPolicy": given.pull_policy,
            "command": [PYTHON, "-m", "pelagos_pipelines.serving.fetch"],
            "resources": pod_template.resources(want, with_gpus=False),
            "securityContext": pod_template.container_security(),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [*mounts, *trust, {"name": "models", "mountPath": pod_template.MODELS}],
        }
        made["initContainers"] = [fetch]
    else:
        claim, path = pod_template.claim_path(want, given)
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
        models["subPath"] = path
    server["volumeMounts"] = [*mounts, models]
    return made | {"containers": [server, gateway], "volumes": volumes}


def service(want: DesiredService) -> dict[str, Any]:
    """The Service that clients connect to."""
    ports = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in pod_template.PORTS]
    spec = {"type": "ClusterIP", "selector": marks.selector(want), "ports": ports}
    metadata = marks.metadata(want, name_of(want))
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def budget(want: DesiredService, kind: Collection) -> dict[str, Any]:
    """The PodDisruptionBudget of several servers: at most one may be evicted at a time. Not for a single server."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": marks.selector(want)}}
    metadata = marks.metadata(want, name_of(want))
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def autoscaler(want: DesiredService) -> dict[str, Any]:
    """The HorizontalPodAutoscaler, by processor time."""
    name = name_of(want)
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": want.scaling.minimum,
        "maxReplicas": want.scaling.maximum,
        "targetCPUUtilizationPercentage": want.scaling.cpu or CPU_TARGET,
    }
    metadata = marks.metadata(want, name)
    return {"apiVersion": AUTOSCALERS.api_version, "kind": AUTOSCALERS.kind, "metadata": metadata, "spec": spec}


def is_scaled(want: DesiredService) -> bool:
    """Whether an autoscaler decides how many servers there are."""
    return want.scaling.maximum > want.scaling.minimum
