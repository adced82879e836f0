"""The operator's own cost, compared with the minimum for an operator with kopf. Called by run.py.

Each repeat has its own namespace on one real API server. The operators are separate processes, pinned to one core;
the API server, etcd and the clients have the other cores.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

from bench import fleet, measuring, traffic
from bench.fleet import FLOOR, OURS, SAME
from bench.plan import Plan
from bench.results import Cell, Section, compared, middle
from control_plane import ControlPlane


@dataclass(frozen=True)
class Found:
    """Results of one repeat with one operator: times in seconds, ``cpu`` for all Datasets together, memory in bytes."""

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
    """Processor seconds per second at rest with all Datasets."""
    start: float
    """From the start of the process to the first status of a Dataset that already existed."""
    again_cpu: float = 0.0
    again_writes: int = 0


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(500, 60), plan.size(5, 2)
    own, others = cores()
    with fleet.plane(plan) as plane:
        for process in plane.processes.values():
            measuring.pin(process.pid, others)
        candidates = {name: partial(_measure, plan, plane, name, number, own) for name in fleet.PROGRAMS}
        found = measuring.alternate(candidates, repeats, plan.say)
        limits = [asyncio.run(fleet.limit(plane, number, {"uri": "seen"})) for _ in range(repeats)]
    return _section(plan, number, found, limits)


def cores() -> tuple[set[int], set[int]]:
    """One core for the operator, and the others for everything else. On a machine with a single core both are the same."""
    first, *rest = sorted(os.sched_getaffinity(0))
    return {first}, set(rest) or {first}


def _measure(plan: Plan, plane: ControlPlane, name: str, number: int, own: set[int]) -> Found:
    return asyncio.run(_observe(plan, plane, name, number, own))


async def _observe(plan: Plan, plane: ControlPlane, name: str, number: int, own: set[int]) -> Found:
    async with fleet.staged(plan, plane, name, own) as stage:
        return await _burst(stage, number, ours=name == OURS, is_made_ready=name != FLOOR)


async def _burst(stage: fleet.Stage, number: int, *, ours: bool, is_made_ready: bool) -> Found:
    before = await stage.settle()
    pid, users, seen = stage.operator.pid, stage.users, stage.reset()
    rss, cpu, plane_cpu = measuring.resident_bytes(pid), measuring.cpu_seconds(pid), fleet.cpu_of(stage.plane)
    await users.create(number)
    await users.until(lambda seen: len(seen.first) >= number, "all have a status", 120)
    if is_made_ready:
        await users.until(lambda seen: len(seen.ready) >= number, "all are Ready", 120)
    writes = fleet.writes(await stage.settle() - before)
    cpu, plane_cpu = measuring.cpu_seconds(pid) - cpu, fleet.cpu_of(stage.plane) - plane_cpu
    full, idle = measuring.resident_bytes(pid), await _idle(pid)
    again_cpu, again_writes = await _again(stage, number) if ours else (0.0, 0)
    begun = min(seen.created.values())
    return Found(
        cpu=cpu,
        plane_cpu=plane_cpu,
        writes=writes,
        first_rate=number / (max(seen.first.values()) - begun),
        ready_rate=number / (max(seen.ready.values()) - begun) if is_made_ready else 0.0,
        latency=middle([seen.first[name] - seen.created[name] for name in seen.created]),
        idle_rss=rss,
        full_rss=full,
        idle_cpu=idle,
        start=stage.start,
        again_cpu=again_cpu,
        again_writes=again_writes,
    )


async def _idle(pid: int) -> float:
    seconds = 2.0
    cpu = measuring.cpu_seconds(pid)
    await asyncio.sleep(seconds)
    return (measuring.cpu_seconds(pid) - cpu) / seconds


async def _again(stage: fleet.Stage, number: int) -> tuple[float, int]:
    """Processor seconds and writes for one pass over every Dataset, with nothing changed."""
    operator = stage.operator
    before, cpu = await traffic.requests(stage.plane, stage.session), measuring.cpu_seconds(operator.pid)
    done = operator.passes()
    os.kill(operator.pid, signal.SIGUSR1)
    await asyncio.to_thread(operator.until, done + number, passes=True)
    cpu = measuring.cpu_seconds(operator.pid) - cpu
    return cpu, sum(fleet.writes(await stage.settle() - before).values())


def _section(plan: Plan, number: int, found: dict[str, list[Found]], limits: list[fleet.Limit]) -> Section:
    ours, same, floor = found[OURS], found[SAME], found[FLOOR]
    creations, patches = middle([limit.creations for limit in limits]), middle([limit.patches for limit in limits])
    nothing: list[Cell] = [None] * 4
    rows: list[list[Cell]] = [
        *_all(number, ours, same, floor),
        ["CPU ms per unchanged pass", [item.again_cpu * 1000 / number for item in ours], *nothing],
        [f"writes in {number} unchanged passes", [float(item.again_writes) for item in ours], *nothing],
        _row("Datasets/s to Ready", (lambda item: item.ready_rate), ours, same, None),
    ]
    return Section(
        title="Operator",
        reading=plan.reading(
            number=number, poll=_poll(), writers=traffic.WRITERS, limit=f"{creations:.0f}", patches=f"{patches:.0f}"
        ),
        columns=["", OURS, FLOOR, "ratio", SAME, "ratio to these"],
        rows=rows,
        details={
            "number": number,
            "found": {name: [asdict(item) for item in items] for name, items in found.items()},
            "limits": [asdict(limit) for limit in limits],
        },
    )


def _row(
    what: str, value: Callable[[Found], float], ours: list[Found], same: list[Found], floor: list[Found] | None
) -> list[Cell]:
    mine, theirs = [value(item) for item in ours], [value(item) for item in same]
    first = compared(what, mine, [value(item) for item in floor]) if floor is not None else [what, mine, None, None]
    return [*first, *compared(what, mine, theirs)[2:]]


def _all(number: int, ours: list[Found], same: list[Found], floor: list[Found]) -> Iterator[list[Cell]]:
    def row(what: str, value: Callable[[Found], float]) -> list[Cell]:
        return _row(what, value, ours, same, floor)

    yield row("CPU ms per Dataset", (lambda item: item.cpu * 1000 / number))
    yield row("writes per Dataset, without events", (lambda item: fleet.patches(item.writes) / number))
    yield row("events per Dataset", (lambda item: item.writes.get("POST events", 0) / number))
    yield row("CPU ms of API server and etcd per Dataset", (lambda item: item.plane_cpu * 1000 / number))
    yield row("Datasets/s to the first status", (lambda item: item.first_rate))
    yield row("seconds from creation to the first status, median in the burst", (lambda item: item.latency))
    yield row("seconds from start to the first status of a Dataset that waits", (lambda item: item.start))
    yield row("memory at rest without Datasets, MiB", (lambda item: item.idle_rss / 2**20))
    yield row("memory per Dataset, KiB", (lambda item: (item.full_rss - item.idle_rss) / number / 1024))
    yield row("CPU ms per second at rest with all Datasets", (lambda item: item.idle_cpu * 1000))


def _poll() -> float:
    from pelagos.decisions import attempts

    return attempts.FIRST_POLL
