"""Several model servers, compared with loading in process: start to the first answer, and memory. Called by run.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench import large, measuring, serving
from bench.plan import Plan
from bench.results import Cell, Section, middle

GOAL = 1.5


@dataclass(frozen=True)
class Loaded:
    """From the start of a process to its first answer: wall and processor seconds, and the bytes that it then holds.

    Servers include their model process; shared pages count in part.
    """

    wall: float
    cpu: float
    memory: int


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    most = plan.size(4, 2)
    images = serving.frames(plan)
    package = serving.package(plan, images)
    want = serving.wanted(package, 0)
    wants = [replace(want, uid=f"bench-{at}", name=f"bench-{at}", digest=f"bench-{at}") for at in range(most)]
    alone: list[Loaded] = []
    served: list[Loaded] = []
    held: list[int] = []
    started: list[serving.Endpoint] = []
    try:
        for each in wants:
            alone.append(_here(plan, Path(package["uri"]), images))
            began = time.monotonic()
            started.append(asyncio.run(serving.start(plan, each)))
            served.append(_of(started[-1].process, time.monotonic() - began))
            held.append(sum(_memory(endpoint.process) for endpoint in started))
        envoy = _memory(started[0].envoy)
    finally:
        for each in wants:
            asyncio.run(serving.remove(plan, each))
    return Section(
        title="Model servers",
        reading=plan.reading(size=serving.SIZE, threads=serving.THREADS, goal=GOAL, envoy=envoy / 1e6),
        columns=["", "CPU s to the first answer", "ratio to in process", "wall s", "memory, MB", "ratio of memory"],
        rows=list(_rows(alone, served, held)),
        details={"alone": list(map(asdict, alone)), "served": list(map(asdict, served)), "held": held, "envoy": envoy},
    )


def _rows(alone: list[Loaded], served: list[Loaded], held: list[int]) -> Iterator[list[Cell]]:
    cpu, memory = middle([each.cpu for each in alone]), middle([each.memory for each in alone])
    yield [
        "in process", [each.cpu for each in alone], 1, [each.wall for each in alone],
        [each.memory / 1e6 for each in alone], 1,
    ]  # fmt: skip
    for number, (one, all_of_them) in enumerate(zip(served, held, strict=True), 1):
        ratio = all_of_them / (number * memory)
        yield [f"server number {number}", one.cpu, one.cpu / cpu, one.wall, all_of_them / 1e6, ratio]


def _here(plan: Plan, version: Path, images: Path) -> Loaded:
    began = time.monotonic()
    here = serving.Here(plan, version, images)
    try:
        here.measure(1, 1)
        return _of(here.pid, time.monotonic() - began)
    finally:
        here.close()


def _of(process: int, wall: float) -> Loaded:
    return Loaded(wall, measuring.cpu_seconds(process), _memory(process))


def _memory(process: int) -> int:
    return sum(map(large.proportional, measuring.tree(process)))
