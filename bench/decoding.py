"""The cost of decoding images in children with ceilings instead of in the process that uses them. Called by run.py."""

from __future__ import annotations

import itertools
import os
import subprocess
from functools import partial
from pathlib import Path

from bench import measuring, preparing, serving
from bench.plan import Plan
from bench.results import Cell, Section, middle

SIDE = 320
PREPARATION, SERVING = "preparation, first version", "serving, one image at a time"
HERE, CHILDREN = "here", "children"


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    number, repeats = plan.size(1000, 200), plan.size(5, 2)
    images = plan.folder / "data" / "images"
    measuring.run(
        [plan.python("pipelines"), plan.program("draw_images"), images, str(number), str(SIDE)], plan.log("draw")
    )
    frames = serving.frames(plan)
    package = serving.package(plan, frames)
    predictor = _Predictor(plan, Path(package["uri"]), frames)
    numbers = itertools.count()
    requests = plan.size(400, 60)
    steps = {
        f"{PREPARATION}, {HERE}": partial(_prepare, plan, HERE, numbers, number),
        f"{PREPARATION}, {CHILDREN}": partial(_prepare, plan, "prepare", numbers, number),
        f"{SERVING}, {HERE}": partial(predictor.measure, HERE, requests),
        f"{SERVING}, {CHILDREN}": partial(predictor.measure, CHILDREN, requests),
    }
    try:
        predictor.measure(HERE, 20), predictor.measure(CHILDREN, 20)
        found = measuring.alternate(steps, repeats, plan.say)
    finally:
        predictor.close()
    return Section(
        title="Decoding in children with ceilings",
        reading=plan.reading(number=number, side=SIDE, size=serving.SIZE, requests=requests),
        columns=["", "CPU ms per image, in the same process", "in children", "ratio"],
        rows=[_row(what, found) for what in (PREPARATION, SERVING)],
        details={"number": number, "found": found},
    )


def _row(what: str, found: dict[str, list[float]]) -> list[Cell]:
    here, children = found[f"{what}, {HERE}"], found[f"{what}, {CHILDREN}"]
    return [what, here, children, middle(children) / middle(here)]


def _prepare(plan: Plan, way: str, numbers: itertools.count[int], number: int) -> float:
    """CPU milliseconds per image for a first version."""
    index = next(numbers)
    store, report = plan.folder / f"store-{index}", plan.folder / f"report-{index}"
    return preparing.work(plan, way, ("images", plan.folder / "data"), store, report)["cpu"] * 1000 / number


class _Predictor:
    """A process that has loaded the model and predicts on request."""

    def __init__(self, plan: Plan, package: Path, frames: Path) -> None:
        command = [plan.python("triton"), plan.program("predict_images"), package, frames]
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=plan.log("predictor").open("wb"),
            text=True,
            env=os.environ | {"PYTHONPATH": str(plan.root / "tests")},
        )

    def measure(self, way: str, number: int) -> float:
        """CPU milliseconds per image."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{way} {number}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise measuring.MeasurementError("the predictor ended; it needs the environment triton")
        return float(line) * 1000 / number

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
