"""Builds a running operator from settings. `engine_factory` creates the engines."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from pelagos import engine_factory, engine_registry
from pelagos.api import kinds
from pelagos.engines.kubernetes import leases, served_kinds
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.observability import calls, metrics
from pelagos.observability.readiness import Check, Readiness
from pelagos.observability.resources import ResourceCollector
from pelagos.observability.server import Server
from pelagos.observability.watches import WATCHES
from pelagos.ports.clock import SystemClock
from pelagos.ports.gateway import Gateway
from pelagos.ports.leadership import Guard, Leadership, Sole, unguarded
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.datasets import DatasetReconciler
from pelagos.reconcilers.dependencies import PORTS, Dependencies
from pelagos.reconcilers.loop import Loop
from pelagos.reconcilers.model_services import ModelServiceReconciler
from pelagos.reconcilers.probes import Probes
from pelagos.reconcilers.training_runs import TrainingRunReconciler
from pelagos.reconcilers.trials import TrialReconciler
from pelagos.settings import Settings
from pelagos_contract import disk

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The folder in which a pod finds its token, its namespace and the API server's CA certificate."""


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server: what kopf logged in with, without kopf's type."""

    server: str
    token: str | None
    ca_path: str | None
    ca_data: str | None
    certificate_path: str | None = None
    private_key_path: str | None = None
    insecure: bool = False
    token_file: Path | None = None
    """The file that ``token`` was read from and in which it is renewed; None for a token that is not renewed."""


@dataclass(frozen=True)
class Oversight:
    """Checks before the operator acts: which kinds are served, who leads, and by name, whether what it needs is available.

    The operator begins when one of our kinds is served.
    """

    served: served_kinds.Served
    leadership: Leadership = field(default_factory=Sole)
    checks: Mapping[str, Check] = field(default_factory=dict)


_EVERYTHING = frozenset(kind.kind for kind in kinds.KINDS)


@dataclass
class Operator:
    """A running operator: the loop, its HTTP server, and what to close at the end."""

    loop: Loop
    server: Server
    resources: ResourceCollector
    leadership: Leadership
    readiness: Readiness
    served: served_kinds.Served
    closing: Sequence[Callable[[], Awaitable[None]]]
    working: frozenset[str] = frozenset()
    """Kinds whose resources are reconciled."""

    async def begin(self) -> None:
        """Wait until the API server serves one of our kinds. Then seek leadership, and reconcile while it is ours."""
        await self.next_kinds()
        await self.leadership.start(self._lead, self._follow)

    async def next_kinds(self) -> frozenset[str]:
        """Wait until other kinds can be reconciled than before. Returns them, and expects a watch of each from then on."""
        metrics.serves(_EVERYTHING, self.working)
        self.working = await self.served.until_other_than(self.working)
        metrics.serves(_EVERYTHING, self.working)
        WATCHES.expect(self.working)
        return self.working

    def _lead(self) -> None:
        metrics.leads(leading=True)
        self.loop.lead()

    def _follow(self) -> None:
        metrics.leads(leading=False)
        self.loop.follow()

    async def stop(self) -> None:
        """Stop reconciling, release leadership and close connections. Pipelines and model servers keep running."""
        # The loop first: its last passes still write, which they may only do while the Lease is held.
        await self.loop.stop()
        await self.leadership.stop()
        metrics.leads(leading=False)
        WATCHES.expect(())
        await self.readiness.stop()
        await self.server.stop()
        metrics.REGISTRY.unregister(self.resources)
        for close in self.closing:
            await close()


async def start(settings: Settings, credentials: Credentials) -> Operator:
    """Build all dependencies from settings and start reconciling."""
    settings = settings.model_copy(update={"lease_namespace": settings.lease_namespace or own_namespace()})
    api = rest_client(credentials)
    cache, clock = Cache(), SystemClock()
    leadership = seek(settings, api)
    guard = calls.guard(leadership)
    # A second client beside ``api``, with which the Lease is sought and renewed: that must be possible while not leading.
    guarded = rest_client(credentials, guard)
    engines = engine_factory.choose(settings, guarded, cache.namespace_of, guard)
    dependencies = Dependencies(
        cluster=KubernetesApi(guarded, collects=engine_registry.is_on_cluster(settings)),
        pipelines=engines.pipelines,
        tracking=engines.tracking,
        registry=engines.registry,
        serving=engines.serving,
        objects=engines.objects,
        volumes=engines.volumes,
        tenants=engines.tenants,
        authority=engines.authority,
        clock=clock,
        cache=cache,
        probes=Probes(engines.serving, clock, timedelta(seconds=settings.probe_interval)),
        gateway=Gateway(settings.gateway_http, settings.gateway_grpc),
        hub_key=engine_factory.hub_key(settings),
    )
    closing = (*engines.closing, guarded.close, api.close)
    oversight = oversee(settings, api, engines.checks, leadership)
    return await operate(settings, dependencies, closing=closing, oversight=oversight)


async def operate(
    settings: Settings,
    dependencies: Dependencies,
    *,
    closing: Sequence[Callable[[], Awaitable[None]]],
    oversight: Oversight,
) -> Operator:
    """Create an operator for ``dependencies`` that serves metrics; the caller makes it ``begin``."""
    dependencies = wrapped(settings, dependencies, oversight.leadership)
    reconcilers = {
        reconciler.kind.kind: reconciler
        for reconciler in (DatasetReconciler(), TrainingRunReconciler(), ModelServiceReconciler(), TrialReconciler())
    }
    loop = Loop(dependencies, reconcilers, settings.concurrent_reconciles)
    loop.start(leading=False)
    readiness = Readiness(oversight.checks)
    readiness.start()
    resources = metrics.resource_collector(dependencies.cache.all)
    metrics.REGISTRY.register(resources)
    metrics.competes(settings.lease_name if settings.leader_election else "")
    server = Server(
        beat=lambda: loop.beat,
        ready=readiness.problem,
        standing=lambda: oversight.leadership.standing,
        silent=WATCHES.problem,
    )
    await server.start(settings.listen_address, settings.metrics_port, settings.allowed_hosts.split(","))
    # For the embedded mode and for people: with port 0, nothing else says where /metrics is.
    settings.home.mkdir(parents=True, exist_ok=True)
    described = {"pid": os.getpid(), "metrics_port": server.port}
    disk.write_atomically(settings.home / "operator.json", json.dumps(described) + "\n")
    return Operator(loop, server, resources, oversight.leadership, readiness, oversight.served, closing)


def wrapped(settings: Settings, dependencies: Dependencies, leadership: Leadership) -> Dependencies:
    """``dependencies`` with every port measured, and refusing to change anything while ``leadership`` is not held."""
    require, named = calls.guard(leadership), engine_registry.chosen(settings).systems
    ports = {
        name: calls.wrapped(
            getattr(dependencies, name), protocol, name=name, system=named.get(name, ""), require=require
        )
        for name, protocol in PORTS.items()
    }
    probes = Probes(ports["serving"], dependencies.clock, timedelta(seconds=settings.probe_interval))
    return replace(dependencies, probes=probes, **ports)


def seek(settings: Settings, rest: KubernetesRest) -> Leadership:
    """Leadership as settings say: by a Lease, or by assuming to be the only operator. Not started yet."""
    if not settings.leader_election:
        return Sole()
    place = leases.Place(settings.lease_namespace or own_namespace(), settings.lease_name, settings.lease_seconds)
    return leases.LeaseLeadership(rest, place, leases.new_identity())


def oversee(
    settings: Settings, rest: KubernetesRest, more: Mapping[str, Check], leadership: Leadership | None = None
) -> Oversight:
    """The Oversight with checks of the API server in addition to ``more``. Without ``leadership``, settings decide that."""
    leadership = leadership or seek(settings, rest)
    served = served_kinds.Served(rest)

    async def missing() -> str | None:
        well = False
        try:
            problem = await served.missing()
            well = True
        finally:
            WATCHES.answers(well=well)
        return problem

    checks = {"kinds": missing, "schema": served.outdated, "watches": WATCHES.refusals}
    return Oversight(served, leadership, {**checks, **more})


def rest_client(credentials: Credentials, guard: Guard = unguarded) -> KubernetesRest:
    """A client of the API server that returns the status of responses instead of raising."""
    tls = None
    if credentials.server.startswith("https"):
        data = base64.b64decode(credentials.ca_data).decode() if credentials.ca_data else None
        tls = ssl.create_default_context(cafile=credentials.ca_path, cadata=data)
        if credentials.insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if credentials.certificate_path:
            tls.load_cert_chain(credentials.certificate_path, credentials.private_key_path)
    token, token_file = credentials.token, credentials.token_file
    return KubernetesRest(credentials.server, tls=tls, token=token, token_file=token_file, guard=guard)


def own_namespace() -> str:
    """The namespace of this pod; ``default`` outside a pod."""
    told = SERVICE_ACCOUNT / "namespace"
    return told.read_text(encoding="utf-8").strip() if told.exists() else "default"
