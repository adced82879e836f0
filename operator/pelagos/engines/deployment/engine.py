"""Serving on a cluster without KServe, by a Deployment and related objects. Called by the reconciler of ModelServices.

See model_server/engine for the code that it shares with the engine kserve, and manifests for the objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from pelagos.api import meta
from pelagos.engines.deployment import manifests
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.model_server import marks, object_kinds, pod_template
from pelagos.engines.model_server.engine import ClusterServing, Manifest, RolloutStatus, Urls, View
from pelagos.engines.model_server.network import POLICIES, network_policy
from pelagos.engines.model_server.object_kinds import AUTOSCALERS, BUDGETS, DEPLOYMENTS, OLD_BUDGETS, SERVICES
from pelagos.engines.model_server.options import SYSTEM, Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.objects import Objects
from pelagos.ports.serving import DesiredService, ServiceState

if TYPE_CHECKING:
    from pelagos.settings import Settings

REPLICAS_OWNER = "pelagos-handover"
"""The field owner of the number of replicas from the request for an autoscaler until the autoscaler has decided."""


class TritonDeployment(ClusterServing):
    """Implements Serving with Deployments. See ClusterServing."""

    main = DEPLOYMENTS
    predecessor_kinds = object_kinds.BY_KSERVE

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        cluster: KubernetesObjects,
        objects: Objects,
        namespace_of: Callable[[str], str | None],
    ) -> TritonDeployment:
        """The engine as configured by ``settings``. See ClusterServing."""
        return cls(cluster, objects, Options.from_settings(settings, objects.uri("")), namespace_of)

    @override
    async def build(self, want: DesiredService, config: str) -> list[Manifest]:
        if want.scaling.mode != "Standard":
            message = f"spec.scaling.deploymentMode: {want.scaling.mode} needs KServe (PELAGOS_SERVING_ENGINE=kserve)"
            raise RejectedError(SYSTEM, f"{message}; use Standard")
        budgets = await self._budgets()
        pieces: list[Manifest] = [
            (POLICIES, network_policy(want, self._options, manifests.name_of(want))),
            (SERVICES, manifests.service(want)),
        ]
        # No budget for a single server: if it were not ready, the budget would keep its node from being drained.
        if want.scaling.maximum > 1:
            pieces.append((budgets, manifests.budget(want, budgets)))
        if manifests.is_scaled(want):
            pieces.append((AUTOSCALERS, manifests.autoscaler(want)))
        return [*pieces, (DEPLOYMENTS, manifests.deployment(want, config, self._options))]

    @override
    async def kinds(self) -> Sequence[Collection]:
        return (DEPLOYMENTS, AUTOSCALERS, SERVICES, await self._budgets(), POLICIES)

    @override
    async def prepare(self, want: DesiredService, live: Body | None) -> None:
        """Keep the number of replicas while an autoscaler takes over: without an owner it would become 1."""
        if live is None or not manifests.is_scaled(want):
            return
        # Server-side apply resets a field to its default when its only owner no longer lists it. Until the autoscaler has
        # written once we are the only owner, so a second field owner of ours holds the present number for that time.
        owners = [
            entry["manager"]
            for entry in live["metadata"].get("managedFields") or ()
            if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        ]
        if owners != [meta.FIELD_MANAGER]:
            return
        name = {"name": live["metadata"]["name"], "namespace": want.namespace}
        kept = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": name}
        await self._cluster.apply(
            DEPLOYMENTS, kept | {"spec": {"replicas": live["spec"]["replicas"]}}, owner=REPLICAS_OWNER
        )

    @override
    async def told(self, view: View) -> RolloutStatus:
        status, metadata = view.main.get("status") or {}, view.main["metadata"]
        if status.get("observedGeneration", 0) < metadata["generation"]:
            return RolloutStatus(done=False, message="the cluster has not processed the change yet")
        conditions = {each["type"]: each for each in status.get("conditions") or ()}
        failure = conditions.get("ReplicaFailure", {})
        if failure.get("status") == "True":
            return RolloutStatus(
                done=False, state=ServiceState.WAITING, message=f"no pod can be created: {failure.get('message', '')}"
            )
        # Done when no pods from before the change are left; how many there should be is up to the cluster.
        done = status.get("updatedReplicas", 0) == status.get("replicas", 0) > 0
        return RolloutStatus(done=done)

    @override
    def made(self, pod: Body) -> bool:
        return marks.INFERENCE_SERVICE_LABEL not in (pod["metadata"].get("labels") or {})

    @override
    def service_name(self, main: Body) -> str:
        return str(main["metadata"]["name"])

    @override
    def urls(self, main: Body, service: Body | None) -> Urls:
        if service is None:
            return Urls()
        host = f"{main['metadata']['name']}.{main['metadata']['namespace']}.svc"
        return Urls(
            grpc=f"{host}:{pod_template.GRPC}",
            http=f"http://{host}:{pod_template.HTTP}",
            metrics=f"http://{host}:{pod_template.METRICS}/metrics",
        )

    @override
    def restarting(self, view: View, count: str) -> dict[str, Any]:
        annotations = {"annotations": {marks.RESTARTS_ANNOTATION: count}}
        return {"metadata": annotations, "spec": {"template": {"metadata": annotations}}}

    async def _budgets(self) -> Collection:
        return BUDGETS if await self._cluster.serves(BUDGETS) else OLD_BUDGETS
