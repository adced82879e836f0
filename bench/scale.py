"""How one operator scales with the number of Datasets: rate, memory, processor time and start-up. Called by run.py.

Nothing is pinned: operator, API server, etcd and clients share all cores, as in the embedded mode.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from bench import fleet, measuring, traffic
from bench.fleet import OURS
from bench.plan import Plan
from bench.results import Cell, Section, middle
from control_plane import ControlPlane


@dataclass(frozen=True)
class Found:
    """Results of one fleet: seconds, bytes, and counts for all Datasets together."""

    number: int
    start: float
    """From the start of the process to the first status of one existing Dataset."""
    rss: int
    """Resident memory at rest without Datasets."""
    ready: float
    """From the first creation to the last Ready."""
    first: float
    """From creation to the first status, median."""
    cpu: float
    plane_cpu: float
    writes: dict[str, int]
    full_rss: int
    """Resident memory with all Datasets, after the burst."""
    again_writes: int
    """Writes in a pass over all Datasets, with nothing changed."""
    list_alone: float
    """Time only to read and decode the list of all Datasets, as the operator does."""
    start_full: float
    """From the start of a process until it has listed all Datasets."""
    passes_full: float
    """From the same start until it has made a pass over each Dataset."""
    again_rss: int
    """Resident memory of that process afterwards."""
    stored: int
    """Bytes of a Ready Dataset, as the API server stores it."""
    limit: fleet.Limit


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    sizes = [30, 60] if plan.quick else [100, 1000, 5000, 10000]
    repeats = {1000: 3}
    found = []
    with fleet.plane(plan) as plane:
        for number in sizes:
            for repeat in range(repeats.get(number, 1)):
                plan.say(f"{number} Datasets, {repeat + 1} of {repeats.get(number, 1)}")
                found.append(asyncio.run(_observe(plan, plane, number)))
    _draw(plan, found)
    return _section(plan, sizes, found)


def _draw(plan: Plan, found: list[Found]) -> None:
    picture = plan.folder / "scaling.png" if plan.quick else plan.root / "docs" / "images" / "scaling.png"
    data = plan.folder / "found.json"
    data.write_text(json.dumps([asdict(item) for item in found]), encoding="utf-8")
    measuring.run([plan.python("pipelines"), plan.program("draw_scale"), data, picture], plan.log("draw"))


async def _observe(plan: Plan, plane: ControlPlane, number: int) -> Found:
    cores = os.sched_getaffinity(0)
    async with fleet.staged(plan, plane, OURS, cores) as stage:
        await stage.users.until(lambda seen: fleet.EARLY in seen.ready, "one is Ready", 60)
        burst = await _burst(stage, number)
        status = await stage.users.read_status(fleet.EARLY)
        stored = await stage.users.read_size(fleet.EARLY)
        list_alone = await stage.users.list_all()
    with fleet.operating(plan, plane, OURS, stage.operator.namespace, cores) as operator:
        listed = await asyncio.to_thread(operator.until, number + 1)
        looked = await asyncio.to_thread(operator.until, number + 1, passes=True)
        await asyncio.sleep(fleet.SETTLE_SECONDS)
        again_rss = measuring.resident_bytes(operator.pid)
    return Found(
        number=number,
        start=stage.start,
        list_alone=list_alone,
        start_full=listed - operator.began,
        passes_full=looked - operator.began,
        again_rss=again_rss,
        stored=stored,
        limit=await fleet.limit(plane, min(number, 1000), status),
        **asdict(burst),
    )


@dataclass(frozen=True)
class _Burst:
    rss: int
    ready: float
    first: float
    cpu: float
    plane_cpu: float
    writes: dict[str, int]
    full_rss: int
    again_writes: int


async def _burst(stage: fleet.Stage, number: int) -> _Burst:
    before = await stage.settle()
    operator, users, seen = stage.operator, stage.users, stage.reset()
    rss = measuring.resident_bytes(operator.pid)
    cpu, plane_cpu, began = measuring.cpu_seconds(operator.pid), fleet.cpu_of(stage.plane), time.monotonic()
    await users.create(number)
    await users.until(lambda seen: len(seen.ready) >= number, "all are Ready", 120 + number / 5)
    after = await stage.settle()
    cpu, plane_cpu = measuring.cpu_seconds(operator.pid) - cpu, fleet.cpu_of(stage.plane) - plane_cpu
    full_rss, done = measuring.resident_bytes(operator.pid), operator.passes()
    os.kill(operator.pid, signal.SIGUSR1)
    await asyncio.to_thread(operator.until, done + number, passes=True)
    again = await stage.settle() - after
    return _Burst(
        rss=rss,
        ready=max(seen.ready.values()) - began,
        first=middle([seen.first[name] - seen.created[name] for name in seen.created]),
        cpu=cpu,
        plane_cpu=plane_cpu,
        writes=fleet.writes(after - before),
        full_rss=full_rss,
        again_writes=sum(fleet.writes(again).values()),
    )


def _section(plan: Plan, sizes: list[int], found: list[Found]) -> Section:
    def row(what: str, value: Callable[[Found], float]) -> list[Cell]:
        return [what, *([value(item) for item in found if item.number == size] for size in sizes)]

    return Section(
        title="Scale",
        reading=plan.reading(writers=traffic.WRITERS),
        columns=["Datasets", *(str(size) for size in sizes)],
        rows=[
            row("Datasets/s to Ready", lambda item: item.number / item.ready),
            row("limit: status patches/s of one short field", lambda item: item.limit.patches),
            row("limit: patches/s of a whole status", lambda item: item.limit.whole_patches),
            row("limit: creations/s", lambda item: item.limit.creations),
            row("Datasets/s to Ready, ratio to patches of one field", lambda item: _rate(item) / item.limit.patches),
            row(
                "Datasets/s to Ready, ratio to patches of a whole status",
                lambda item: _rate(item) / item.limit.whole_patches,
            ),
            row("Datasets/s to Ready, ratio to the bound by writes", lambda item: _rate(item) * _bound(item)),
            row("writes per Dataset to Ready, without events", lambda item: fleet.patches(item.writes) / item.number),
            row("events per Dataset", lambda item: item.writes.get("POST events", 0) / item.number),
            row("writes in a pass over all, unchanged", lambda item: float(item.again_writes)),
            row("seconds from creation to the first status, median", lambda item: item.first),
            row("CPU ms of the operator per Dataset", lambda item: item.cpu * 1000 / item.number),
            row("CPU ms of API server and etcd per Dataset", lambda item: item.plane_cpu * 1000 / item.number),
            row("seconds from start to the first status, one Dataset", lambda item: item.start),
            row("seconds from start to having listed all", lambda item: item.start_full),
            row("seconds from start to having looked at all", lambda item: item.passes_full),
            row("seconds to list and decode all, alone", lambda item: item.list_alone),
            row(
                "seconds from start to having looked at all, ratio to that",
                lambda item: item.passes_full / item.list_alone,
            ),
            row("memory at rest without Datasets, MB", lambda item: item.rss / 1e6),
            row("memory with all, after the burst, MB", lambda item: item.full_rss / 1e6),
            row("memory with all, after a start, MB", lambda item: item.again_rss / 1e6),
            row("memory per Dataset, after the burst, kB", lambda item: (item.full_rss - item.rss) / item.number / 1e3),
            row("memory per Dataset, after a start, kB", lambda item: (item.again_rss - item.rss) / item.number / 1e3),
            row("kB of a Ready Dataset in the API server's store", lambda item: item.stored / 1e3),
        ],
        details={"found": [asdict(item) for item in found]},
    )


def _rate(item: Found) -> float:
    return item.number / item.ready


def _bound(item: Found) -> float:
    """Seconds that the API server needs at its limits for one creation and for the operator's writes to one Dataset."""
    return 1 / item.limit.creations + fleet.patches(item.writes) / item.number / item.limit.patches
