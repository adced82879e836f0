"""The operator's own cost, against the least that an operator with kopf can cost. Called by run.py.

Each repeat has a namespace of its own on one real API server. The operators run as processes of their own, pinned to one core;
the API server, etcd and the users have the others.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import aiohttp

from bench import measuring, traffic
from bench.plan import Plan
from bench.results import Cell, Section, compared, middle
from control_plane import ControlPlane, start_control_plane

OURS, FLOOR = "Pelagos", "kopf alone"
PROGRAMS = {OURS: "operator_with_fakes", FLOOR: "operator_of_kopf_alone"}
_PASSES = re.compile(r'^pelagos_reconciles_total\{kind="Dataset",[^}]*\} (\S+)$', re.MULTILINE)
_WITHOUT_CLIENT = (
    "import runpy, sys; sys.modules['kubernetes'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
)
"""kopf imports the official client where it is installed, for logging in. Pelagos goes without, so the peer does, too."""
_SETTLE_SECONDS = 1.5
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Found:
    """One repeat with one operator. Times in seconds, ``cpu`` in seconds for all Datasets together, memory in bytes."""

    cpu: float
    plane_cpu: float
    writes: dict[str, int]
    first_rate: float
    ready_rate: float
    latency: float
    """Median from creation to first status."""
    idle_rss: int
    full_rss: int
    idle_cpu: float
    """Of a second at rest with all Datasets."""
    start: float
    again_cpu: float = 0.0
    again_writes: int = 0


def measure(plan: Plan) -> Section:
    """See the module."""
    number, repeats = plan.size(500, 60), plan.size(5, 2)
    own, others = cores()
    plane = start_control_plane(plan.folder / "plane")
    try:
        for process in plane.processes.values():
            for pid in measuring.tree(process.pid):
                os.sched_setaffinity(pid, others)
        plane.apply_crds()
        candidates = {name: partial(_measure, plan, plane, name, number, own) for name in PROGRAMS}
        found = measuring.alternate(candidates, repeats, plan.say)
        limits = [asyncio.run(_limit(plane, number)) for _ in range(repeats)]
    finally:
        plane.stop()
    return _section(plan, number, found, limits)


def cores() -> tuple[set[int], set[int]]:
    """One core for the operator, the others for everything else; the same one where there is no other."""
    first, *rest = sorted(os.sched_getaffinity(0))
    return {first}, set(rest) or {first}


def _measure(plan: Plan, plane: ControlPlane, name: str, number: int, own: set[int]) -> Found:
    namespace = f"bench-{next(_numbers)}"
    home = plan.folder / namespace
    plane.create_namespace(namespace)
    environment = {
        **os.environ,
        "PELAGOS_HOME": str(home),
        "PELAGOS_KUBECONFIG": str(plane.kubeconfig),
        "PELAGOS_NAMESPACE": namespace,
    }
    command = [plan.python("control-plane"), "-c", _WITHOUT_CLIENT, plan.program(PROGRAMS[name])]
    log = plan.log(namespace)
    began = time.monotonic()
    with measuring.running(command, log, environment, own) as operator:
        measuring.wait_until((home / "operator.json").exists, f"{name} has started", 60, log)
        start = time.monotonic() - began
        return asyncio.run(_observe(plane, namespace, operator.pid, number, home, start))


async def _observe(plane: ControlPlane, namespace: str, pid: int, number: int, home: Path, start: float) -> Found:
    ours = json.loads((home / "operator.json").read_text(encoding="utf-8"))
    async with traffic.session(plane) as session:
        users = traffic.Traffic(plane, namespace, session)
        async with users.watching():
            await asyncio.sleep(_SETTLE_SECONDS)  # the operator's first list
            rss, before = measuring.resident_bytes(pid), await traffic.requests(plane, session)
            cpu, plane_cpu = measuring.cpu_seconds(pid), _cpu_of(plane)
            await users.create(number)
            await users.until(lambda seen: len(seen.first) == number, "all have a status", 120)
            if ours:
                await users.until(lambda seen: len(seen.ready) == number, "all are Ready", 120)
            await asyncio.sleep(_SETTLE_SECONDS)
            cpu, plane_cpu = measuring.cpu_seconds(pid) - cpu, _cpu_of(plane) - plane_cpu
        writes = _writes(await traffic.requests(plane, session) - before)
        full = measuring.resident_bytes(pid)
        idle = await _idle(pid)
        again_cpu, again_writes = await _again(plane, session, pid, number, ours) if ours else (0.0, 0)
    seen = users.seen
    begun = min(seen.created.values())
    return Found(
        cpu=cpu,
        plane_cpu=plane_cpu,
        writes=writes,
        first_rate=number / (max(seen.first.values()) - begun),
        ready_rate=number / (max(seen.ready.values()) - begun) if ours else 0.0,
        latency=middle([seen.first[name] - seen.created[name] for name in seen.first]),
        idle_rss=rss,
        full_rss=full,
        idle_cpu=idle,
        start=start,
        again_cpu=again_cpu,
        again_writes=again_writes,
    )


async def _idle(pid: int) -> float:
    seconds = 2.0
    cpu = measuring.cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return (measuring.cpu_seconds(pid) - cpu) / seconds


async def _again(
    plane: ControlPlane, session: aiohttp.ClientSession, pid: int, number: int, ours: dict[str, int]
) -> tuple[float, int]:
    """Processor seconds and writes of a pass over every Dataset, none of which has changed."""
    port = ours["metrics_port"]
    before, cpu = await traffic.requests(plane, session), measuring.cpu_seconds(pid)
    done = _passes(port)
    os.kill(pid, signal.SIGUSR1)
    reached = partial(_reached, port, done + number)
    await asyncio.to_thread(measuring.wait_until, reached, "all were looked at again", 60)
    cpu = measuring.cpu_seconds(pid) - cpu
    await asyncio.sleep(_SETTLE_SECONDS)
    return cpu, sum(_writes(await traffic.requests(plane, session) - before).values())


def _reached(port: int, passes: int) -> bool:
    return _passes(port) >= passes


def _passes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return int(sum(float(value) for value in _PASSES.findall(text)))


def _cpu_of(plane: ControlPlane) -> float:
    return sum(measuring.cpu_seconds(process.pid) for process in plane.processes.values())


def _writes(made: Counter[tuple[str, str, str]]) -> dict[str, int]:
    """Writes of the operator: POST of Datasets is what users do."""
    found: Counter[str] = Counter()
    for (verb, resource, subresource), number in made.items():
        if verb in traffic.WRITES and (verb, resource) != ("POST", "datasets"):
            found[f"{verb} {resource}{'/' if subresource else ''}{subresource}"] += number
    return dict(found)


async def _limit(plane: ControlPlane, number: int) -> tuple[float, float]:
    """Creations and status patches per second without an operator."""
    namespace = f"bench-{next(_numbers)}"
    plane.create_namespace(namespace)
    async with traffic.session(plane) as session:
        users = traffic.Traffic(plane, namespace, session)
        began = time.monotonic()
        await users.create(number)
        created = number / (time.monotonic() - began)
        return created, await users.patch_status(number)


def _section(plan: Plan, number: int, found: dict[str, list[Found]], limits: list[tuple[float, float]]) -> Section:
    ours, floor = found[OURS], found[FLOOR]
    creations, patches = (middle([limit[index] for limit in limits]) for index in (0, 1))
    rows: list[list[Cell]] = [
        *_both(number, ours, floor),
        ["CPU ms per unchanged pass", [item.again_cpu * 1000 / number for item in ours], None, None],
        [f"writes in {number} unchanged passes", [float(item.again_writes) for item in ours], None, None],
        ["Datasets/s to Ready", [item.ready_rate for item in ours], None, None],
    ]
    return Section(
        title="Operator",
        reading=plan.reading(
            number=number, poll=_poll(), writers=traffic.WRITERS, limit=f"{creations:.0f}", patches=f"{patches:.0f}"
        ),
        columns=["", OURS, FLOOR, "ratio"],
        rows=rows,
        details={
            "number": number,
            "found": {name: [asdict(item) for item in items] for name, items in found.items()},
            "limits": limits,
        },
    )


def _both(number: int, ours: list[Found], floor: list[Found]) -> Iterator[list[Cell]]:
    def row(what: str, value: Callable[[Found], float]) -> list[Cell]:
        return compared(what, [value(item) for item in ours], [value(item) for item in floor])

    yield row("CPU ms per Dataset", (lambda item: item.cpu * 1000 / number))
    yield row("writes per Dataset, without events", (lambda item: _patches(item) / number))
    yield row("events per Dataset", (lambda item: item.writes.get("POST events", 0) / number))
    yield row("CPU ms of API server and etcd per Dataset", (lambda item: item.plane_cpu * 1000 / number))
    yield row("Datasets/s to the first status", (lambda item: item.first_rate))
    yield row("seconds from creation to the first status, median in the burst", (lambda item: item.latency))
    yield row("seconds from start to watching", (lambda item: item.start))
    yield row("memory at rest without Datasets, MiB", (lambda item: item.idle_rss / 2**20))
    yield row("memory per Dataset, KiB", (lambda item: (item.full_rss - item.idle_rss) / number / 1024))
    yield row("CPU ms per second at rest with all Datasets", (lambda item: item.idle_cpu * 1000))


def _patches(found: Found) -> int:
    return sum(number for what, number in found.writes.items() if "events" not in what)


def _poll() -> float:
    from pelagos.decisions import attempts

    return attempts.POLL
