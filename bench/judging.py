"""The report of a large version, compared with a limit of one minute. Called by run.py."""

from __future__ import annotations

from bench import measuring
from bench.plan import Plan
from bench.results import Section

LIMIT = 60.0
"""Limit in seconds for the report of the full number of images."""
_MEBIBYTE = 2**20


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(100_000, 5_000), plan.size(3, 1)
    found = {}
    for pixels in (320, 4000):
        plan.say(f"{number} images of {pixels} x {pixels} pixels")
        runs = [_make(plan, number, pixels) for _ in range(repeats)]
        found[f"{number:,} images of {pixels} x {pixels} pixels"] = {
            name: [run[name] for run in runs] for name in runs[0]
        }
    return Section(
        title="Reports of datasets",
        reading=plan.reading(number=f"{number:,}", limit=LIMIT),
        columns=["", "seconds", "ratio to the limit", "CPU seconds", "peak memory, MiB", "page, MB"],
        rows=[
            [
                name,
                each["wall"],
                [seconds / LIMIT for seconds in each["wall"]],
                each["cpu"],
                [size / _MEBIBYTE for size in each["memory"]],
                [size / 1e6 for size in each["page"]],
            ]
            for name, each in found.items()
        ],
        details={"number": number, "found": found},
    )


def _make(plan: Plan, number: int, pixels: int) -> dict[str, float]:
    command = [plan.python("pipelines"), plan.program("make_report"), number, pixels, plan.folder / f"made-{pixels}"]
    found: dict[str, float] = measuring.printed(command)
    return found
