"""The common base of the engines that serve on a cluster: find, judge, write only what differs, probe, restart, remove.

The engines deployment and kserve add which objects an endpoint consists of, and how to read their controller's status. The main
object of an endpoint carries the desired service as annotations; every object carries its uid as a label. A controller's report
that all is well is never enough: the server itself must name the digest that it serves, and then it is probed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from pelagos.api import meta
from pelagos.engines.kubernetes import comparing
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.model_server import ending, marks, network, pod_status, reaching
from pelagos.engines.model_server.handover import Predecessor, Predecessors
from pelagos.engines.model_server.object_kinds import SERVICES
from pelagos.engines.model_server.options import SYSTEM, Options
from pelagos.engines.model_server.ownership import is_owned, uid_of
from pelagos.engines.model_server.package import Packages
from pelagos.engines.model_server.reaching import Addresses, TritonHttpClient
from pelagos.engines.triton import probe as model_probe
from pelagos.ports.clock import SystemClock
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.objects import Objects
from pelagos.ports.owned import Owned
from pelagos.ports.serving import DesiredService, ObservedService, ProbeResult, ServiceState

RENDERED_ANNOTATION = "pelagos.dev/rendered"
"""Digest of the object as last applied. It shows that a field which is no longer wanted must be removed."""
COMPARED_EVERY = 60.0
"""Seconds between two comparisons of all live objects with those that were applied."""
NOBODY = "00000000-0000-0000-0000-000000000000"
"""A uid that no resource has, to check whether we have the right to list."""
PODS = Collection("v1", "Pod", "pods")
_LOOKS, _LOOKED_EVERY = 10, 0.3
"""How often, and after how many seconds each, a deletion is checked for completion."""
_OLD_SERVED = "; the old version is still served"
_NO_ROOM = ". Where there is no room for one more server, spec.rollout.order: OldFirst ends an old one first"

Manifest = tuple[Collection, dict[str, Any]]


@dataclass(frozen=True)
class RolloutStatus:
    """The controller's status. ``done``: the desired service is rolled out; otherwise ``state`` and ``message`` say more."""

    done: bool
    state: ServiceState = ServiceState.STARTING
    message: str = ""


@dataclass(frozen=True)
class Urls:
    """The addresses for clients; each "" when unknown."""

    grpc: str = ""
    http: str = ""
    metrics: str = ""


@dataclass(frozen=True)
class View:
    """An endpoint as it is now; ``pods`` are all with its uid, except those of another engine, which are in ``others``."""

    main: Body
    want: DesiredService
    pods: Sequence[Body]
    others: Sequence[Body] = ()

    @property
    def current(self) -> list[Body]:
        """Pods of the desired service, created since the last requested restart."""
        wanted = marks.annotation(self.main, marks.RESTARTS_ANNOTATION)
        same = pod_status.of_digest(self.pods, self.want.pod_template_digest)
        return [pod for pod in same if marks.annotation(pod, marks.RESTARTS_ANNOTATION) == wanted]

    @property
    def ready(self) -> list[Body]:
        """Current pods that serve."""
        return [pod for pod in self.current if pod_status.is_ready(pod)]

    @property
    def is_short(self) -> bool:
        """Whether fewer pods are ready than wanted. Never for Knative, which scales by requests itself."""
        return self.want.scaling.mode == "Standard" and len(self.ready) < self.want.scaling.minimum

    @property
    def old_ready(self) -> list[Body]:
        """Pods that still serve but are of an earlier version or restart."""
        current = {pod["metadata"]["uid"] for pod in self.current}
        return [pod for pod in self.pods if pod["metadata"]["uid"] not in current and pod_status.is_ready(pod)]


class ClusterServing(ABC):
    """Implements Serving. ``namespace_of`` maps a resource's uid to its namespace; ``probe_timeout`` is in seconds.

    Anybody can write labels and annotations in their own namespace. So an endpoint is looked for only in the namespace of its
    ModelService, and counts only when the ModelService owns it.
    """

    main: Collection
    """Kind of the object that carries the desired service."""
    predecessor_kinds: Sequence[Collection]
    """Kinds that only another engine creates, its main one first."""

    def __init__(
        self,
        cluster: KubernetesObjects,
        objects: Objects,
        options: Options,
        namespace_of: Callable[[str], str | None],
        *,
        probe_timeout: float = model_probe.TIMEOUT,
    ) -> None:
        self._cluster = cluster
        self._options = options
        self._namespace_of = namespace_of
        self._predecessors = Predecessors(cluster, self.predecessor_kinds)
        self._packages = Packages(objects)
        self._talk = TritonHttpClient()
        self._probe_timeout = probe_timeout
        self._clock = SystemClock()
        self._created = self._clock.now()
        self._places: dict[str, tuple[str, str]] = {}
        self._since: dict[str, tuple[tuple[object, ...], datetime]] = {}
        self._accepted: dict[str, tuple[str, float]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @abstractmethod
    async def build(self, want: DesiredService, config: str) -> list[Manifest]:
        """All objects of an endpoint, the main one last. Raises RejectedError for features that cluster or engine lacks."""

    @abstractmethod
    async def kinds(self) -> Sequence[Collection]:
        """Kinds of objects that endpoints consist of, the main one first."""

    @abstractmethod
    async def told(self, view: View) -> RolloutStatus:
        """The controller's status of an endpoint."""

    @abstractmethod
    def made(self, pod: Body) -> bool:
        """Whether a ModelService's pod was created through this engine, and not through one that was configured before."""

    @abstractmethod
    def service_name(self, main: Body) -> str:
        """The name of the Service in front of the pods."""

    @abstractmethod
    def urls(self, main: Body, service: Body | None) -> Urls:
        """The addresses for clients."""

    @abstractmethod
    def restarting(self, view: View, count: str) -> dict[str, Any]:
        """A merge patch for the main object that makes the controller replace all pods; ``count`` is their new annotation."""

    def left_out(self, view: View) -> pod_status.Problem | None:
        """Something that the controller failed to add to the pods; checked first, as other problems follow from it."""
        del view
        return None

    async def prepare(self, want: DesiredService, live: Body | None) -> None:  # noqa: B027 - most need nothing
        """Called before the objects are written; ``live`` is the main object as it is now."""

    def recorded(self, main: Body) -> DesiredService | None:
        """The desired service that the main object was created for; None when it does not say."""
        return marks.recorded(main)

    def restarting_parts(self, body: dict[str, Any]) -> dict[str, Any]:
        """The part of an object whose change may replace pods; only this goes into its digest annotation.

        For engines whose annotations end up on pods: there the rest must be able to change without replacing any.
        """
        return body

    async def observe(self, uid: str) -> ObservedService | None:
        """The endpoint's present state; None when there is none."""
        main = await self._main(uid)
        view = await self._view_of(uid, main)
        namespace = self._namespace(uid)
        predecessor = await self._predecessors.find(uid, namespace) if namespace else Predecessor()
        if view is None:
            going = ending.words(self.main, main) if main is not None and ending.is_going(main) else ""
            return _without_own(predecessor, going, self._created) if predecessor.names or going else None
        service = await self._service(view)
        state, message = await self._look(view, service)
        restarts = marks.restarts(view.main) + pod_status.deaths(view.current)
        urls = self.urls(view.main, service)
        return ObservedService(
            digest=await self._digest(view),
            state=state,
            message=message,
            predecessor=predecessor.names,
            predecessor_held=predecessor.held,
            lacks_room=state is ServiceState.WAITING and pod_status.lack_room(view.current, message),
            grpc_url=urls.grpc,
            http_url=urls.http,
            metrics_url=urls.metrics,
            onnx_sha256=view.want.onnx_sha256,
            restarts=restarts,
            changed_at=self._changed_at(view, state, restarts),
            replicas=len(view.ready),
            pods_digest=view.want.pod_template_digest,
            pod_selector=network.pod_selector(view.want),
        )

    async def owned(self, namespaces: Iterable[str]) -> tuple[Owned, ...]:
        """All endpoints in the namespaces: main objects with a uid label that a ModelService owns."""
        found = []
        for namespace in sorted(namespaces):
            for body in await self._cluster.list(self.main, namespace, {meta.UID_LABEL: ""}):
                uid, name = uid_of(body), str(body["metadata"]["name"])
                if uid and is_owned(body, uid):
                    self._places[uid] = (namespace, name)
                    made = datetime.fromisoformat(body["metadata"]["creationTimestamp"])
                    found.append(Owned(name, uid, namespace, made))
        return tuple(found)

    async def apply(self, want: DesiredService) -> None:
        """Write all objects that are not as desired. Returns without waiting for the model."""
        async with self._locks[want.uid]:
            pieces = await self._wanted(want)
            # Read all of them before writing the first: a refusal half-way would leave an endpoint that is neither old nor new.
            live = await self._owned_by(want, pieces)
            self._accepted.pop(want.uid, None)
            main: Body | None = pieces[-1][1]
            self._places[want.uid] = (want.namespace, pieces[-1][1]["metadata"]["name"])
            await self.prepare(want, live[-1])
            # The main object comes last (build). It carries the desired service, so after an interruption the endpoint still
            # names the old one, and everything is written again.
            for (kind, body), found in zip(pieces, live, strict=True):
                if comparing.holds(found, body):
                    main = found
                else:
                    main = await self._cluster.apply(kind, body)
            # Delete only now: objects of the earlier version serve until the new ones exist.
            for kind, found in await self._left_over(want, pieces):
                await self._cluster.delete(kind, found)
            # Changes by others to our objects, such as by an admission webhook, are accepted.
            self._accepted[want.uid] = (_state_of(main), monotonic())

    async def probe(self, uid: str) -> ProbeResult:
        """Send the package's probe image and compare with what the training framework answered."""
        view = await self._view(uid)
        addresses = self._addresses(view, await self._service(view)) if view is not None else None
        if view is None or addresses is None:
            return ProbeResult(correct=False, message="there is no server to probe", latency=0.0)
        package = await self._packages.find(view.want)
        return await model_probe.probe(addresses.grpc, view.want, package.known, self._probe_timeout)

    async def retire(self, uid: str) -> None:
        """Delete what another engine created for the resource. No effect when there is nothing."""
        namespace = self._namespace(uid)
        if namespace:
            await self._predecessors.remove(uid, namespace)

    async def restart(self, uid: str) -> None:
        """Replace all pods. A single one is ended first, as there may be no room for two. No effect when there is none."""
        async with self._locks[uid]:
            view = await self._view(uid)
            if view is None or (view.old_ready and not view.current) or (view.current and not view.ready):
                # A replacement was requested before and has not started yet, or is starting: its probes watch it.
                return
            count = f"{marks.restarts(view.main) + 1} {view.want.pod_template_digest}"
            await self._cluster.patch(self.main, *self._places[uid], self.restarting(view, count))
            # A rolling update ends the old pod only after the new one is ready, and a full cluster has no room for both.
            if len(view.ready) <= 1:
                for pod in view.current:
                    await self._cluster.delete(PODS, pod)

    async def stop(self, uid: str) -> None:
        """Delete the endpoint: on a cluster there is nothing to keep for a later start."""
        await self.remove(uid)

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Delete all objects of the uid; there are no files. No effect when there are none.

        Raises UnfinishedError, later OutageError, while the main object waits for a finalizer: its servers still run then.
        """
        del keep_files
        async with self._locks[uid]:
            namespace = self._namespace(uid)
            self._places.pop(uid, None)
            # The namespace is unknown only if the ModelService no longer exists; then the cluster collects its objects.
            for kind in await self.kinds() if namespace else ():
                for found in await self._cluster.list(kind, namespace, {meta.UID_LABEL: uid}):
                    if is_owned(found, uid):
                        await self._cluster.delete(kind, found)
            if namespace:
                await self._predecessors.remove(uid, namespace)
                await self._require_gone(uid, namespace)
            self._predecessors.forget(uid)
            self._since.pop(uid, None)
            self._accepted.pop(uid, None)
        self._locks.pop(uid, None)

    async def answers(self) -> None:
        """Raise OutageError or RejectedError when the API server does not serve the main kind, or does not let us list it."""
        if not await self._cluster.serves(self.main):
            message = f"the API server does not serve {self.main.kind} ({self.main.api_version})"
            raise RejectedError(SYSTEM, f"{message}: install what does, or choose another serving engine")
        # Without it our rights are per tenant namespace, and each resource reports its own.
        if self._options.namespace:
            await self._cluster.list(self.main, self._options.namespace, {meta.UID_LABEL: NOBODY})

    async def close(self) -> None:
        """Close connections to model servers, which keep running."""
        await self._talk.close()

    async def _wanted(self, want: DesiredService) -> list[Manifest]:
        """All desired objects, each with a digest of itself, by which a live one with fields that must go is recognized."""
        pieces = []
        for kind, body in await self.build(want, await self._packages.config(want)):
            text = json.dumps(self.restarting_parts(body), sort_keys=True, ensure_ascii=False)
            annotations = body["metadata"].get("annotations", {}) | {
                RENDERED_ANNOTATION: hashlib.sha256(text.encode()).hexdigest()[:16]
            }
            pieces.append((kind, body | {"metadata": body["metadata"] | {"annotations": annotations}}))
        return pieces

    async def _view(self, uid: str) -> View | None:
        return await self._view_of(uid, await self._main(uid))

    async def _require_gone(self, uid: str, namespace: str) -> None:
        """Wait for deletions, as long as a pass may take. Raises UnfinishedError, later OutageError; see `ending`."""
        for kind in (self.main, self.predecessor_kinds[0]):
            if not await self._cluster.serves(kind):
                continue
            for _ in range(_LOOKS):
                listed = await self._cluster.list(kind, namespace, {meta.UID_LABEL: uid})
                left = [found for found in listed if is_owned(found, uid)]
                if not left:
                    break
                await asyncio.sleep(_LOOKED_EVERY)
            else:
                raise ending.unfinished(kind, left[0], self._clock)

    async def _main(self, uid: str) -> Body | None:
        """The main object, even while it is being deleted; None when there is none."""
        namespace, place = self._namespace(uid), self._places.get(uid)
        if not namespace:
            return None
        # Read by name if that is known: listing by label makes the API server go through all objects of the namespace.
        if place is not None and place[0] == namespace:
            one = await self._cluster.get(self.main, *place)
            listed = [one] if one is not None else []
        else:
            listed = await self._cluster.list(self.main, namespace, {meta.UID_LABEL: uid})
        main = next((body for body in listed if uid_of(body) == uid and is_owned(body, uid)), None)
        if main is None:
            self._places.pop(uid, None)
            return None
        self._places[uid] = (namespace, main["metadata"]["name"])
        return main

    async def _view_of(self, uid: str, main: Body | None) -> View | None:
        want = self.recorded(main) if main is not None and not ending.is_going(main) else None
        if main is None or want is None:
            return None
        # Annotations can be copied with an object. Ignore those that name another resource.
        if (want.uid, want.namespace) != (uid, main["metadata"]["namespace"]):
            return None
        pods = await self._cluster.list(PODS, main["metadata"]["namespace"], {meta.UID_LABEL: uid})
        own = [pod for pod in pods if self.made(pod)]
        return View(main, want, own, [pod for pod in pods if pod not in own])

    async def _service(self, view: View) -> Body | None:
        return await self._cluster.get(SERVICES, view.want.namespace, self.service_name(view.main))

    def _namespace(self, uid: str) -> str:
        """The endpoint's namespace, whether or not it exists; "" when unknown."""
        return self._namespace_of(uid) or self._places.get(uid, ("", ""))[0]

    async def _digest(self, view: View) -> str:
        """The live digest; "" when somebody changed the objects, or this version of the operator would write them differently."""
        is_known = view.want.uid in self._accepted
        accepted, at = self._accepted.get(view.want.uid, ("", 0.0))
        if accepted == _state_of(view.main) and monotonic() - at < COMPARED_EVERY:
            return view.want.digest
        try:
            pieces = await self._wanted(view.want)
        except (RejectedError, OutageError):
            # The package may have been deleted. Objects that were built from it still serve.
            return view.want.digest
        for kind, body in pieces:
            is_main = kind == self.main
            found = (
                view.main if is_main else await self._cluster.get(kind, view.want.namespace, body["metadata"]["name"])
            )
            if not comparing.holds(found, body) and not (is_main and accepted == _state_of(view.main)):
                return ""
        # Objects left by an interrupted change, or by an earlier release that created more of them, also call for a new apply.
        if not is_known and await self._left_over(view.want, pieces):
            return ""
        self._accepted[view.want.uid] = (_state_of(view.main), monotonic())
        return view.want.digest

    async def _left_over(self, want: DesiredService, pieces: Sequence[Manifest]) -> list[tuple[Collection, Body]]:
        """Objects of this engine for the resource that are not in ``pieces``, such as an autoscaler that would fight them."""
        kept = {(kind.plural, body["metadata"]["name"]) for kind, body in pieces}
        return [
            (kind, found)
            for kind in await self.kinds()
            for found in await self._cluster.list(kind, want.namespace, {meta.UID_LABEL: want.uid})
            if is_owned(found, want.uid) and (kind.plural, found["metadata"]["name"]) not in kept
        ]

    async def _look(self, view: View, service: Body | None) -> tuple[ServiceState, str]:
        told = await self.told(view)
        if told.state is ServiceState.IDLE:
            return told.state, told.message
        # Three conditions before the server itself is asked: the controller reports done, current pods are ready, and no old
        # ones are. A controller does not report done with fewer servers than wanted, yet the ready ones serve.
        if (told.done or view.is_short) and view.ready and not view.old_ready:
            state, message = await self._ask(view, service)
            return state, message or self._missing(view, told)
        stays = _OLD_SERVED if view.old_ready else ""
        found = self.left_out(view) or pod_status.problem(view.current, self._now)
        if found is not None:
            # The nodes have room for as many servers as there are, but not for one more.
            full = stays and not view.want.scaling.old_first and pod_status.is_unplaceable(view.current)
            return found.state, found.message + stays + (_NO_ROOM if full else "")
        if told.message:
            return told.state, told.message + stays
        return ServiceState.STARTING, f"the server starts and loads the model{stays}"

    def _missing(self, view: View, told: RolloutStatus) -> str:
        """Why there are fewer servers than wanted; "" when there are enough."""
        if not view.is_short:
            return ""
        found = pod_status.problem(view.current, self._now)
        return found.message if found is not None else told.message or "the others start"

    def _now(self, pod: Body) -> datetime:
        """The present time by the cluster's clock, estimated from the pod's creation; see ports.clock."""
        made = pod_status.created(pod)
        if made is None:
            return self._clock.now()
        return made + self._clock.age(pod["metadata"].get("uid"), made)

    async def _ask(self, view: View, service: Body | None) -> tuple[ServiceState, str]:
        addresses = self._addresses(view, service)
        answer = await self._talk.ask(addresses, view.want.model_name) if addresses else None
        if answer is None:
            known = self._since.get(view.want.uid)
            if known is not None and known[0][0] is ServiceState.LOADED:
                # It had loaded the model before, so it is hanging, not loading. Report it as loaded: the probe will find out.
                return ServiceState.LOADED, "the server does not answer its health check"
            where = addresses.http if addresses else "any address"
            message = f"the cluster says that the server is ready, but it does not answer the operator at {where}"
            return ServiceState.STARTING, f"{message}: a NetworkPolicy may be in the way"
        if not answer.ready:
            return ServiceState.STARTING, "the server loads the model"
        # A Service routes to any pod, and an ending one may still answer.
        if answer.digest != view.want.pod_template_digest:
            return (
                ServiceState.STARTING,
                "the cluster says that the server is ready, but it still serves another version",
            )
        return ServiceState.LOADED, ""

    def _addresses(self, view: View, service: Body | None) -> Addresses | None:
        # A Service may also route to another engine's pods, which serve the same model: their answer would prove nothing.
        is_alone = not any(pod_status.is_ready(pod) for pod in view.others)
        found = reaching.through_service(service) if is_alone and self._options.reach == "service" else None
        if found is None and view.ready:
            found = reaching.through_pod(view.ready[0])
        return found

    def _changed_at(self, view: View, state: ServiceState, restarts: int) -> datetime:
        """When this engine first saw the present state; for the first one, its own start or the object's creation if later."""
        uid = view.want.uid
        identity = (state, view.want.pod_template_digest, restarts, view.main["metadata"]["uid"])
        known = self._since.get(uid)
        if known is None or known[0] != identity:
            made = datetime.fromisoformat(view.main["metadata"]["creationTimestamp"])
            begun = max(made, self._created) if known is None else self._clock.now()
            known = self._since[uid] = (identity, begun)
        return known[1]

    async def _owned_by(self, want: DesiredService, pieces: Sequence[Manifest]) -> list[Body | None]:
        """The live objects for ``pieces``, None for missing ones. Raises rather than overwrite somebody else's object."""
        live: list[Body | None] = []
        for kind, body in pieces:
            found = await self._cluster.get(kind, want.namespace, body["metadata"]["name"])
            live.append(found)
            if found is None:
                continue
            if uid_of(found) not in (want.uid, ""):
                raise OutageError(SYSTEM, f"{_words(kind, body)} of an earlier ModelService is still being deleted")
            if not uid_of(found):
                message = f"there is already a {_words(kind, body)} that Pelagos did not create"
                raise RejectedError(SYSTEM, f"{message}; rename the ModelService, or delete that object")
            if ending.is_going(found):
                raise OutageError(SYSTEM, f"{ending.words(kind, found)}. It is created again when that is done")
        return live


def _without_own(predecessor: Predecessor, message: str, since: datetime) -> ObservedService:
    """The state when all objects of this engine are being deleted, or none exist; another engine's endpoint may still serve."""
    return ObservedService(
        digest="",
        state=ServiceState.STARTING,
        message=message,
        predecessor=predecessor.names,
        predecessor_held=predecessor.held,
        grpc_url="",
        http_url="",
        metrics_url="",
        onnx_sha256="",
        restarts=0,
        changed_at=since,
        replicas=0,
    )


def _state_of(body: Body | None) -> str:
    """A fingerprint that changes with every write to the object except to its status."""
    metadata = (body or {}).get("metadata", {})
    kept = [metadata.get("generation"), metadata.get("labels"), metadata.get("annotations")]
    return json.dumps([metadata.get("uid"), *kept], sort_keys=True)


def _words(kind: Collection, body: Body) -> str:
    return f"{kind.kind} {body['metadata']['name']} in namespace {body['metadata']['namespace']}"
