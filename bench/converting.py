"""Conversion from COCO to YOLO by our reader and writer, compared with ultralytics and datumaro. Called by run.py."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section, middle

BOXES = 10
OURS = "pelagos"
ENVIRONMENTS = {OURS: "pipelines", "ultralytics": "pipelines", "datumaro": "oracles"}
_MEMORY = Path("/dev/shm")


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(20_000, 1_000), plan.size(5, 2)
    folder = (_MEMORY if _MEMORY.is_dir() else plan.folder) / plan.folder.name
    try:
        _do(plan, "draw", folder, str(number))
        present = [name for name, environment in ENVIRONMENTS.items() if plan.python(environment).exists()]
        found = measuring.alternate(
            {name: partial(_convert, plan, name, folder) for name in present}, repeats, plan.say
        )
        differ = {name: _compared(plan, folder, name, number) for name in present if name != OURS}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours = middle([one["cpu"] for one in found[OURS]])
    rows: list[list[Cell]] = []
    for name in present:
        cpu, wall = ([one[key] for one in found[name]] for key in ("cpu", "wall"))
        rows.append([name, cpu, wall, middle(cpu) / ours, differ.get(name)])
    return Section(
        title="COCO to YOLO",
        reading=plan.reading(number=f"{number:,}", boxes=f"{number * BOXES:,}"),
        columns=["", "CPU s", "s, wall", "CPU, ratio to Pelagos", "boxes that differ from ours"],
        rows=rows,
        details={"number": number, "found": found},
    )


def _convert(plan: Plan, name: str, folder: Path) -> dict[str, float]:
    shutil.rmtree(folder / name, ignore_errors=True)
    return _do(plan, name, folder)


def _compared(plan: Plan, folder: Path, name: str, number: int) -> int:
    """The number of boxes that differ. Raises MeasurementError when boxes are missing."""
    found = _do(plan, "compare", folder, name)
    if found["boxes"] != number * BOXES:
        raise measuring.MeasurementError(f"there are {found['boxes']} boxes of {number * BOXES}")
    return int(found["differ"] + abs(found["theirs"] - found["boxes"]))


def _do(plan: Plan, what: str, folder: Path, *arguments: str) -> dict[str, float]:
    command = [
        plan.python(ENVIRONMENTS.get(what, "pipelines")),
        plan.program("convert_labels"),
        what,
        folder,
        *arguments,
    ]
    found: dict[str, float] | None = measuring.printed(command, {"PYTHONPATH": str(plan.root / "tests")}, what)
    return found or {}
