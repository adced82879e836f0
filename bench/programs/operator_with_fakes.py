"""The unmodified operator, with kopf and every port's measuring wrapper, over the shipped fakes. Started by fleet.py.

Pipeline runs succeed as soon as they are submitted, so only the operator is measured. Like a pipeline server and an
object store, the fakes still know all runs and reports when the operator of a namespace is restarted. SIGUSR1 makes it reconcile
every resource again, as a resync does.

With PELAGOS_KUBEFLOW_URL, runs are on that server, by the real engine, which also reads their pods and Workflows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import pickle
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import kopf
import uvloop

from pelagos import engine_factory, garbage, wiring
from pelagos.api.meta import UID_LABEL
from pelagos.engines.kubeflow import engine
from pelagos.engines.kubeflow.step_secrets import StepSecrets
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.handlers import resources
from pelagos.observability import logs
from pelagos.ports.authority import Authority
from pelagos.ports.clock import SystemClock
from pelagos.ports.fakes.authority import KeysFake, reported
from pelagos.ports.fakes.objects import ROOT, ObjectsFake
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.pipelines import PipelineRun, Pipelines, RunRequest
from pelagos.ports.tenants import OneTenant, Tenant
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.probes import Probes
from pelagos.reconcilers.storage_paths import report_folder
from pelagos.settings import Settings

CLASSES = ("Ceratium", "Chaetoceros", "Guinardia", "Phaeocystis", "Rhizosolenia", "Thalassiosira")
RESULT = {
    "version": "sha256:" + "a" * 64,
    "uri": "/store/versions/" + "a" * 64,
    "images": 600,
    "annotations": 900,
    "classes": [{"name": name, "images": 100, "annotations": 150} for name in CLASSES],
    "splits": {"train": {"images": 420}, "validation": {"images": 90}, "test": {"images": 90}},
    "quality": {"found": 600, "corrupt": 0, "duplicates": 0, "nearDuplicates": 0, "tooSmall": 0, "leakage": 0},
    "warnings": [],
}
TRAINED: dict[str, Any] = {
    "metrics": {"test/mAP50": 0.61, **{f"test/mAP50/{name}": 0.61 for name in CLASSES}},
    "epochs": 3,
    "model": {
        "uri": "",
        "onnxSha256": "b" * 64,
        "manifestSha256": "c" * 64,
        "task": "Detection",
        "labels": list(CLASSES),
    },
}
AUTHORITY = Authority(KeysFake())
_REPORTS: dict[str, str] = {}


class Obliging(PipelinesFake):
    """Pipelines whose runs succeed at once and write their report. Known runs are stored in the file ``kept``."""

    def __init__(self, objects: ObjectsFake, kept: Path) -> None:
        super().__init__()
        self._objects = objects
        if kept.exists():
            with kept.open("rb") as file, contextlib.suppress(EOFError):
                while True:
                    self._oblige(pickle.load(file))
        self._kept = kept.open("ab")

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Accept the run, and complete it at once."""
        request = replace(request, parameters={})  # a real server would hold these, not the operator
        if request.name not in self.runs:
            self._oblige(request)
            pickle.dump(request, self._kept)
            self._kept.flush()
        return self.runs[request.name].run

    def _oblige(self, request: RunRequest) -> None:
        self._accept(request, attempts_with_key=1)
        self.succeed(request.name)
        if request.name not in _REPORTS:
            result = RESULT | {"uri": f"{ROOT}/{_version(request)}"}
            _REPORTS[request.name] = json.dumps(reported(AUTHORITY, request, result))
        self._objects.files[f"{report_folder(request.name, Tenant())}/result.json"] = _REPORTS[request.name]
        self._objects.files[f"{_version(request)}/manifest.json"] = "{}"


def _version(request: RunRequest) -> str:
    """The folder of the version that the run creates."""
    return f"datasets/{request.namespace}/{request.labels[UID_LABEL]}/versions/{'a' * 64}"


class OnServer:
    """Runs on a pipeline server, by the real engine. Steps compute nothing: their report is written when they are submitted."""

    def __init__(self, server: engine.Kubeflow, objects: ObjectsFake) -> None:
        self._server = server
        self._objects = objects

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Write the report, and submit the run to the server."""
        store, folder = request.parameters["store"], self._objects.path(request.parameters["report"])
        if request.flow == "dataset-preparation":
            result = RESULT | {"uri": f"{store}/versions/a"}
            self._objects.put(f"{self._objects.path(store)}/versions/a/manifest.json", {})
        else:
            result = TRAINED | {"model": TRAINED["model"] | {"uri": f"{store}/models/m"}}
        self._objects.put(f"{folder}/result.json", reported(AUTHORITY, request, result))
        return await self._server.submit(request)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def pipelines(settings: Settings, api: KubernetesRest, objects: ObjectsFake, cache: Cache) -> Pipelines:
    """The engine for pipelines: the server if there is one, otherwise the fake."""
    if not settings.kubeflow_url:
        return Obliging(objects, settings.home.parent / f"{settings.namespace}.runs")
    secrets = StepSecrets(api, AUTHORITY)
    flows = engine_factory.compiled_flows()
    return OnServer(engine.from_settings(settings, flows, cache.namespace_of, secrets=secrets, cluster=api), objects)


async def start(settings: Settings, credentials: wiring.Credentials) -> wiring.Operator:
    """Do the same as wiring.start, with fakes instead of engines."""
    api, clock, objects, volumes, serving, cache = (
        wiring.rest_client(credentials),
        SystemClock(),
        ObjectsFake(),
        VolumesFake(),
        ServingFake(),
        Cache(),
    )
    volumes.put("plankton/1.png", "pixels")
    world = Dependencies(
        cluster=KubernetesApi(api),
        pipelines=pipelines(settings, api, objects, cache),
        tracking=TrackingFake(),
        registry=RegistryFake(),
        serving=serving,
        objects=objects,
        volumes=volumes,
        tenants=OneTenant(),
        authority=AUTHORITY,
        clock=clock,
        cache=cache,
        probes=Probes(serving, clock, timedelta(seconds=settings.probe_interval)),
    )
    operator = await wiring.operate(settings, world, closing=(api.close,), oversight=wiring.oversee(settings, api, {}))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _look_again, world, operator)
    return operator


def _look_again(dependencies: Dependencies, operator: wiring.Operator) -> None:
    for resource in dependencies.cache.all():
        operator.loop.add(resource.key)


def main() -> None:
    """Run until SIGTERM."""
    settings = Settings()
    assert settings.namespace is not None
    logs.configure()
    garbage.collect_rarely()
    kopf.run(loop=uvloop.new_event_loop(), **resources.prepared(settings, functools.partial(start, settings)))


if __name__ == "__main__":
    main()
