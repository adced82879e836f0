"""The step prepare, compared with reading, hashing and decoding the same images. Called by run.py."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section, middle

SIDE = 320
FRESH, LIMIT, AGAIN = "first version", "read + sha256 + decode", "unchanged source"
APART, STORED = "limit, decoded in children with ceilings", "limit, and each written and synced"


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(2000, 300), plan.size(3, 2)
    images = plan.folder / "data" / "images"
    drawing = [plan.python("pipelines"), plan.program("draw_images"), images, str(number), str(SIDE)]
    measuring.run(drawing, plan.log("draw"))
    numbers = itertools.count()
    steps = {
        FRESH: partial(_prepare, plan, number, numbers, fresh=True),
        LIMIT: partial(work, plan, "limit", _source(plan), Path("unused"), Path("unused")),
        APART: partial(work, plan, "apart", _source(plan), Path("unused"), Path("unused")),
        STORED: partial(_store, plan, numbers),
        AGAIN: partial(_prepare, plan, number, numbers, fresh=False),
    }
    found = measuring.alternate(steps, repeats, plan.say)
    size = sum(file.stat().st_size for file in images.rglob("*.jpg")) / number / 1000
    rows = [_row(name, number, found[name], found[LIMIT]) for name in (FRESH, AGAIN, LIMIT, APART, STORED)]
    rows.insert(1, _children(number, found[FRESH], found[LIMIT]))
    return Section(
        title="Preparation",
        reading=plan.reading(number=number, side=SIDE, bytes=size),
        columns=["", "CPU ms per image", "images/s, wall", "CPU, ratio to the limit"],
        rows=rows,
        details={"number": number, "found": found},
    )


def _row(name: str, number: int, found: list[dict[str, float]], limit: list[dict[str, float]]) -> list[Cell]:
    cpu = [item["cpu"] * 1000 / number for item in found]
    return [name, cpu, [number / item["wall"] for item in found], middle(cpu) / _least(number, limit)]


def _children(number: int, found: list[dict[str, float]], limit: list[dict[str, float]]) -> list[Cell]:
    cpu = [item["children"] * 1000 / number for item in found]
    return ["... of which in the children that decode", cpu, None, middle(cpu) / _least(number, limit)]


def _least(number: int, limit: list[dict[str, float]]) -> float:
    return middle([item["cpu"] * 1000 / number for item in limit])


def _prepare(plan: Plan, number: int, numbers: itertools.count[int], *, fresh: bool) -> dict[str, float]:
    """Run the step: with a new store if ``fresh``, otherwise with the store of the last preparation."""
    index = next(numbers)
    latest = plan.folder / "store"
    if fresh:
        store = plan.folder / f"store-{index}"
        latest.unlink(missing_ok=True)
        latest.symlink_to(store)
    found = work(plan, "prepare", _source(plan), latest.resolve(), plan.folder / f"report-{index}")
    if found["images"] != number:
        raise measuring.MeasurementError(f"the version holds {found['images']} images of {number}")
    return found


def _store(plan: Plan, numbers: itertools.count[int]) -> dict[str, float]:
    return work(plan, "stored", _source(plan), plan.folder / f"stored-{next(numbers)}", Path("unused"))


def work(plan: Plan, what: str, source: tuple[str, Path], store: Path, report: Path) -> dict[str, float]:
    """Seconds of the step prepare, or of its limit, for a path in a data volume, in a separate process."""
    path, data = source
    command = [plan.python("pipelines"), plan.program("prepare_images"), what, path, data, store, report]
    variables = {"PYTHONPATH": str(plan.root / "tests")}
    found: dict[str, float] = measuring.printed(command, variables, f"{what} of {store}")
    return found


def _source(plan: Plan) -> tuple[str, Path]:
    return "images", plan.folder / "data"
