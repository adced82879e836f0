"""A served model through the gateway, compared with direct access: JPEG in, boxes out. Called by run.py."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import yaml

from bench import clients, measuring, serving
from bench.clients import Answers, Asked
from bench.plan import Plan
from bench.results import Cell, Section, middle
from bench.serving import Endpoint
from gateway.api_server import ApiServer
from pelagos.api.model_service import Runtime
from pelagos.decisions import durations
from pelagos.embedded import addresses
from pelagos.engines.triton_local.server import site_packages

SERVICE = "default/bench"
PROTOCOLS = ("grpc", "http")
_START_SECONDS = 60.0


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(400, 40), plan.size(5, 1)
    images = serving.frames(plan)
    want = serving.wanted(serving.package(plan, images), durations.microseconds(Runtime().max_queue_delay))
    try:
        endpoint = asyncio.run(serving.start(plan, want))
        encoded = [path.read_bytes() for path in sorted(images.iterdir())]
        with _gateway(plan, endpoint) as (process, ports, token):
            behind = (endpoint.process, endpoint.envoy)
            candidates: dict[str, Callable[[], Answers]] = {}
            for protocol in PROTOCOLS:
                direct = endpoint.address if protocol == "grpc" else endpoint.http.removeprefix("http://")
                through = f"127.0.0.1:{ports[protocol]}" + (f"/{SERVICE}" if protocol == "http" else "")
                asked = {
                    "direct": Asked(direct, endpoint.name, protocol),
                    "gateway": Asked(through, endpoint.name, protocol, {"authorization": f"Bearer {token}"}),
                }
                for at_once in serving.CONCURRENCY:
                    for name, each in asked.items():
                        ask = partial(clients.ask, each, encoded, at_once, number)
                        candidates[f"{name}, {protocol}, {at_once}"] = partial(_costed, behind, process, ask)
            for warm_up in candidates.values():
                warm_up()
            found = measuring.alternate(candidates, repeats, plan.say)
            program, *rest = measuring.tree(process)
            resident = (measuring.resident_bytes(rest[0]), measuring.resident_bytes(program))
    finally:
        asyncio.run(serving.remove(plan, want))
    return _section(plan, number, found, resident)


def _costed(behind: tuple[int, ...], gateway: int, ask: Callable[[], Answers]) -> Answers:
    """Call the model, and add the processor time of all processes that a request passes."""
    processes = (*behind, *measuring.tree(gateway))
    cpu = sum(map(measuring.cpu_seconds, processes))
    answers = ask()
    return answers.costing(sum(map(measuring.cpu_seconds, processes)) - cpu)


@contextlib.contextmanager
def _gateway(plan: Plan, endpoint: Endpoint) -> Iterator[tuple[int, dict[str, int], str]]:
    """Run the gateway program with Envoy, and an API server in this process. Yields its process id, its ports and a token."""
    token = f"pt_{secrets.token_urlsafe(32)}"
    ports = addresses.choose(plan.folder, ("http", "grpc", "metrics"), {})
    with tempfile.TemporaryDirectory(prefix="pelagos-") as made, _api_server(endpoint, token) as url:
        folder = Path(made)
        (folder / "kubeconfig").write_text(_kubeconfig(url))
        told = {
            "PELAGOS_KUBECONFIG": str(folder / "kubeconfig"),
            "PELAGOS_GATEWAY_FOLDER": str(folder / "envoy"),
            "PELAGOS_GATEWAY_SOCKETS": str(folder / "run"),
            "PELAGOS_GATEWAY_ENVOY": str(site_packages(plan.environments / "triton") / "envoy/_bin/envoy"),
            "PELAGOS_GATEWAY_REQUESTS_PER_MINUTE": "1000000",
            **{f"PELAGOS_GATEWAY_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        }
        command = [plan.python("gateway"), "-m", "pelagos_gateway"]
        with plan.log("gateway").open("wb") as log:
            process = subprocess.Popen([str(part) for part in command], env=told, stderr=log)
        try:
            _until_ready(ports, token)
            yield process.pid, ports, token
        finally:
            process.terminate()
            process.wait()


@contextlib.contextmanager
def _api_server(endpoint: Endpoint, token: str) -> Iterator[str]:
    """Serve the objects of one service and one open trial of it. Yields the server's address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> ApiServer:
        server = ApiServer()
        await server.start()
        namespace, name = SERVICE.split("/")
        endpoints = {"http": endpoint.http, "grpc": endpoint.address, "metrics": ""}
        await server.put("modelservices", namespace, name, status={"endpoints": endpoints})
        status = {
            "phase": "Open",
            "tokenSha256": hashlib.sha256(token.encode()).hexdigest(),
            "expiresAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "service": {"name": name},
        }
        await server.put("trials", namespace, "bench", spec={"duration": "60m"}, status=status)
        return server

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield server.url
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(server: ApiServer) -> None:
    await server.stop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _kubeconfig(url: str) -> str:
    return yaml.safe_dump(
        {
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
            "clusters": [{"name": "bench", "cluster": {"server": url}}],
            "users": [{"name": "bench", "user": {"token": "none"}}],
            "current-context": "bench",
        }
    )


def _until_ready(ports: dict[str, int], token: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    url = f"http://127.0.0.1:{ports['http']}/{SERVICE}/v2/health/ready"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise measuring.MeasurementError(f"the gateway does not answer: {error}") from error
            time.sleep(0.1)


def _section(plan: Plan, number: int, found: dict[str, list[Answers]], resident: tuple[int, int]) -> Section:
    first = found["direct, grpc, 1"][0]
    rows = [_row(name, answers, found[name.replace("gateway", "direct")]) for name, answers in found.items()]
    return Section(
        title="Gateway",
        reading=plan.reading(
            size=serving.SIZE,
            number=number,
            threads=serving.THREADS,
            images=serving.IMAGES,
            boxes=f"{first.boxes / first.images:.0f}",
            envoy=f"{resident[0] / 1e6:.0f}",
            program=f"{resident[1] / 1e6:.0f}",
        ),
        columns=["", "p50 ms", "p95 ms", "p50, ms more", "images/s", "images/s, ratio", "CPU ms per image"],
        rows=rows,
        details={name: [vars(item) | {"seconds": None} for item in answers] for name, answers in found.items()},
    )


def _row(name: str, found: list[Answers], direct: list[Answers]) -> list[Cell]:
    rates = [item.images / item.wall for item in found]
    more = middle([item.percentile(50) for item in found]) - middle([item.percentile(50) for item in direct])
    return [
        f"{name} at a time",
        [item.percentile(50) for item in found],
        [item.percentile(95) for item in found],
        None if found is direct else more,
        rates,
        None if found is direct else middle(rates) / middle([item.images / item.wall for item in direct]),
        [item.cpu * 1000 / item.images for item in found],
    ]
