"""Serving through KServe: one InferenceService for each ModelService. Called by the reconciler of ModelServices.

See model_server/engine for the code shared with deployment. KServe's status is not taken at face value. Some releases report
``Ready`` while pods crash, and ``status.observedGeneration`` is that of the Deployment below, not of the InferenceService
(PropagateRawStatus), so it says nothing about our change. A change has arrived when ready pods carry its digest, no others are
left, and the server itself names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from typing_extensions import override

from pelagos.api import reasons
from pelagos.engines.kserve import manifests
from pelagos.engines.kserve.manifests import (
    CLUSTER_RUNTIMES,
    KNATIVE,
    RUNTIME,
    RUNTIMES,
    STORAGE_CONTAINER,
    STORAGE_CONTAINERS,
)
from pelagos.engines.kubernetes import served_kinds
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.model_server import marks, object_kinds, pod_status, pod_template, reaching, storage_initializer
from pelagos.engines.model_server.engine import ClusterServing, Manifest, RolloutStatus, Urls, View
from pelagos.engines.model_server.network import POLICIES, network_policy
from pelagos.engines.model_server.object_kinds import INFERENCE_SERVICES
from pelagos.engines.model_server.options import Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.objects import Objects
from pelagos.ports.serving import DesiredService, ServiceState

if TYPE_CHECKING:
    from pelagos.settings import Settings

SYSTEM = "KServe"
NO_KSERVE = f"this cluster has no {manifests.API_VERSION}: install KServe, or set PELAGOS_SERVING_ENGINE=deployment"
NO_RUNTIME = f"there is no runtime {RUNTIME}: {served_kinds.APPLY} manifests/overlays/kserve"
_NO_INITIALIZER = (
    "KServe has put no init container {name} into pod {pod}, so that it has no package: the MutatingWebhookConfiguration "
    "inferenceservice.serving.kserve.io did not exist when the pod was created. Install all of KServe, then delete the pod"
)
_REFUSED_INITIALIZER = re.compile(rf'PodSecurity .*container "{storage_initializer.NAME}"', re.S)
_UNRESTRICTED = (
    f"KServe gives its storage initializer no securityContext: the ClusterStorageContainer {STORAGE_CONTAINER} does "
    f"({served_kinds.APPLY} manifests/overlays/kserve)"
)
_INVALID = frozenset({"RuntimeDisabled", "NoSupportingRuntime", "RuntimeNotRecognized", "InvalidPredictorSpec"})


class Kserve(ClusterServing):
    """Implements Serving with InferenceServices. See ClusterServing."""

    main = INFERENCE_SERVICES
    predecessor_kinds = object_kinds.BY_DEPLOYMENT

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        cluster: KubernetesObjects,
        objects: Objects,
        namespace_of: Callable[[str], str | None],
    ) -> Kserve:
        """The engine as configured by ``settings``. See ClusterServing."""
        return cls(cluster, objects, Options.from_settings(settings, objects.uri("")), namespace_of)

    @override
    async def build(self, want: DesiredService, config: str) -> list[Manifest]:
        if not await self._cluster.serves(INFERENCE_SERVICES):
            raise RejectedError(SYSTEM, NO_KSERVE, reason=reasons.SERVING_NOT_INSTALLED)
        if not await self._has_runtime(want.namespace):
            raise RejectedError(SYSTEM, NO_RUNTIME, reason=reasons.SERVING_NOT_INSTALLED)
        policy = network_policy(want, self._options, manifests.name_of(want))
        named = await self._has_storage_container()
        made = manifests.inference_service(want, config, self._options, storage_container=named)
        return [(POLICIES, policy), (INFERENCE_SERVICES, made)]

    @override
    async def kinds(self) -> Sequence[Collection]:
        """Objects that KServe creates from them are deleted with them."""
        return (INFERENCE_SERVICES, POLICIES)

    @override
    async def told(self, view: View) -> RolloutStatus:
        status = view.main.get("status") or {}
        conditions = {each["type"]: each for each in status.get("conditions") or ()}
        if not conditions:
            return RolloutStatus(done=False, message="KServe has not processed it yet; is its controller running?")
        failure = _failure(status, view)
        if failure is not None:
            return failure
        if conditions.get("Stopped", {}).get("status") == "True":
            message = "it was stopped by the annotation serving.kserve.io/stop of the InferenceService; remove it"
            return RolloutStatus(done=False, state=ServiceState.WAITING, message=message)
        # Checked after Stopped: a stopped service is not ready either, and the message above says what to do about it.
        if conditions.get("Ready", {}).get("status") != "True":
            unready = conditions.get("PredictorReady", {})
            message = str(unready.get("message") or conditions.get("Ready", {}).get("message") or "")
            if unready.get("reason") == "FailedCreate":
                advice = f". {_UNRESTRICTED}" if _REFUSED_INITIALIZER.search(message) else ""
                told = f"no pod can be created: {message}{advice}"
                return RolloutStatus(done=False, state=ServiceState.WAITING, message=told)
            return RolloutStatus(done=False, message=f"KServe: {message}" if message else "")
        predictor = (status.get("components") or {}).get("predictor") or {}
        created, ready = (str(predictor.get(f"latest{which}Revision") or "") for which in ("Created", "Ready"))
        if view.want.scaling.mode == KNATIVE and created != ready:
            return RolloutStatus(done=False, message=f"KServe: revision {created or '(none)'} is not ready yet")
        may_idle = view.want.scaling.mode == KNATIVE and view.want.scaling.minimum == 0
        if may_idle and not [pod for pod in view.pods if not pod_status.is_ending(pod)]:
            return RolloutStatus(done=True, state=ServiceState.IDLE)
        return RolloutStatus(done=True)

    @override
    def recorded(self, main: Body) -> DesiredService | None:
        return manifests.recorded(main)

    @override
    def restarting_parts(self, body: dict[str, Any]) -> dict[str, Any]:
        return manifests.without_numbers(body) if body["kind"] == INFERENCE_SERVICES.kind else body

    @override
    def made(self, pod: Body) -> bool:
        return marks.INFERENCE_SERVICE_LABEL in (pod["metadata"].get("labels") or {})

    @override
    def service_name(self, main: Body) -> str:
        return manifests.predictor_name(main["metadata"]["name"])

    @override
    def urls(self, main: Body, service: Body | None) -> Urls:
        """Knative's gateway serves all services on one port, and tells them apart by host."""
        status = main.get("status") or {}
        predictor = (status.get("components") or {}).get("predictor") or {}
        url = str(predictor.get("grpcUrl") or predictor.get("url") or "")
        if (main["metadata"].get("annotations") or {}).get("serving.kserve.io/deploymentMode") == KNATIVE:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            return Urls(grpc=f"{parts.hostname}:{port}", http=url) if parts.hostname else Urls()
        if service is None:
            return Urls()
        host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
        http, grpc, metrics = (reaching.port(service, port) for _, port in pod_template.PORTS)
        return Urls(
            grpc=f"{host}:{grpc}" if grpc else "",
            http=f"http://{host}:{http}" if http else "",
            metrics=f"http://{host}:{metrics}/metrics" if metrics else "",
        )

    @override
    def left_out(self, view: View) -> pod_status.Problem | None:
        """A pod that was created while KServe's webhook was missing never gets its package."""
        model = view.main["spec"]["predictor"]["model"]
        if str(model.get("storageUri", "")).startswith("pvc://"):
            return None
        for pod in view.current:
            # Check for any init container: a ClusterStorageContainer may give it another name.
            if not pod_status.is_ending(pod) and not pod.get("spec", {}).get("initContainers"):
                message = _NO_INITIALIZER.format(pod=pod_status.name(pod), name=storage_initializer.NAME)
                return pod_status.Problem(ServiceState.FETCH_FAILED, message)
        return None

    @override
    def restarting(self, view: View, count: str) -> dict[str, Any]:
        """KServe copies an InferenceService's annotations to its pods, which replaces them."""
        return {"metadata": {"annotations": {marks.RESTARTS_ANNOTATION: count}}}

    async def _has_runtime(self, namespace: str) -> bool:
        if await self._cluster.get(RUNTIMES, namespace, RUNTIME) is not None:
            return True
        try:
            return await self._cluster.get(CLUSTER_RUNTIMES, "", RUNTIME) is not None
        except RejectedError:
            # An operator of one namespace may not read cluster-wide objects. If it is missing, KServe will report that.
            return True

    async def _has_storage_container(self) -> bool:
        try:
            return await self._cluster.get(STORAGE_CONTAINERS, "", STORAGE_CONTAINER) is not None
        except RejectedError:
            # An operator of one namespace may not read it. If namespaces refuse pods for lack of it, KServe will report that.
            return False


def _failure(status: Mapping[str, Any], view: View) -> RolloutStatus | None:
    """A refusal by KServe itself. For a container that ended, the pods say more than KServe does, as long as there are any."""
    model = status.get("modelStatus") or {}
    info = model.get("lastFailureInfo") or {}
    reason, message = str(info.get("reason", "")), str(info.get("message", ""))
    if model.get("transitionStatus") == "InvalidSpec" and reason in _INVALID:
        if reason == "RuntimeNotRecognized":  # Installing the runtime resolves this without a change of the resource.
            return RolloutStatus(done=False, state=ServiceState.WAITING, message=f"{reason}: {message}. {NO_RUNTIME}")
        return RolloutStatus(done=False, state=ServiceState.LOAD_FAILED, message=f"{reason}: {message}")
    target = (model.get("states") or {}).get("targetModelState")
    if target == "FailedToLoad" and not view.pods:
        message = pod_status.why(info) if info else "KServe gives no reason"
        return RolloutStatus(done=False, state=ServiceState.LOAD_FAILED, message=message)
    return None
