"""Scoring of detections, compared with libraries that only compute average precision. Called by run.py."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section, middle

OURS, PEER, REFERENCE = "Pelagos: all metrics", "hotcoco", "pycocotools"
LIBRARIES = (PEER, "faster-coco-eval", REFERENCE)


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    scales = {"usual": (plan.size(5_000, 200), 10), "crowds": (plan.size(6, 2), plan.size(3_000, 300))}
    rows, details = [], {}
    for name, (images, each) in scales.items():
        found = measuring.alternate(
            {OURS: partial(_ours, plan, images, each)}
            | {library: partial(_theirs, plan, library, images, each) for library in LIBRARIES},
            plan.size(3, 1),
            plan.say,
        )
        rows += _compared(f"{images:,} images of {each:,} objects", found)
        details[name] = found
    return Section(
        title="Scoring of detections",
        reading=plan.reading(),
        columns=["", "CPU seconds", f"ratio to {PEER}", f"mAP, difference to {REFERENCE}"],
        rows=rows,
        details=details,
    )


def _compared(scale: str, found: dict[str, list[dict[str, Any]]]) -> list[list[Cell]]:
    seconds = {name: [each["cpu"] for each in runs] for name, runs in found.items()}
    exact = found[REFERENCE][0]["precision"]
    differences = {
        name: max(abs(one - other) for run in runs for one, other in zip(run["precision"], exact, strict=True))
        for name, runs in found.items()
    }
    rows: list[list[Cell]] = [
        [f"{scale}: {name}", each, middle(each) / middle(seconds[PEER]), f"{differences[name]:.0e}"]
        for name, each in seconds.items()
    ]
    return rows


def _ours(plan: Plan, images: int, each: int) -> dict[str, Any]:
    return _run([plan.python("pipelines"), plan.program("score_objects"), images, each])


def _theirs(plan: Plan, library: str, images: int, each: int) -> dict[str, Any]:
    return _run([plan.python("oracles"), plan.program("score_objects_with"), library, images, each])


def _run(command: list[object]) -> dict[str, Any]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    found: dict[str, Any] = measuring.printed(command, one_thread)
    return found
