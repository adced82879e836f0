"""An inference server in memory. For tests of reconcilers; passes the same contract tests as the engine of local Triton servers.

A model is loaded as soon as it is applied, unless ``automatic`` is False: then a test calls ``finish_loading``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from pelagos.api import meta, reasons
from pelagos.ports.errors import OutageError, RejectedError, UnboundError
from pelagos.ports.owned import Owned
from pelagos.ports.serving import DesiredService, ObservedService, ProbeResult, ServiceState

_LONG_AGO = datetime.fromtimestamp(0, UTC)


@dataclass
class _Service:
    want: DesiredService
    state: ServiceState
    port: int
    message: str = ""
    restarts: int = 0
    broken: bool = False
    changed_at: datetime = _LONG_AGO


class ServingFake:
    """Implements Serving. ``outage`` makes every call fail; ``started`` counts the processes ever started.

    ``missing`` has uris of packages that apply refuses, ``predecessors`` by uid what another engine left. While ``forbidden``,
    nothing can be removed. ``now`` becomes the ``changed_at`` of changes.
    """

    def __init__(self, *, automatic: bool = True) -> None:
        self.outage = False
        self.started = 0
        self.automatic = automatic
        self.missing: set[str] = set()
        self.predecessors: dict[str, str] = {}
        self.forbidden = False
        self.now = _LONG_AGO
        self._services: dict[str, _Service] = {}
        self._failures: dict[str, str] = {}

    async def observe(self, uid: str) -> ObservedService | None:
        """The endpoint as it is now; None when there is none."""
        service = self._find(uid)
        if service is None:
            return self._left(self.predecessors[uid]) if uid in self.predecessors else None
        runs = service.state is not ServiceState.DEAD
        return ObservedService(
            digest=service.want.digest,
            state=service.state,
            message=service.message,
            grpc_url=f"127.0.0.1:{service.port}" if runs else "",
            http_url=f"http://127.0.0.1:{service.port + 1}" if runs else "",
            metrics_url=f"http://127.0.0.1:{service.port + 2}/metrics" if runs else "",
            onnx_sha256=service.want.onnx_sha256,
            restarts=service.restarts,
            changed_at=service.changed_at,
            pods_digest=service.want.pod_template_digest,
            predecessor=self.predecessors.get(uid, ""),
            replicas=max(service.want.scaling.minimum, 1),
            pod_selector=f"{meta.UID_LABEL}={uid}",
        )

    @property
    def wants(self) -> list[DesiredService]:
        """The DesiredService that each endpoint was applied with last."""
        return [service.want for service in self._services.values()]

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All endpoints; ``namespaces`` is ignored."""
        del namespaces
        self._find("")
        wants = ((uid, service.want, service.changed_at) for uid, service in self._services.items())
        return tuple(Owned(want.name, uid, want.namespace, at) for uid, want, at in wants)

    async def apply(self, want: DesiredService) -> None:
        """Start the endpoint, change it to match ``want``, or start a dead one again."""
        service = self._find(want.uid)
        if service is not None and service.want.digest == want.digest and service.state is not ServiceState.DEAD:
            return
        if want.package_uri in self.missing:
            message = f"model package {want.package_uri}: package.json is missing"
            raise RejectedError("serving", message, reason=reasons.MODEL_PACKAGE_MISSING)
        is_same = service is not None and service.want.pod_template_digest == want.pod_template_digest
        if service is not None and service.state is ServiceState.LOADED and is_same:
            service.want = want  # A different number of servers replaces none of them.
            return
        again = service.restarts + 1 if service is not None and service.want.digest == want.digest else 0
        self.started += 1
        port = 20000 + 3 * self.started
        self._services[want.uid] = _Service(want, ServiceState.STARTING, port, restarts=again, changed_at=self.now)
        if self.automatic:
            self.finish_loading(want.uid)

    async def probe(self, uid: str) -> ProbeResult:
        """A correct probe, unless no model is loaded, or ``break_answers`` was called."""
        service = self._find(uid)
        if service is None or service.state is not ServiceState.LOADED:
            return ProbeResult(correct=False, message="there is no loaded model", latency=0.0)
        message = "Stub process is not healthy." if service.broken else ""
        return ProbeResult(correct=not service.broken, message=message, latency=0.005)

    async def restart(self, uid: str) -> None:
        """Kill the server, so that ``apply`` starts it again. No effect when there is none."""
        if self._find(uid) is not None:
            self.kill(uid)

    async def retire(self, uid: str) -> None:
        """Remove what another engine left."""
        self._find(uid)
        self.predecessors.pop(uid, None)

    async def stop(self, uid: str) -> None:
        """Stop the endpoint; nothing is kept."""
        await self.remove(uid)

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Stop the endpoint. No effect when there is none."""
        if self.forbidden:
            raise UnboundError("serving", "we have no rights in the namespace")
        self._find(uid)
        self._services.pop(uid, None)
        self.predecessors.pop(uid, None)

    async def close(self) -> None:
        """No effect: nothing is open."""

    def clear(self) -> None:
        """Lose all endpoints, as when the cluster is lost."""
        self._services.clear()

    def kill(self, uid: str) -> None:
        """Let the server's process die."""
        self._change(uid, ServiceState.DEAD, "the server's process has ended")

    def finish_loading(self, uid: str) -> None:
        """Let the server have loaded the model, or refuse it if ``fail_load`` was called before."""
        if uid in self._failures:
            self._change(uid, ServiceState.LOAD_FAILED, self._failures[uid])
        else:
            self._change(uid, ServiceState.LOADED, "")

    def fail_load(self, uid: str, message: str) -> None:
        """Let the server refuse the model, now and whenever it is loaded again."""
        self._failures[uid] = message
        if uid in self._services:
            self._change(uid, ServiceState.LOAD_FAILED, message)

    def heal_load(self, uid: str) -> None:
        """Undo ``fail_load``, from the next start on."""
        self._failures.pop(uid, None)

    def break_answers(self, uid: str) -> None:
        """Let the server report that all is well, but answer wrong until it is restarted."""
        self._services[uid].broken = True

    def _left(self, predecessor: str) -> ObservedService:
        """The observation when only another engine's service exists: none of ours."""
        return ObservedService(
            digest="",
            state=ServiceState.STARTING,
            message="",
            grpc_url="",
            http_url="",
            metrics_url="",
            onnx_sha256="",
            restarts=0,
            changed_at=self.now,
            replicas=0,
            predecessor=predecessor,
        )

    def _change(self, uid: str, state: ServiceState, message: str) -> None:
        service = self._services[uid]
        service.state, service.message, service.changed_at = state, message, self.now

    def _find(self, uid: str) -> _Service | None:
        if self.outage:
            raise OutageError("serving", "connection refused")
        return self._services.get(uid)
