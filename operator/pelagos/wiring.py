"""The one place that chooses engines: from settings to a running operator."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import util
from pathlib import Path

from pelagos.engines.kfp_local import KfpLocal
from pelagos.engines.kubernetes_api import KubernetesApi
from pelagos.engines.local_objects import LocalObjects
from pelagos.engines.local_volumes import LocalVolumes
from pelagos.engines.mlflow_registry import MlflowRegistry
from pelagos.engines.mlflow_rest import MlflowRest
from pelagos.engines.mlflow_tracking import MlflowTracking
from pelagos.engines.triton_local import TritonLocal
from pelagos.observability import metrics
from pelagos.observability.measured import measured
from pelagos.observability.resources import ResourceCollector
from pelagos.observability.server import Server
from pelagos.ports.clock import SystemClock
from pelagos.ports.tenants import OneTenant
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.datasets import DatasetReconciler
from pelagos.reconcilers.loop import Loop
from pelagos.reconcilers.model_services import ModelServiceReconciler
from pelagos.reconcilers.probes import Probes
from pelagos.reconcilers.training_runs import TrainingRunReconciler
from pelagos.reconcilers.world import World
from pelagos.settings import Settings


@dataclass(frozen=True)
class Credentials:
    """How the API server is reached; what kopf logged in with, without kopf's type."""

    server: str
    token: str | None
    ca_path: str | None
    ca_data: str | None
    certificate_path: str | None = None
    private_key_path: str | None = None
    insecure: bool = False


@dataclass
class Operator:
    """A running operator: the loop, its server, and what must be closed."""

    loop: Loop
    server: Server
    resources: ResourceCollector
    closing: Sequence[Callable[[], Awaitable[None]]]

    async def stop(self) -> None:
        """Stop reconciling and close connections. Pipelines and servers that run go on."""
        await self.loop.stop()
        metrics.leads(leading=False)
        await self.server.stop()
        metrics.REGISTRY.unregister(self.resources)
        for close in self.closing:
            await close()


def compiled_flows() -> Path:
    """Folder of the compiled pipelines. Found without importing the data plane."""
    spec = util.find_spec("pelagos_pipelines")
    if spec is None or spec.submodule_search_locations is None:
        raise FileNotFoundError("the package pelagos_pipelines, which holds the compiled pipelines, is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "compiled"


async def start(settings: Settings, credentials: Credentials) -> Operator:
    """Build the world from settings and start reconciling."""
    cluster = connect(credentials)
    rest = MlflowRest(settings.tracking_uri)
    pipelines = KfpLocal(
        settings.home,
        settings.environments / "pipelines" / "bin" / "python",
        compiled_flows(),
        capacity={"dataset-preparation": settings.parallel_preparations, "training": settings.parallel_trainings},
    )
    triton = TritonLocal(settings.home, settings.environments)
    serving = measured(triton, "triton")
    public = settings.tracking_public_url or settings.tracking_uri
    clock = SystemClock()
    world = World(
        cluster=measured(cluster, "kubernetes"),
        pipelines=measured(pipelines, "kfp"),
        tracking=measured(MlflowTracking(rest, public), "mlflow"),
        registry=measured(MlflowRegistry(rest), "mlflow"),
        serving=serving,
        objects=measured(LocalObjects(settings.objects), "objects"),
        volumes=measured(LocalVolumes(settings.data), "volumes"),
        tenants=OneTenant(),
        clock=clock,
        cache=Cache(),
        probes=Probes(serving, clock, timedelta(seconds=settings.probe_interval)),
    )
    return await operate(settings, world, closing=(pipelines.close, triton.close, rest.close, cluster.close))


def connect(credentials: Credentials) -> KubernetesApi:
    """The API server as a port."""
    return KubernetesApi(credentials.server, tls=_tls(credentials), token=credentials.token)


async def operate(settings: Settings, world: World, *, closing: Sequence[Callable[[], Awaitable[None]]]) -> Operator:
    """Start reconciling in ``world``, and serve metrics."""
    reconcilers = {
        reconciler.kind.kind: reconciler
        for reconciler in (DatasetReconciler(), TrainingRunReconciler(), ModelServiceReconciler())
    }
    loop = Loop(world, reconcilers, settings.concurrent_reconciles)
    loop.start()
    metrics.leads(leading=True)
    resources = metrics.resource_collector(world.cache.all)
    metrics.REGISTRY.register(resources)
    server = Server(beat=lambda: loop.beat, ready=lambda: None)
    await server.start(settings.listen_address, settings.metrics_port)
    _tell(settings.home, server.port)
    return Operator(loop, server, resources, closing)


def _tls(credentials: Credentials) -> ssl.SSLContext | None:
    if not credentials.server.startswith("https"):
        return None
    data = base64.b64decode(credentials.ca_data).decode() if credentials.ca_data else None
    context = ssl.create_default_context(cafile=credentials.ca_path, cadata=data)
    if credentials.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if credentials.certificate_path:
        context.load_cert_chain(credentials.certificate_path, credentials.private_key_path)
    return context


def _tell(home: Path, port: int) -> None:
    """Write where /metrics is, for the embedded mode and for people."""
    home.mkdir(parents=True, exist_ok=True)
    partial = home / ".operator.json.partial"
    partial.write_text(json.dumps({"pid": os.getpid(), "metrics_port": port}) + "\n", encoding="utf-8")
    partial.replace(home / "operator.json")
