"""Hashing and search of near duplicates, compared with imagededup on planted copies. Called by run.py."""

from __future__ import annotations

from functools import partial

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section, middle

OURS, PEER = "pelagos", "imagededup"


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    sizes, repeats = (
        [plan.size(full, quick) for full, quick in ((2_500, 300), (5_000, 600), (10_000, 1_200))],
        plan.size(3, 1),
    )
    rows: list[list[Cell]] = []
    details: dict[str, object] = {}
    for size in sizes:
        ways = {way: partial(_run, plan, way, size) for way in (OURS, PEER)}
        found = measuring.alternate(ways, repeats, plan.say)
        details[str(size)] = found
        costs = {way: middle([one["hashing"] + one["searching"] for one in runs]) for way, runs in found.items()}
        for way, runs in found.items():
            hashing, searching = ([one[key] / size * 1e6 for one in runs] for key in ("hashing", "searching"))
            recall = min(one["recall"] for one in runs)
            rows.append([f"{way}, {size:,} images", hashing, searching, costs[way] / costs[OURS], recall])
    return Section(
        title="Near duplicates beside imagededup",
        reading=plan.reading(),
        columns=["", "CPU µs per image, hashing", "CPU µs per image, search", "both, ratio to Pelagos", "recall"],
        rows=rows,
        details={"found": details},
    )


def _run(plan: Plan, way: str, size: int) -> dict[str, float]:
    command = [plan.python("pipelines-dev"), plan.program("find_duplicates"), way, plan.data / "samples", size]
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    found: dict[str, float] = measuring.printed(command, one_thread)
    return found
