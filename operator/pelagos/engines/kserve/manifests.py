"""Builds the InferenceService for a desired service. Pure.

Called by kserve. In Standard mode KServe creates a Deployment from it; in Knative mode a Knative Service, which refuses probes,
hooks and pod settings that a Deployment may have, so those are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.model_server import gateway, marks, pod_template
from pelagos.engines.model_server.object_kinds import INFERENCE_SERVICES
from pelagos.engines.model_server.options import Options
from pelagos.ports.serving import CPU_TARGET, DesiredService, Scaling, spec_digest

API_VERSION = "serving.kserve.io/v1beta1"
RUNTIMES = Collection("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes")
CLUSTER_RUNTIMES = Collection("serving.kserve.io/v1alpha1", "ClusterServingRuntime", "clusterservingruntimes")
STORAGE_CONTAINERS = Collection("serving.kserve.io/v1alpha1", "ClusterStorageContainer", "clusterstoragecontainers")
RUNTIME = "pelagos-triton"
STORAGE_CONTAINER = "pelagos"
"""The ClusterStorageContainer that makes KServe's storage initializer fit for restricted namespaces: see manifests/kserve."""
MODEL_FORMAT = {"name": "pelagos", "version": "1"}
KNATIVE = "Knative"
_NUMBERS = frozenset({"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"})
_SUFFIX = len("-predictor-")
_NOT_FOR_KNATIVE = ("readinessProbe", "startupProbe", "livenessProbe", "lifecycle")
_POD_FIELDS_FOR_KNATIVE = frozenset(
    {
        "serviceAccountName",
        "imagePullSecrets",
        "enableServiceLinks",
        "automountServiceAccountToken",
        "nodeSelector",
        "tolerations",
    }
)


def name_of(want: DesiredService) -> str:
    """The InferenceService's name, kept short: KServe joins it with a suffix and the namespace into one DNS label."""
    return marks.object_name(want.name, max(20, 63 - _SUFFIX - len(want.namespace)))


def predictor_name(name: str) -> str:
    """The name of the Service, Deployment or Knative Service that KServe creates."""
    return f"{name}-predictor"


def inference_service(
    want: DesiredService, config: str, given: Options, *, storage_container: bool = False
) -> dict[str, Any]:
    """The InferenceService. ``storage_container``: whether the cluster has STORAGE_CONTAINER."""
    annotations = marks.record(_without_numbers(want)) | {"serving.kserve.io/deploymentMode": want.scaling.mode}
    if want.scaling.mode != KNATIVE:
        annotations["serving.kserve.io/autoscalerClass"] = "hpa"
    elif want.scaling.cpu:
        annotations["autoscaling.knative.dev/class"] = "hpa.autoscaling.knative.dev"
    metadata = marks.metadata(want, name_of(want), annotations)
    predictor = _predictor(want, config, given)
    if storage_container and pod_template.is_remote(want):
        predictor["storageContainerName"] = STORAGE_CONTAINER
    return {
        "apiVersion": API_VERSION,
        "kind": INFERENCE_SERVICES.kind,
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def recorded(body: Mapping[str, Any]) -> DesiredService | None:
    """The desired service of an InferenceService; None when it has no valid record. Scaling numbers come from its spec."""
    want = marks.recorded(body)
    if want is None or not want.pods_digest:
        return want
    spec = (body.get("spec") or {}).get("predictor") or {}
    metric, target = spec.get("scaleMetric"), int(spec.get("scaleTarget") or 0)
    scaling = Scaling(
        mode=want.scaling.mode,
        minimum=int(spec.get("minReplicas", 1)),
        maximum=int(spec.get("maxReplicas", 1)),
        concurrency=target if metric == "concurrency" else 0,
        cpu=target if metric == "cpu" else 0,
        old_first=spec.get("deploymentStrategy") == pod_template.rolling(old_first=True),
    )
    return replace(want, scaling=scaling, digest=spec_digest(want.pods_digest, scaling))


def without_numbers(body: Mapping[str, Any]) -> dict[str, Any]:
    """An InferenceService without its scaling numbers, and with the default order of replacing servers."""
    predictor = {name: value for name, value in body["spec"]["predictor"].items() if name not in _NUMBERS}
    if "deploymentStrategy" in predictor:
        predictor["deploymentStrategy"] = pod_template.rolling(old_first=False)
    return {**body, "spec": {"predictor": predictor}}


def _without_numbers(want: DesiredService) -> DesiredService:
    """``want`` without scaling numbers, for annotations: KServe copies those to pods, so a new number would replace all pods."""
    if not want.pods_digest:
        return want
    return replace(want, digest=want.pods_digest, scaling=Scaling(mode=want.scaling.mode))


def _predictor(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    volumes, mounts = pod_template.scratch(want)
    pod = pod_template.pod(want, given)
    # KServe adds it next to the server. It lists no ports: they belong to the pod, and KServe expects them at the server.
    proxy = gateway.container(want, given)
    scaling: dict[str, Any] = {"minReplicas": want.scaling.minimum, "maxReplicas": want.scaling.maximum}
    if want.scaling.mode != KNATIVE or want.scaling.cpu:
        scaling |= {"scaleMetric": "cpu", "scaleTarget": want.scaling.cpu or CPU_TARGET}
    elif want.scaling.concurrency:
        scaling |= {"scaleMetric": "concurrency", "scaleTarget": want.scaling.concurrency}
    if want.scaling.mode == KNATIVE:
        del proxy["lifecycle"]  # Knative ends containers only after their requests are done.
        proxy["securityContext"] = proxy["securityContext"] | pod_template.pod_security(given)
    made: dict[str, Any] = {
        "labels": given.pods.labels | marks.labels(want, name_of(want)),
        "annotations": given.pods.annotations
        | {
            "serving.kserve.io/enable-prometheus-scraping": "true",
            "prometheus.kserve.io/port": str(pod_template.METRICS),
            "prometheus.kserve.io/path": "/metrics",
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(pod_template.METRICS),
            "prometheus.io/path": "/metrics",
        },
        **scaling,
        "volumes": [*volumes, *gateway.volumes()],
        "model": _model(want, config, given) | {"volumeMounts": mounts},
        "containers": [proxy],
    }
    if want.scaling.mode == KNATIVE:
        return made | {name: value for name, value in pod.items() if name in _POD_FIELDS_FOR_KNATIVE}
    return made | pod | {"deploymentStrategy": pod_template.rolling(old_first=want.scaling.old_first)}


def _model(want: DesiredService, config: str, given: Options) -> dict[str, Any]:
    made = pod_template.container(want, config, given) | {
        "modelFormat": MODEL_FORMAT,
        "runtime": RUNTIME,
        "storageUri": storage_uri(want, given),
    }
    if want.scaling.mode == KNATIVE:
        # Knative allows one port only, and clients that send images use gRPC.
        for name in _NOT_FOR_KNATIVE:
            made.pop(name)
        security = made["securityContext"] | pod_template.pod_security(given)
        ports = [{"name": "h2c", "containerPort": pod_template.GRPC, "protocol": "TCP"}]
        return made | {"protocolVersion": "grpc-v2", "ports": ports, "securityContext": security}
    # The first port becomes port 80 of KServe's Service; the others keep their numbers.
    ports = [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in pod_template.PORTS]
    return made | {"protocolVersion": "v2", "ports": ports}


def storage_uri(want: DesiredService, given: Options) -> str:
    """The package's uri for KServe's storage initializer. Raises RejectedError when it could not reach the package."""
    if pod_template.is_remote(want):
        return want.package_uri
    claim, path = pod_template.claim_path(want, given)
    return f"pvc://{claim}/{path}"
