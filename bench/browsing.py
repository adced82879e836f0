"""Response times of hub pages with many models, compared with the delay that visitors notice. Called by run.py."""

from __future__ import annotations

from typing import Any

from bench import measuring
from bench.plan import Plan
from bench.results import Section

LIMIT = 0.2
"""Limit in seconds for the server's first page."""


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(500, 50), plan.size(5, 1)
    plan.say(f"{number} models")
    runs = [_run(plan, number) for _ in range(repeats)]
    first = [run["first"] for run in runs]
    rows: list[list[Any]] = [["catalogue, the first request of all", *_cells(first)]]
    rows += [[name, *_cells([seconds for run in runs for seconds in run["pages"][name]])] for name in runs[0]["pages"]]
    rows.append(["peak memory of the hub, MiB", [run["memory"] / 2**20 for run in runs], ""])
    return Section(
        title="Catalogue",
        reading=plan.reading(number=number, limit=f"{LIMIT * 1000:.0f}", processes=repeats),
        columns=["", "ms", "ratio to the limit"],
        rows=rows,
        details={"number": number, "runs": runs},
    )


def _cells(seconds: list[float]) -> list[list[float]]:
    return [[each * 1000 for each in seconds], [each / LIMIT for each in seconds]]


def _run(plan: Plan, number: int) -> dict[str, Any]:
    command = [plan.python("hub"), plan.program("render_catalogue"), number]
    found: dict[str, Any] = measuring.printed(command)
    return found
