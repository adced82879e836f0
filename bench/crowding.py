"""How long a tenant's Dataset waits while another tenant has thousands that fail. Called by run.py."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass
from functools import partial

from bench import fleet, measuring, traffic
from bench.fleet import OURS
from bench.plan import Plan
from bench.results import Section, compared, middle
from control_plane import ControlPlane

FAILING = {"source": {"volume": {"path": "nowhere"}}, "task": "Detection"}


@dataclass(frozen=True)
class Waited:
    """Median seconds from the creation of a Dataset; ``busy``: the share of one core that the operator used during that time."""

    first: float
    ready: float
    busy: float


@dataclass(frozen=True)
class Found:
    """Results of one operator, without and with the crowd."""

    idle: Waited
    crowded: Waited


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    crowd, probes, repeats = plan.size(5000, 60), plan.size(20, 3), plan.size(3, 1)
    with fleet.plane(plan) as plane:
        found = []
        for repeat in range(repeats):
            plan.say(f"{repeat + 1} of {repeats}")
            found.append(asyncio.run(_observe(plan, plane, crowd, probes)))
    idle, crowded = [each.idle for each in found], [each.crowded for each in found]
    return Section(
        title="Crowds",
        reading=plan.reading(crowd=crowd, probes=probes),
        columns=["", "beside the crowd", "alone", "ratio"],
        rows=[
            compared("seconds to the first status", [each.first for each in crowded], [each.first for each in idle]),
            compared("seconds to Ready", [each.ready for each in crowded], [each.ready for each in idle]),
            ["of one core: operator", [each.busy for each in crowded], [each.busy for each in idle], None],
        ],
        details={"crowd": crowd, "found": [asdict(each) for each in found]},
    )


async def _observe(plan: Plan, plane: ControlPlane, crowd: int, probes: int) -> Found:
    quiet, crowded = fleet.namespace(plane), fleet.namespace(plane)
    async with traffic.session(plane) as session:
        user, others = (traffic.Traffic(plane, where, session) for where in (quiet, crowded))
        cores = os.sched_getaffinity(0)
        async with user.watching(), others.watching():
            # An empty namespace selects all namespaces.
            with fleet.operating(plan, plane, OURS, quiet, cores, PELAGOS_NAMESPACE="") as operator:
                await _probe(user, operator, "early", 1)
                idle = await _probe(user, operator, "alone", probes)
                await others.create(crowd, FAILING)
                await others.until(
                    lambda seen: len(seen.first) >= crowd, "all of the crowd have a status", 60 + crowd / 5
                )
                # Wait until each of them had its first status and its first pass.
                await asyncio.to_thread(operator.until, 2 * crowd, passes=True, seconds=60 + crowd / 5)
                return Found(idle, await _probe(user, operator, "beside", probes))


def _is_ready(name: str, seen: traffic.Seen) -> bool:
    return name in seen.ready


async def _probe(user: traffic.Traffic, operator: fleet.Operator, name: str, number: int) -> Waited:
    """Create Datasets one after the other, each once the previous one is Ready."""
    began, cpu, seen = asyncio.get_running_loop().time(), measuring.cpu_seconds(operator.pid), user.seen
    names = [f"{name}-{index}" for index in range(number)]
    for each in names:
        await user.create_one(each)
        await user.until(partial(_is_ready, each), f"{each} is Ready", 120)
    passed = asyncio.get_running_loop().time() - began
    return Waited(
        middle([seen.first[each] - seen.created[each] for each in names]),
        middle([seen.ready[each] - seen.created[each] for each in names]),
        (measuring.cpu_seconds(operator.pid) - cpu) / passed,
    )
