"""The objects of an endpoint on a cluster without KServe: from a want to Deployment, Service, budget and autoscaler. Pure.

Called by triton_deployment. A rolling update loses no request: a new pod takes over only when the server says that the model is
ready, an old one goes on listening while routes to it are taken away, and then finishes what it has begun.
"""

from __future__ import annotations

from typing import Any

from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.model_server import gateway as model_server_gateway
from pelagos.engines.model_server import options as model_server
from pelagos.engines.model_server.network import selector
from pelagos.engines.model_server.options import Options
from pelagos.ports.serving import CPU_TARGET, DesiredService

DEPLOYMENTS = Collection("apps/v1", "Deployment", "deployments")
AUTOSCALERS = Collection("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
"""Version 1 can all that is needed here, and every server has it."""
BUDGETS = Collection("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
OLD_BUDGETS = Collection("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
"""Of servers before Kubernetes 1.21."""
LONGEST_NAME = 63
PYTHON = "python3"


def name_of(want: DesiredService) -> str:
    """Name of all objects of an endpoint."""
    return model_server.object_name(want.name, LONGEST_NAME)


def deployment(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    """The servers. Without ``replicas`` where an autoscaler decides about them."""
    name = name_of(want)
    spec: dict[str, Any] = {
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 900,
        "selector": {"matchLabels": selector(want)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {
                "labels": model_server.labels(want, name),
                "annotations": {
                    model_server.DIGEST_ANNOTATION: want.pod_template_digest,
                    "prometheus.io/scrape": "true",
                    "prometheus.io/port": str(model_server.METRICS),
                    "prometheus.io/path": "/metrics",
                },
            },
            "spec": pod(want, config, given),
        },
    }
    if not is_scaled(want):
        spec["replicas"] = want.scaling.minimum
    metadata = model_server.metadata(want, name, model_server.record(want))
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def pod(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    """One server: the package comes from a volume, or from object storage by an init container."""
    volumes, mounts = model_server.scratch(want)
    server = model_server.container(want, config, given) | {
        "name": "server",
        "command": [PYTHON, "-m", "pelagos_pipelines.serving.entrypoint"],
    }
    gateway = model_server_gateway.container(want, given) | {
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in model_server.PORTS],
    }
    volumes += model_server_gateway.volumes()
    models: dict[str, Any] = {"name": "models", "mountPath": model_server.MODELS, "readOnly": True}
    made = model_server.pod(want)
    if model_server.is_remote(want):
        trusted, trust = model_server.authorities(want, given)
        volumes += [{"name": "models", "emptyDir": {}}, *trusted]
        made["initContainers"] = [_fetching(want, given, [*mounts, *trust])]
    else:
        claim, path = model_server.claim_path(want, given)
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
        models["subPath"] = path
    server["volumeMounts"] = [*mounts, models]
    return made | {"containers": [server, gateway], "volumes": volumes}


def _fetching(want: DesiredService, given: Options, mounts: list[dict[str, Any]]) -> dict[str, Any]:
    storage, package = model_server.storage_environment(want, given), model_server.environment(want, "")[:3]
    return {
        "name": "fetch",
        "env": [*storage, *package, model_server.NO_GPUS],
        "image": given.image,
        "imagePullPolicy": given.pull_policy,
        "command": [PYTHON, "-m", "pelagos_pipelines.serving.fetch"],
        "resources": model_server.resources(want, with_gpus=False),
        "securityContext": model_server.container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, {"name": "models", "mountPath": model_server.MODELS}],
    }


def service(want: DesiredService) -> dict[str, Any]:
    """What clients reach."""
    ports = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in model_server.PORTS]
    spec = {"type": "ClusterIP", "selector": selector(want), "ports": ports}
    metadata = model_server.metadata(want, name_of(want))
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def budget(want: DesiredService, kind: Collection) -> dict[str, Any]:
    """Of several servers at most one is taken away at a time; a single one does not keep its node from being drained."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(want)}}
    metadata = model_server.metadata(want, name_of(want))
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def autoscaler(want: DesiredService) -> dict[str, Any]:
    """Replicas by processor time."""
    name = name_of(want)
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": want.scaling.minimum,
        "maxReplicas": want.scaling.maximum,
        "targetCPUUtilizationPercentage": want.scaling.cpu or CPU_TARGET,
    }
    metadata = model_server.metadata(want, name)
    return {"apiVersion": AUTOSCALERS.api_version, "kind": AUTOSCALERS.kind, "metadata": metadata, "spec": spec}


def is_scaled(want: DesiredService) -> bool:
    """Whether an autoscaler decides how many servers there are."""
    return want.scaling.maximum > want.scaling.minimum
