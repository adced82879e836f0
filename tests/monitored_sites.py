"""A site that a real Prometheus watches: operator, API server, a real Triton, and the metrics of kube-state-metrics.

Input: incidents. Output: what Prometheus has scraped and which alerts fire. Ports of the operator are the shipped fakes, measured
as in a real installation; the model of Triton answers at once, late or not at all, as each request asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

import state_metrics
from monitoring_tools import ENVIRONMENTS, MANIFESTS
from pelagos.api.kinds import KINDS
from pelagos.engines.envoy.config import Ports
from pelagos.engines.processes import sockets
from pelagos.engines.processes.groups import ProcessId
from pelagos.engines.triton_local.gateway import Gateway
from pelagos.engines.triton_local.server import ServerFolder
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.serving import ProbeResult
from pelagos.ports.volumes import Fingerprint
from sites import Fakes, Site

MODEL = "echo"
BROKEN = -1
REFUSED = -2
_MODEL_CODE = '''
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Gives back what it got, after so many milliseconds; breaks at -1, and refuses what is below, like a bad image."""

    def initialize(self, args):
        # As the serving code counts.
        self.families = [
            pb_utils.MetricFamily(name=f"pelagos_{what}_total", description=what, kind=pb_utils.MetricFamily.COUNTER)
            for what in ("refused_images", "cut_answers")
        ]
        labels = {"model": args["model_name"], "version": args["model_version"]}
        self.refused, self.cut = (family.Metric(labels=labels) for family in self.families)

    def execute(self, requests):
        return [self._answer(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()) for request in requests]

    def _answer(self, asked):
        if asked.min() < -1:
            self.refused.increment(1)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("refused"))
        if asked.min() < 0:
            raise ValueError("negative")
        time.sleep(float(asked.max()) / 1000)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", asked)])
'''
_MODEL_CONFIG = """
name: "echo"
backend: "python"
max_batch_size: 0
input [{ name: "IN" data_type: TYPE_INT32 dims: [1] }]
output [{ name: "OUT" data_type: TYPE_INT32 dims: [1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""


class FaultyServing(ServingFake):
    """Services in ``wrong`` answer wrong, however often they are restarted; those in ``slow`` answer right after two seconds.

    Those in ``loading`` never finish loading.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wrong: set[str] = set()
        self.slow: set[str] = set()
        self.loading: set[str] = set()

    def finish_loading(self, uid: str) -> None:
        """Finish loading, unless the service is in ``loading``."""
        self.now = datetime.now(UTC)
        if uid not in self.loading:
            super().finish_loading(uid)

    async def probe(self, uid: str) -> ProbeResult:
        """Probe as the fake does, then apply the faults ``wrong`` and ``slow``."""
        result = await super().probe(uid)
        if uid in self.wrong:
            return ProbeResult(correct=False, message="expected Akashiwo, got Ceratium", latency=0.02)
        return ProbeResult(result.correct, result.message, 2.0 if uid in self.slow else 0.02)


class FaultyVolumes(VolumesFake):
    """Paths in ``cursed`` raise an exception that no code expects."""

    def __init__(self) -> None:
        super().__init__()
        self.cursed: set[str] = set()

    async def fingerprint(self, path: str) -> Fingerprint | None:
        """The fake's fingerprint, or an unexpected exception."""
        if path in self.cursed:
            raise ZeroDivisionError("division by zero")
        return await super().fingerprint(path)


@dataclass
class MonitoredSite(Site):
    """A site whose fakes, ``real``, the test moves by hand."""

    serving: FaultyServing = field(default_factory=FaultyServing)
    volumes: FaultyVolumes = field(default_factory=FaultyVolumes)
    real: Fakes = field(default_factory=Fakes)
    frozen: bool = False
    _touches: int = 0

    def __post_init__(self) -> None:
        self.real = Fakes(serving=self.serving, volumes=self.volumes)
        self.fakes = self.real

    async def resources(self) -> list[Mapping[str, Any]]:
        """All resources as the API server returns them."""
        found: list[Mapping[str, Any]] = []
        for kind in KINDS:
            listed = (await self.call("GET", self.path(kind.kind)))["items"]
            found += [{"apiVersion": "pelagos.dev/v1alpha1", "kind": kind.kind, **item} for item in listed]
        return found

    async def touch_all(self) -> None:
        """Change an annotation of every resource: a busy cluster, in which everything is reconciled again every second."""
        self._touches += 1
        change = {"metadata": {"annotations": {"example.org/touched": str(self._touches)}}}
        for body in await self.resources():
            with contextlib.suppress(urllib.error.HTTPError):  # deleted since the list was read
                await self.patch(body["kind"], body["metadata"]["name"], change)

    @contextlib.contextmanager
    def api_server_stands_still(self) -> Any:
        """Stop the API server's process: it keeps its connections and answers nothing."""
        self.frozen = True
        self.plane.kill("apiserver", signal.SIGSTOP)
        try:
            yield
        finally:
            self.plane.kill("apiserver", signal.SIGCONT)
            self.frozen = False


class StateMetrics:
    """Serves the metrics that kube-state-metrics would expose for the site's resources, with the shipped configuration."""

    def __init__(self, site: MonitoredSite) -> None:
        self._site = site
        self._config = yaml.safe_load((MANIFESTS / "kube-state-metrics.config.yaml").read_text(encoding="utf-8"))
        self._runner: web.AppRunner | None = None
        self._told = ""
        self.port = 0

    async def start(self) -> None:
        """Listen on any free port."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def look(self) -> None:
        """Read all resources; a scrape gets the result of the last call."""
        self._told = state_metrics.exposition(state_metrics.evaluate(self._config, await self._site.resources()))

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._told)


class Triton:
    """A real Triton with the model ``echo``, behind its gateway."""

    def __init__(self, folder: Path) -> None:
        environment = ENVIRONMENTS / "triton"
        self._gateway = Gateway(folder, environment)
        service, run = folder / "services" / MODEL, sockets.folder(folder)
        self._server = ServerFolder(service, 1, environment, folder / "backends", run)
        self._model = self._server.served / "repository" / MODEL
        self._process: ProcessId | None = None

    async def start(self) -> None:
        """Start it and wait for the model."""
        (self._model / "1").mkdir(parents=True)
        (self._model / "1" / "model.py").write_text(_MODEL_CODE, encoding="utf-8")
        (self._model / "config.pbtxt").write_text(_MODEL_CONFIG, encoding="utf-8")
        self._process = self._server.start()
        await self._gateway.keep(lambda: {MODEL: (MODEL, self._server)})
        async with aiohttp.ClientSession() as session:
            for _ in range(1200):
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{self._url}/v2/models/{MODEL}/ready") as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.1)
        pytest.fail(f"Triton is not ready: {self._server.last_error()}")

    async def stop(self) -> None:
        """Stop the gateway and the server."""
        await self._gateway.keep(dict)
        await self._server.stop(self._process)

    @property
    def metrics_port(self) -> int:
        """The port that serves /metrics."""
        return self._ports.metrics

    async def ask(self, session: aiohttp.ClientSession, milliseconds: int) -> bool:
        """Send one request that takes this long, breaks the model (BROKEN) or is refused (REFUSED); whether it was answered."""
        body = {"inputs": [{"name": "IN", "shape": [1], "datatype": "INT32", "data": [milliseconds]}]}
        url = f"{self._url}/v2/models/{MODEL}/infer"
        async with session.post(url, data=json.dumps(body)) as answer:
            await answer.read()
            return answer.status == 200

    @property
    def _ports(self) -> Ports:
        ports = self._gateway.ports(MODEL)
        assert ports is not None
        return ports

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._ports.http}"


async def repeat(act: Callable[[], Awaitable[object]], pause: float, skip: Callable[[], bool]) -> None:
    """Repeat ``act`` with a pause in between, except while ``skip`` holds. Ends when it is canceled."""
    while True:
        if not skip():
            with contextlib.suppress(OSError, urllib.error.URLError, aiohttp.ClientError):
                await act()
        await asyncio.sleep(pause)
