"""Views of a version, compared with copies of its images, and with links to them only. Called by run.py."""

from __future__ import annotations

import itertools
import shutil
from functools import partial
from pathlib import Path

from bench import large, measuring
from bench.plan import Plan
from bench.results import Cell, Section, middle

SIDES = ((16, 10_000), (128, 4_000), (512, 1_000))
"""Side length in pixels of grey images, and their number."""
COPY, TRAINING, FOLDER, ALONE, LINKS, AGAIN = "copy", "training", "links", "view", "bare", "again"
_SAID = {
    COPY: "copy",
    TRAINING: "**what a training makes**, which has read the images",
    FOLDER: "folder of links and label files, where the images were read",
    ALONE: "the same alone, with reading the images",
    LINKS: "links alone",
    AGAIN: "the same folder again",
}
"""Row names by the program's terms."""


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    found: dict[str, dict[str, list[float]]] = {}
    for side, full in SIDES:
        number = plan.size(full, full // 2)
        data = plan.folder / f"data-{side}"
        large.do(plan, "objects", number, data / "scans", side)
        store = plan.folder / f"store-{side}"
        large.do(plan, "prepare", "scans", data, store, plan.folder / f"report-{side}", "Yolo", "Detection")
        version = next((store / "versions").iterdir())
        numbers = itertools.count()
        ways = {way: partial(_once, plan, way, version, numbers, number) for way in _SAID}
        kilobytes = next((store / "blobs").glob("*/*")).stat().st_size / 1000
        name = f"{number:,} PNG of {side} x {side} pixels, {kilobytes:.1f} kB"
        found[name] = measuring.alternate(ways, plan.size(3, 2), plan.say)
    return Section(
        title="Views",
        reading=plan.reading(),
        columns=["", "CPU µs per image", "times less than a copy"],
        rows=[row for name, ways in found.items() for row in _rows(name, ways)],
        details={"found": found},
    )


def _once(plan: Plan, way: str, version: Path, numbers: itertools.count[int], number: int) -> float:
    """CPU microseconds per image."""
    if way == TRAINING:
        return large.do(plan, way, version).cpu / number * 1e6
    last = plan.folder / "view"
    target = last if way in {ALONE, AGAIN} else plan.folder / f"{way}-{next(numbers)}"
    if way == ALONE:
        shutil.rmtree(last, ignore_errors=True)
    used = large.do(plan, ALONE if way == AGAIN else way, version, target).cpu / number * 1e6
    if target != last:
        shutil.rmtree(target)
    return used


def _rows(name: str, found: dict[str, list[float]]) -> list[list[Cell]]:
    copy = middle(found[COPY])
    rows: list[list[Cell]] = [[f"**{name}**", None, None]]
    rows.append([_SAID[COPY], found[COPY], 1])
    rows += [[_SAID[way], found[way], copy / middle(found[way])] for way in _SAID if way != COPY]
    return rows
