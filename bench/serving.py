"""A served model, compared with its predictor called in process: JPEG in, boxes out. Called by run.py."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import clients, measuring
from bench.clients import Answers, Asked
from bench.plan import Plan
from bench.results import Cell, Section, middle
from pelagos.api.model_service import Runtime
from pelagos.decisions import durations
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.ports.serving import DesiredService, ServiceState

WAITING = 5_000
"""A queue delay in microseconds that is typical for filling batches."""
SIZE = 192
IMAGES = 32
THREADS = 1
CONCURRENCY = (1, 4)
HERE = "in process"
_LOAD_SECONDS = 120.0


@dataclass(frozen=True)
class Endpoint:
    """A model loaded in its own Triton server. ``alone`` is the server's own address, ``address`` that of its Envoy."""

    name: str
    uid: str
    address: str
    alone: str
    http: str
    process: int
    envoy: int


class Here:
    """A process that predicts without a server."""

    def __init__(self, plan: Plan, version: Path, images: Path) -> None:
        command = [plan.python("triton"), plan.program("predict_here"), version, str(THREADS), images]
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=plan.log("here").open("wb"),
            text=True,
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def measure(self, batch: int, number: int) -> Answers:
        """Predict ``number`` images in batches; the latency is that of a call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{batch} {number}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise measuring.MeasurementError("the predictor ended in its process; it needs the environment triton")
        found: dict[str, Any] = json.loads(line)
        return Answers(
            found["seconds"], found["wall"], found["cpu"], client=0.0, images=found["images"], boxes=found["detections"]
        )

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(400, 40), plan.size(5, 1)
    images = frames(plan)
    made = package(plan, images)
    default = durations.microseconds(Runtime().max_queue_delay)
    wants = {_name(delay): wanted(made, delay) for delay in (default, WAITING)}
    here = Here(plan, Path(made["uri"]), images)
    try:
        endpoints = {name: asyncio.run(start(plan, want)) for name, want in wants.items()}
        encoded = [path.read_bytes() for path in sorted(images.iterdir())]
        candidates: dict[str, Callable[[], Answers]] = {}
        for at_once in CONCURRENCY:
            candidates[f"{HERE}, {at_once}"] = partial(here.measure, at_once, number)
            for name, endpoint in endpoints.items():
                ask = partial(clients.ask, Asked(endpoint.address, endpoint.name), encoded, at_once, number)
                processes = (endpoint.process, endpoint.envoy)
                candidates[f"{name}, {at_once}"] = partial(_served, processes, ask)
            endpoint = endpoints[_name(default)]
            ask = partial(clients.ask, Asked(endpoint.alone, endpoint.name), encoded, at_once, number)
            candidates[f"{_name(default)}, without Envoy, {at_once}"] = partial(_served, (endpoint.process,), ask)
        for warm_up in candidates.values():
            warm_up()
        found = measuring.alternate(candidates, repeats, plan.say)
        resident = measuring.resident_bytes(next(iter(endpoints.values())).envoy)
    finally:
        here.close()
        for want in wants.values():
            asyncio.run(remove(plan, want))
    return _section(plan, number, found, resident)


def frames(plan: Plan) -> Path:
    """A folder with real frames to predict."""
    source = plan.data / "samples" / "phytoplankton-frames" / "images"
    if not source.exists():
        raise measuring.MeasurementError(f"{source} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    folder = plan.folder / "images"
    folder.mkdir()
    for path in sorted(source.glob("*.jpg"))[:IMAGES]:
        shutil.copyfile(path, folder / path.name)
    return folder


def package(plan: Plan, images: Path) -> dict[str, str]:
    """Export a model package; returns its folder and digests."""
    image = min(images.iterdir())
    command = [plan.python("pipelines"), plan.program("make_package"), plan.folder / "package", SIZE, image]
    variables = {
        "PYTHONPATH": str(plan.root / "tests"),
        "YOLO_CONFIG_DIR": str(plan.folder / "ultralytics"),
    }
    plan.say("export")
    made: dict[str, str] = measuring.printed(command, variables, "the package was not made")
    return made


def wanted(package: dict[str, str], delay: int) -> DesiredService:
    """The desired state of a service with the defaults of ModelService, except for threads and ``delay`` (microseconds)."""
    return DesiredService(
        uid=f"bench-{delay}",
        namespace="default",
        name=f"bench-{delay}",
        model_name="detector",
        package_uri=package["uri"],
        onnx_sha256=package["sha256"],
        manifest_sha256=package["manifest"],
        max_batch_size=Runtime().max_batch_size,
        max_queue_delay=delay,
        instances=Runtime().instances,
        confidence="0.25",
        iou="0.7",
        cpu=THREADS,
        digest=f"bench-{delay}",
    )


async def start(plan: Plan, want: DesiredService) -> Endpoint:
    triton = TritonLocal(plan.folder / "home", plan.environments)
    plan.say(f"start Triton with a queue delay of {want.max_queue_delay} µs")
    try:
        await triton.apply(want)
        async with asyncio.timeout(_LOAD_SECONDS):
            while (seen := await triton.observe(want.uid)) is None or seen.state is ServiceState.STARTING:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        probed = await triton.probe(want.uid)
    finally:
        await triton.close()
    if not probed.correct:
        raise measuring.MeasurementError(f"the served model answers wrong: {probed.message} {seen.message}")
    server = records.read(triton.services / want.uid).current
    envoy = triton.gateway.process
    if server is None or server.process is None or envoy is None:
        raise measuring.MeasurementError("the server is gone, or Envoy before it")
    alone = f"unix:{triton.folder(want.uid, server).upstream.grpc}"
    return Endpoint(want.model_name, want.uid, seen.grpc_url, alone, seen.http_url, server.process.pid, envoy.pid)


async def remove(plan: Plan, want: DesiredService) -> None:
    triton = TritonLocal(plan.folder / "home", plan.environments)
    await triton.remove(want.uid)
    await triton.close()


def _served(processes: tuple[int, ...], ask: Callable[[], Answers]) -> Answers:
    """Call the model, and add the processor time of the server with its model process, and of Envoy if it is used."""
    cpu = sum(map(measuring.cpu_seconds, processes))
    answers = ask()
    return answers.costing(sum(map(measuring.cpu_seconds, processes)) - cpu)


def _name(delay: int) -> str:
    return f"Triton, queue delay {delay / 1000:g} ms"


def _section(plan: Plan, number: int, found: dict[str, list[Answers]], resident: int) -> Section:
    boxes = found[f"{HERE}, 1"][0]
    return Section(
        title="Serving",
        reading=plan.reading(
            size=SIZE,
            number=number,
            threads=THREADS,
            images=IMAGES,
            boxes=f"{boxes.boxes / boxes.images:.0f}",
            envoy=f"{resident / 1e6:.0f}",
        ),
        columns=["", "p50 ms", "p95 ms", "images/s", "CPU ms per image", "client CPU ms per image", "images/s, ratio"],
        rows=[_row(name, answers, found[f"{HERE}, {name[-1]}"]) for name, answers in found.items()],
        details={name: [vars(item) | {"seconds": None} for item in answers] for name, answers in found.items()},
    )


def _row(name: str, found: list[Answers], limit: list[Answers]) -> list[Cell]:
    rate = [item.images / item.wall for item in found]
    client = [item.client * 1000 / item.images for item in found]
    return [
        f"{name} at a time",
        [item.percentile(50) for item in found],
        [item.percentile(95) for item in found],
        rate,
        [item.cpu * 1000 / item.images for item in found],
        client if any(client) else None,
        middle(rate) / middle([item.images / item.wall for item in limit]),
    ]
