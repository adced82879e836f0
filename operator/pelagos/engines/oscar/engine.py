"""Serving on an OSCAR cluster: one exposed service for each ModelService. Called by the reconciler of ModelServices.

A service's name is derived from the uid. It carries the desired service as annotations, and is ours if these have this
installation's seal. It is changed in place, never deleted and created again. OSCAR's report about its deployment is never enough:
the server itself must name the digest that it serves, through the same ingress and with the same login as clients, and then it is
probed.
"""

from __future__ import annotations

import asyncio
import base64
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pelagos.engines.model_server import marks, pod_status
from pelagos.engines.model_server.package import Packages
from pelagos.engines.oscar import manifests, options
from pelagos.engines.oscar.endpoints import Closed, Endpoints
from pelagos.engines.oscar.options import Options
from pelagos.engines.oscar.rest import SYSTEM, ExistsError, OscarRest
from pelagos.engines.triton import probe as model_probe
from pelagos.engines.triton.http_inference import Endpoint
from pelagos.ports.clock import SystemClock
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.owned import Owned
from pelagos.ports.serving import DesiredService, ObservedService, ProbeResult, ServiceState
from pelagos_contract import lone_servers
from pelagos_contract.text import shown

if TYPE_CHECKING:
    from pelagos.ports.authority import Authority
    from pelagos.ports.leadership import Guard
    from pelagos.ports.objects import Objects
    from pelagos.settings import Settings

STOPPED = "stopped"
LOADING_PATIENCE = timedelta(seconds=60)
"""After this a loading server is reported as waiting. OSCAR ends one that is not ready after 180 s; nothing else should."""


@dataclass(frozen=True)
class View:
    """A service that is ours, as OSCAR reports it, and the desired service that it was created for."""

    found: Mapping[str, Any] = field(repr=False)
    """Contains the service's token, so it is left out of repr."""
    want: DesiredService

    @property
    def deployment(self) -> Mapping[str, Any]:
        """State, reason and counts; empty when OSCAR reports none."""
        told = self.found.get("deployment")
        return told if isinstance(told, dict) else {}

    @property
    def state(self) -> str:
        """The deployment's state in OSCAR's terms; "unavailable" when it has none."""
        return str(self.deployment.get("state", "unavailable"))

    @property
    def ready(self) -> int:
        """The number of containers that serve."""
        counts = (self.deployment.get("active_instances"), self.deployment.get("affected_instances"))
        active, affected = (count if isinstance(count, int) else 0 for count in counts)
        return max(active - affected, 0)


class Oscar:
    """Implements Serving with exposed services of OSCAR. ``probe_timeout`` is in seconds."""

    def __init__(
        self,
        rest: OscarRest,
        objects: Objects,
        given: Options,
        authority: Authority,
        *,
        probe_timeout: float = model_probe.TIMEOUT,
    ) -> None:
        self._rest = rest
        self._options = given
        self._authority = authority
        self._packages = Packages(objects)
        self._endpoints = Endpoints(rest.trusted)
        self._probe_timeout = probe_timeout
        self._clock = SystemClock()
        self._created = self._clock.now()
        self._names: dict[str, str] = {}
        self._since: dict[str, tuple[tuple[object, ...], datetime]] = {}
        self._deaths: dict[str, tuple[str, int]] = {}
        self._loading: dict[str, tuple[str, datetime]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def from_settings(cls, settings: Settings, objects: Objects, authority: Authority, guard: Guard) -> Oscar:
        """The engine as configured by ``settings``."""
        rest = OscarRest(options.access(settings), guard=guard)
        return cls(rest, objects, Options.from_settings(settings), authority)

    async def observe(self, uid: str) -> ObservedService | None:
        """The endpoint's present state; None when there is none."""
        view = await self._view(uid)
        if view is None:
            return None
        state, message = await self._look(view)
        endpoint = self._endpoint(view)
        restarts = self._counted(view, state)
        return ObservedService(
            digest=await self._digest(view),
            state=state,
            message=message,
            grpc_url="",
            http_url=endpoint.url,
            metrics_url="",
            onnx_sha256=view.want.onnx_sha256,
            restarts=restarts,
            changed_at=self._changed_at(view, state, restarts),
            replicas=0 if view.state == STOPPED else view.ready,
            pods_digest=view.want.pod_template_digest,
            lacks_room=state is ServiceState.WAITING and view.ready == 0,
            is_stopped=view.state == STOPPED,
            authorization=endpoint.authorization if view.found.get("token") else "",
        )

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All services that are ours, in any namespace; ``namespaces`` is ignored."""
        del namespaces
        found = []
        for service in await self._rest.services():
            want = self._ours(service)
            if want is not None:
                self._names[want.uid] = str(service["name"])
                found.append(Owned(str(service["name"]), want.uid, want.namespace))
        return tuple(found)

    async def apply(self, want: DesiredService) -> None:
        """Create the service, change it in place, or start it again. Returns without waiting for the model."""
        async with self._locks[want.uid]:
            body = await self._wanted(want)
            live = await self._live(want, body["name"])
            if live is None:
                try:
                    await self._rest.create(body)
                except ExistsError:
                    # Another operator of ours, or an earlier request whose answer was lost, was faster.
                    live = await self._live(want, body["name"])
                    if live is None:
                        raise
            self._names[want.uid] = body["name"]
            if live is None:
                return
            if View(live, want).state == STOPPED:
                # Start it before the update: OSCAR has deleted the deployment of a stopped service, and refuses to change it.
                await self._rest.lead(body["name"], "start")
            if _rendered(live) != _rendered(body) or manifests.differs(live, body):
                await self._rest.update(body)

    async def probe(self, uid: str) -> ProbeResult:
        """Send the package's probe image as clients do, and compare with what the training framework answered."""
        view = await self._view(uid)
        if view is None or view.state == STOPPED:
            return ProbeResult(correct=False, message="there is no server to probe", latency=0.0)
        package = await self._packages.find(view.want)
        return await model_probe.probe(self._endpoint(view), view.want, package.known, self._probe_timeout)

    async def restart(self, uid: str) -> None:
        """Have OSCAR replace all containers. No effect when there is none."""
        async with self._locks[uid]:
            view = await self._view(uid)
            if view is not None and view.state != STOPPED:
                await self._rest.lead(str(view.found["name"]), "restart")

    async def retire(self, uid: str) -> None:
        """No effect: endpoints of other engines are not in OSCAR, and are not reported."""

    async def stop(self, uid: str) -> None:
        """Have OSCAR end all containers; the service stays, with its token. No effect when there is none."""
        async with self._locks[uid]:
            view = await self._view(uid)
            if view is not None and view.state != STOPPED:
                await self._rest.lead(str(view.found["name"]), "stop")

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Delete the service; it has no files, and no buckets that OSCAR would delete. No effect when there is none."""
        del keep_files
        async with self._locks[uid]:
            view = await self._view(uid)
            if view is not None:
                await self._rest.delete(str(view.found["name"]))
            self._names.pop(uid, None)
            self._since.pop(uid, None)
            self._deaths.pop(uid, None)
            self._loading.pop(uid, None)
        self._locks.pop(uid, None)

    async def answers(self) -> None:
        """Raise OutageError or RejectedError when OSCAR does not answer, or refuses our login."""
        await self._rest.info()

    async def close(self) -> None:
        """Close all connections. Services keep running."""
        await self._rest.close()
        await self._endpoints.close()

    async def _wanted(self, want: DesiredService) -> dict[str, Any]:
        """The service to send, with its annotations. Raises RejectedError for a missing package, or features that OSCAR lacks."""
        body = manifests.service(want, await self._packages.config(want), self._options)
        # The digest covers a seal of the storage keys instead of the keys, so that it cannot be used to guess them.
        keys = body["environment"].get("secrets", {})
        told = self._authority.seal("oscar-storage-keys", keys) if keys else ""
        marked = manifests.marked(body, want, manifests.digest(body, told))
        sealed = self._authority.seal(manifests.PURPOSE, manifests.claim(marked))
        return marked | {"annotations": marked["annotations"] | {manifests.SEAL: sealed}}

    async def _live(self, want: DesiredService, name: str) -> Mapping[str, Any] | None:
        """Our service of this name; None when there is none. Raises RejectedError rather than touch somebody else's."""
        found = await self._rest.service(name)
        if found is None:
            return None
        known = self._ours(found)
        if known is None or known.uid != want.uid:
            message = (
                f"there is already a service {name} at {self._rest.access.url} that this installation did not create"
            )
            raise RejectedError(SYSTEM, f"{message}; rename the ModelService, or delete that service")
        return found

    async def _view(self, uid: str) -> View | None:
        name = self._names.get(uid)
        if name is None:
            # Do not search by name: anybody can choose a similar one. Ours is the one with our seal.
            for each in await self._rest.services():
                if (known := self._ours(each)) is not None and known.uid == uid:
                    name = str(each["name"])
        found = await self._rest.service(name) if name is not None else None
        want = self._ours(found) if found is not None else None
        if found is None or want is None or want.uid != uid:
            self._names.pop(uid, None)
            return None
        self._names[uid] = str(found["name"])
        return View(found, want)

    def _ours(self, found: Mapping[str, Any]) -> DesiredService | None:
        """The desired service of one that this installation created; None for any other, even with copied annotations."""
        want = manifests.recorded(found)
        if want is None or not str(found.get("name", "")).startswith(manifests.prefix(want.uid)):
            return None
        seal = manifests.annotations_of(found).get(manifests.SEAL)
        return want if self._authority.holds(manifests.PURPOSE, manifests.claim(found), seal) else None

    async def _digest(self, view: View) -> str:
        """The live digest; "" when somebody changed the service, or this version of the operator would write it differently."""
        try:
            body = await self._wanted(view.want)
        except (RejectedError, OutageError):
            # The package may have been deleted. The service that was built from it still serves.
            return view.want.digest
        is_same = _rendered(view.found) == _rendered(body) and not manifests.differs(view.found, body)
        return view.want.digest if is_same else ""

    async def _look(self, view: View) -> tuple[ServiceState, str]:
        reason = shown(str(view.deployment.get("reason", "")))[:300]
        if view.state == STOPPED:
            return ServiceState.ENDED, "it was stopped"
        if view.state in {"ready", "degraded"}:
            state, message = await self._ask(view)
            if state is ServiceState.LOADED and view.state == "degraded":
                return state, message or reason or "some containers do not serve"
            return state, message
        if view.state == "unavailable":
            message = f"OSCAR has no containers for the service {view.found['name']}: {reason or 'it does not say why'}"
            return ServiceState.WAITING, f"{message}. If that lasts, delete it there, and it is created again"
        return await self._why_not(view, reason)

    async def _why_not(self, view: View, reason: str) -> tuple[ServiceState, str]:
        """Why no container of a service is serving: from the last log lines, else from OSCAR's report."""
        lines = await self._rest.logs(str(view.found["name"]))
        ended = next((said for line in reversed(lines) if (said := lone_servers.read(line)) is not None), None)
        if ended is not None:
            what, code = ended
            terminated = {"exitCode": code, "message": "\n".join(each for each in lines if not lone_servers.read(each))}
            words = shown(pod_status.why(terminated))
            if pod_status.is_refusal(terminated):
                return ServiceState.LOAD_FAILED, words
            if what == lone_servers.NOT_FETCHED:
                return ServiceState.FETCH_FAILED, words
            return ServiceState.DEAD, words
        if view.state == "failed":
            return ServiceState.WAITING, f"OSCAR says that its deployment failed: {reason or 'it does not say why'}"
        if not lines:
            waits = "no container has started yet: its image is being pulled, or there is no room for it"
            return ServiceState.WAITING, f"{waits} ({reason})" if reason else waits
        uid, digest, now = view.want.uid, view.want.pod_template_digest, self._clock.now()
        known, since = self._loading.get(uid, ("", now))
        if known != digest:
            since = now
        self._loading[uid] = (digest, since)
        if now - since > LOADING_PATIENCE:
            message = f"the server has been fetching the package and loading the model since {since:%Y-%m-%dT%H:%M:%SZ}"
            return ServiceState.WAITING, f"{message}; OSCAR restarts it if it is not ready after 180 s"
        return ServiceState.STARTING, "the server fetches the package and loads the model"

    async def _ask(self, view: View) -> tuple[ServiceState, str]:
        """The state by the server's own answer: OSCAR knows its containers, but not which model they serve."""
        answer = await self._endpoints.ask(self._endpoint(view), view.want.model_name)
        known = self._since.get(view.want.uid)
        was_loaded = known is not None and known[0][0] is ServiceState.LOADED
        self._loading.pop(view.want.uid, None)
        if isinstance(answer, Closed):
            message = f"the ingress of OSCAR does not accept the operator's token for the service: HTTP {answer.status}"
            return (
                ServiceState.WAITING,
                f"{message}. Check whether PELAGOS_OSCAR_ENDPOINT_LOGIN is what that cluster asks for",
            )
        if isinstance(answer, str):
            where = f"at {self._endpoint(view).url} {answer}"
            if was_loaded:
                # It had loaded the model before, so it is hanging, not loading. Report it as loaded: the probe will find out.
                return ServiceState.LOADED, f"the server does not answer its health check: {where}"
            return ServiceState.STARTING, f"OSCAR says that the server is ready, but {where}"
        if answer.digest != view.want.pod_template_digest:
            return ServiceState.STARTING, "OSCAR says that the server is ready, but it still serves another version"
        return ServiceState.LOADED, ""

    def _endpoint(self, view: View) -> Endpoint:
        """The address for clients, and the login they need: the service's present token."""
        name, token = str(view.found["name"]), str(view.found.get("token", ""))
        url = f"{self._rest.access.url}/system/services/{name}/exposed"
        basic = base64.b64encode(f"{name}:{token}".encode()).decode()
        login = f"Bearer {token}" if self._options.login == "forward" else f"Basic {basic}"
        return Endpoint(url, login, self._rest.access.ca_file)

    def _counted(self, view: View, state: ServiceState) -> int:
        """Deaths that we observed since the desired service last changed, because OSCAR does not count them."""
        uid, digest = view.want.uid, view.want.pod_template_digest
        known, deaths = self._deaths.get(uid, (digest, 0))
        if known != digest:
            deaths = 0
        before = self._since.get(uid)
        was_loaded = before is not None and before[0][:2] == (ServiceState.LOADED, digest)
        if was_loaded and state in {ServiceState.DEAD, ServiceState.STARTING, ServiceState.WAITING}:
            deaths += 1
        self._deaths[uid] = (digest, deaths)
        return deaths

    def _changed_at(self, view: View, state: ServiceState, restarts: int) -> datetime:
        """When this engine first saw the endpoint's present state; for the first one, when the engine started."""
        identity = (state, view.want.pod_template_digest, restarts)
        known = self._since.get(view.want.uid)
        if known is None or known[0] != identity:
            begun = self._created if known is None else self._clock.now()
            known = self._since[view.want.uid] = (identity, begun)
        return known[1]


def _rendered(found: Mapping[str, Any]) -> tuple[object, object]:
    annotations = manifests.annotations_of(found)
    return annotations.get(manifests.RENDERED), annotations.get(marks.WANT_ANNOTATION)
