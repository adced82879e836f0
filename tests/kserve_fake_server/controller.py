"""Does for InferenceServices of a real API server what KServe's controller does in Standard mode, by its source.

Input: InferenceServices and (Cluster)ServingRuntimes. Output: a Deployment and a Service for each, and ``status`` with
conditions, model states and failures as PropagateRawStatus and PropagateModelStatus write them (kserve/kserve at aaac4e29),
including their traps: ``observedGeneration`` is the Deployment's, and the first pod of the list speaks for all. The Deployment
runs either on ``nodes`` or on a real cluster. Where no garbage collector runs, the fake server deletes dependents, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kserve_fake_server.nodes import PODS, SECRETS, now
from model_packages import ENVIRONMENTS
from pelagos.engines.kserve.manifests import CLUSTER_RUNTIMES, RUNTIMES, STORAGE_CONTAINERS
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.model_server.object_kinds import DEPLOYMENTS, INFERENCE_SERVICES
from pelagos.ports.errors import OutageError, RejectedError

SERVICES = Collection("v1", "Service", "services")
ACCOUNTS = Collection("v1", "ServiceAccount", "serviceaccounts")
OWNER = "kserve-controller-manager"
CONTAINER = "kserve-container"
FINALIZER = "inferenceservice.finalizers"
_WITHOUT_KEYS = """\
import botocore.session
client = botocore.session.get_session().create_client("s3", region_name="us-east-1")
client.list_objects_v2(Bucket="bucket")
"""
_MODEL_FIELDS = frozenset({"modelFormat", "runtime", "storageUri", "protocolVersion", "storage"})
_PREDICTOR_FIELDS = frozenset(
    {
        "model",
        "minReplicas",
        "maxReplicas",
        "scaleTarget",
        "scaleMetric",
        "labels",
        "annotations",
        "deploymentStrategy",
        "storageContainerName",
    }
)


@dataclass
class Faults:
    """Names of InferenceServices that KServe mishandles."""

    ready_while_crashing: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    """Reported as not ready forever."""
    stale: set[str] = field(default_factory=set)
    """Their status is not written any more."""
    ignored: set[str] = field(default_factory=set)
    """The controller ignores them."""
    held: set[str] = field(default_factory=set)
    """Their finalizer is never removed."""


@dataclass
class Controller:
    """``validate`` is called with every InferenceService, and raises for one that the real API server would refuse."""

    rest: KubernetesRest
    validate: Callable[[Body], None] = lambda body: None
    faults: Faults = field(default_factory=Faults)
    seconds: float = 0.15
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cluster = KubernetesObjects(self.rest)

    async def run(self) -> None:
        """Work until canceled."""
        while True:
            with contextlib.suppress(OutageError, RejectedError):
                await self.tick()
            await asyncio.sleep(self.seconds)

    async def tick(self) -> None:
        """Handle all InferenceServices once."""
        services = await self.cluster.list(INFERENCE_SERVICES)
        for service in services:
            if service["metadata"]["name"] not in self.faults.ignored and await self._keep_finalizer(service):
                await self._reconcile(service)
        known = {service["metadata"]["uid"] for service in services}
        for kind in (DEPLOYMENTS, SERVICES):
            for found in await self.cluster.list(kind):
                if _owner(found) and _owner(found) not in known:
                    await self.cluster.delete(kind, found)

    async def _keep_finalizer(self, service: Body) -> bool:
        """Add the finalizer, or remove it from a service that is being deleted; returns whether it is being deleted."""
        metadata = service["metadata"]
        going, others = "deletionTimestamp" in metadata, [*metadata.get("finalizers", ())]
        has_it = FINALIZER in others
        if going == has_it and not (going and metadata["name"] in self.faults.held):
            wanted = [name for name in others if name != FINALIZER] if going else [*others, FINALIZER]
            # The version that was read is sent along: a patch replaces the whole list, and others add finalizers as well.
            patch = {"metadata": {"finalizers": wanted, "resourceVersion": metadata["resourceVersion"]}}
            await self.cluster.patch(INFERENCE_SERVICES, metadata["namespace"], metadata["name"], patch)
        return not going

    async def _reconcile(self, service: Body) -> None:
        try:
            self.validate(service)
        except ValueError as error:
            self.errors.append(f"{service['metadata']['name']}: {error}")
            return
        namespace = service["metadata"]["namespace"]
        runtime = await self._runtime(namespace, service["spec"]["predictor"]["model"]["runtime"])
        if runtime is None:
            info = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"}
            states = {"activeModelState": "", "targetModelState": "FailedToLoad"}
            model = {"transitionStatus": "InvalidSpec", "states": states, "lastFailureInfo": info}
            await self._report(service, {"modelStatus": model, "conditions": _conditions("False", "", info["message"])})
            return
        deployment = _deployment(service, runtime, await self._storage(service))
        before = await self.cluster.get(DEPLOYMENTS, namespace, deployment["metadata"]["name"])
        if before is not None:
            # Where an autoscaler decides, the Deployment's controller leaves the replicas alone; they stay within the bounds.
            numbers = service["spec"]["predictor"]
            most, least = numbers.get("maxReplicas", 1), numbers.get("minReplicas", 1)
            deployment["spec"]["replicas"] = max(min(before["spec"]["replicas"], most), least)
        live = await self.cluster.apply(DEPLOYMENTS, deployment, owner=OWNER)
        await self.cluster.apply(SERVICES, _service(service, deployment), owner=OWNER)
        labels = {"app": deployment["spec"]["selector"]["matchLabels"]["app"]}
        pods = await self.cluster.list(PODS, namespace, labels)
        await self._report(service, self._status(service, live, pods))

    async def _runtime(self, namespace: str, name: str) -> Body | None:
        found = await self.cluster.get(RUNTIMES, namespace, name)
        return found if found is not None else await self.cluster.get(CLUSTER_RUNTIMES, "", name)

    async def _credentials(self, service: Body) -> list[dict[str, Any]]:
        """Credentials of the storage initializer: from the ServiceAccount's Secrets that hold keys of an S3 storage.

        Secrets without annotations are used as well; requests then go to AWS itself.
        """
        namespace, predictor = service["metadata"]["namespace"], service["spec"]["predictor"]
        account = await self.cluster.get(ACCOUNTS, namespace, predictor.get("serviceAccountName", "default"))
        made: list[dict[str, Any]] = []
        for reference in (account or {}).get("secrets") or ():
            secret = await self.cluster.get(SECRETS, namespace, reference["name"])
            if "AWS_SECRET_ACCESS_KEY" not in (secret or {}).get("data", {}):
                continue
            annotations = (secret or {}).get("metadata", {}).get("annotations") or {}
            if host := annotations.get("serving.kserve.io/s3-endpoint"):
                scheme = "http" if annotations.get("serving.kserve.io/s3-usehttps") == "0" else "https"
                made.append({"name": "AWS_ENDPOINT_URL", "value": f"{scheme}://{host}"})
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                source = {"secretKeyRef": {"name": reference["name"], "key": key}}
                made.append({"name": key, "valueFrom": source})
        return made

    async def _storage(self, service: Body) -> dict[str, Any]:
        """Fields that are merged into the storage initializer; KServe itself gives it no securityContext."""
        name = service["spec"]["predictor"].get("storageContainerName")
        found = await self.cluster.get(STORAGE_CONTAINERS, "", name) if name else None
        given = found["spec"]["container"] if found is not None else {}
        return {**given, "env": await self._credentials(service)}

    def _status(self, service: Body, deployment: Body, pods: Sequence[Body]) -> dict[str, Any]:
        name = service["metadata"]["name"]
        ready, reason, message = _raw_condition(deployment)
        if name in self.faults.ready_while_crashing:
            ready, reason, message = "True", "MinimumReplicasAvailable", ""
        if name in self.faults.stuck:
            ready, reason, message = "False", "", "predictor is not ready"
        host = f"{name}-predictor-{service['metadata']['namespace']}.example.org"
        status: dict[str, Any] = {
            "observedGeneration": (deployment.get("status") or {}).get("observedGeneration", 0),
            "conditions": _conditions(ready, reason, message),
            "deploymentMode": "Standard",
            "clusterServingRuntimeName": service["spec"]["predictor"]["model"]["runtime"],
            "modelStatus": _model_status(service, pods, is_ready=ready == "True"),
            "components": {"predictor": {"url": f"http://{host}"} if ready == "True" else {}},
        }
        return status | ({"url": f"http://{name}.example.org"} if ready == "True" else {})

    async def _report(self, service: Body, status: Mapping[str, Any]) -> None:
        metadata = service["metadata"]
        if metadata["name"] in self.faults.stale or _without_times(service.get("status") or {}) == _without_times(
            status
        ):
            return
        await self.cluster.patch(
            INFERENCE_SERVICES, metadata["namespace"], f"{metadata['name']}/status", {"status": dict(status)}
        )


def _deployment(service: Body, runtime: Body, storage: Body) -> dict[str, Any]:
    """The Deployment of buildPredictorResources and createRawDefaultDeployment."""
    metadata, predictor = service["metadata"], service["spec"]["predictor"]
    name = f"{metadata['name']}-predictor"
    app = f"isvc.{name}"
    labels = {
        **(metadata.get("labels") or {}),
        **(predictor.get("labels") or {}),
        "app": app,
        "component": "predictor",
        "serving.kserve.io/inferenceservice": metadata["name"],
    }
    annotations = {
        **(runtime["spec"].get("annotations") or {}),
        **(metadata.get("annotations") or {}),
        **(predictor.get("annotations") or {}),
    }
    spec = {
        "replicas": predictor.get("minReplicas", 1),
        "selector": {"matchLabels": {"app": app}},
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod(predictor, runtime, storage),
        },
        "strategy": predictor.get("deploymentStrategy") or {"type": "RollingUpdate"},
    }
    made = {"name": name, "namespace": metadata["namespace"], "labels": labels, "ownerReferences": _owned(service)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": made, "spec": spec}


def _pod(predictor: Body, runtime: Body, storage: Body) -> dict[str, Any]:
    model = predictor["model"]
    base = next(each for each in runtime["spec"]["containers"] if each["name"] == CONTAINER)
    container = {
        **base,
        **{name: value for name, value in model.items() if name not in _MODEL_FIELDS},
        "name": CONTAINER,
    }
    volumes = list(predictor.get("volumes") or ())
    mounts = list(container.get("volumeMounts") or ())
    pod = {name: value for name, value in predictor.items() if name not in _PREDICTOR_FIELDS}
    kind, _, place = model["storageUri"].partition("://")
    if kind == "pvc":
        claim, _, path = place.partition("/")
        volumes.append({"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
        mounts.append({"name": "kserve-pvc-source", "mountPath": "/mnt/models", "subPath": path, "readOnly": True})
    else:
        volumes.append({"name": "kserve-provision-location", "emptyDir": {}})
        models = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
        pod["initContainers"] = [
            _storage_initializer(container | {"storageUri": model["storageUri"]}, [*mounts, models], storage)
        ]
        mounts.append(models | {"readOnly": True})
    others = predictor.get("containers") or ()
    return pod | {"containers": [container | {"volumeMounts": mounts}, *others], "volumes": volumes}


def _storage_initializer(container: Body, mounts: Sequence[Body], storage: Body) -> dict[str, Any]:
    """KServe's own image is not available here; ours puts the same files into the same folder."""
    sources = [{"name": "PELAGOS_PACKAGE_URI", "value": container["storageUri"]}]
    command = ["python3", "-m", "pelagos_pipelines.serving.fetch"]
    if not storage["env"]:
        # KServe's own searches for keys wherever botocore does, and fails with botocore's message.
        command = [str(ENVIRONMENTS / "object-storage/bin/python"), "-c", _WITHOUT_KEYS]
        sources.append({"name": "AWS_EC2_METADATA_DISABLED", "value": "true"})
    return {
        "name": "storage-initializer",
        "image": container["image"],
        "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
        "command": command,
        "env": [*container["env"], *sources, *storage["env"]],
        "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
        **{name: value for name, value in storage.items() if name not in ("name", "env")},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": list(mounts),
    }


def _service(service: Body, deployment: Body) -> dict[str, Any]:
    """The Service of createDefaultSvc: the first port of the container becomes port 80."""
    first, *others = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    ports = [{"name": first["name"], "port": 80, "targetPort": first["containerPort"], "protocol": "TCP"}]
    ports += [
        {"name": each["name"], "port": each["containerPort"], "targetPort": each["containerPort"], "protocol": "TCP"}
        for each in others
    ]
    metadata = {key: deployment["metadata"][key] for key in ("name", "namespace", "labels")}
    selector = deployment["spec"]["selector"]["matchLabels"]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata | {"ownerReferences": _owned(service)},
        "spec": {"selector": selector, "ports": ports},
    }


def _raw_condition(deployment: Body) -> tuple[str, str, str]:
    """PropagateRawStatus: status, reason and message of PredictorReady."""
    found = {each["type"]: each for each in (deployment.get("status") or {}).get("conditions") or ()}
    status, reason, message = "False", "", ""
    available, progressing, failure = (found.get(name) for name in ("Available", "Progressing", "ReplicaFailure"))
    if available and available["status"] == "True":
        status, reason, message = "True", available["reason"], available.get("message", "")
    if progressing and progressing["status"] == "True":
        if progressing["reason"] == "NewReplicaSetAvailable":
            status, reason, message = "True", progressing["reason"], progressing.get("message", "")
        elif not available or available["status"] != "True":
            status, reason, message = "Unknown", progressing["reason"], progressing.get("message", "")
    for trouble in (available if available and available["status"] == "False" else None, failure):
        if trouble:
            status, reason, message = "False", trouble["reason"], trouble.get("message", "")
    return status, reason, message


def _model_status(service: Body, pods: Sequence[Body], *, is_ready: bool) -> dict[str, Any]:
    """PropagateModelStatus: the first pod of the list speaks for all."""
    before = (service.get("status") or {}).get("modelStatus") or {}
    made: dict[str, Any] = {"copies": {"failedCopies": 0, "totalCopies": sum(_is_ready(pod) for pod in pods)}}
    states = {"activeModelState": "", **(before.get("states") or {})}
    if not pods:
        target, info = "Pending", None
    elif is_ready:
        target, info = "Loaded", None
        states["activeModelState"] = "Loaded"
    else:
        target, info = _first_pod(pods[0])
    transition = {"Pending": "InProgress", "Loading": "InProgress", "Loaded": "UpToDate"}.get(
        target, "BlockedByFailedLoad"
    )
    info = info or before.get("lastFailureInfo")
    made |= {"transitionStatus": transition, "states": states | {"targetModelState": target}}
    return made | ({"lastFailureInfo": info} if info else {})


def _first_pod(pod: Body) -> tuple[str, dict[str, Any] | None]:
    for each in pod.get("status", {}).get("containerStatuses") or ():
        state = each.get("state") or {}
        ended = state.get("terminated")
        if (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff":
            ended = (each.get("lastState") or {}).get("terminated")
        elif ended and ended.get("reason") != "Error":
            ended = None
        if each["name"] == CONTAINER and ended:
            message = ended.get("message", "")
            return "FailedToLoad", {"reason": "ModelLoadFailed", "message": message, "exitCode": ended["exitCode"]}
    return "Pending", None


def _conditions(ready: str, reason: str, message: str) -> list[dict[str, str]]:
    made = {"status": ready, "lastTransitionTime": now()}
    told = made | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
    return [{"type": "IngressReady"} | made, {"type": "PredictorReady"} | told, {"type": "Ready"} | told]


def _without_times(status: Mapping[str, Any]) -> str:
    conditions = [
        {name: each[name] for name in each if name != "lastTransitionTime"} for each in status.get("conditions", ())
    ]
    return json.dumps(dict(status) | {"conditions": conditions}, sort_keys=True)


def _owned(service: Body) -> list[dict[str, Any]]:
    owner = {"apiVersion": service["apiVersion"], "kind": "InferenceService", "name": service["metadata"]["name"]}
    return [owner | {"uid": service["metadata"]["uid"], "controller": True, "blockOwnerDeletion": False}]


def _owner(body: Body) -> str:
    owners = body["metadata"].get("ownerReferences") or ()
    return str(next((owner["uid"] for owner in owners if owner["kind"] == "InferenceService"), ""))


def _is_ready(pod: Body) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
