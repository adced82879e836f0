"""The training of classifiers, against a plain loop of torch on the same images with the same arguments. Called by run.py."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from bench import measuring, tracking, training
from bench.measuring import Usage
from bench.plan import Plan
from bench.results import Section

OURS, BARE = "step train", "plain torch"
ARCHITECTURE = "mobilenet_v3_small"
SIZE, BATCH, THREADS = 96, 32, 1
TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT)
BRIGHTNESS = (1.0, 0.97, 0.94, 0.91)
_VIEW = """
import sys
from pathlib import Path
from pelagos_pipelines.preparation import versions
versions.materialise(sys.argv[1], "imagefolder", Path(sys.argv[2]))
"""


def measure(plan: Plan) -> Section:
    """See the module."""
    repeats, (short, long) = plan.size(3, 1), (plan.size(2, 1), plan.size(12, 3))
    with tracking.server(plan) as mlflow:
        version, images = _prepare(plan)
        workspaces = (plan.folder / f"workspace-{number}" for number in itertools.count())
        candidates = {
            f"{name}, {epochs} epochs": partial(train, plan, version, mlflow, epochs, workspaces)
            for epochs in (short, long)
            for name, train in ((OURS, _train), (BARE, _plain))
        }
        trained = measuring.alternate(candidates, repeats, plan.say)
    reading = plan.reading(
        architecture=ARCHITECTURE, images=images, size=SIZE, batch=BATCH, threads=THREADS, ours=OURS, bare=BARE,
        short=short, long=long,
    )  # fmt: skip
    return Section(
        title="Training of classifiers",
        reading=reading,
        columns=["", f"{OURS}, CPU s", f"{BARE}, CPU s", "ratio", f"{OURS}, wall s", f"{BARE}, wall s"],
        rows=training.compared(trained, (OURS, BARE), short, long),
        details={name: [vars(usage) for usage in usages] for name, usages in trained.items()},
    )


def _prepare(plan: Plan) -> tuple[dict[str, Any], int]:
    """A dataset version of the sample crops, each of them turned and darkened some times, and how many images it has."""
    source = plan.data / "samples" / "phytoplankton-crops"
    if not source.exists():
        raise measuring.MeasurementError(f"{source} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    number = 0
    for file in sorted(source.glob("*/*")):
        target = plan.folder / "data" / "crops" / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            for turn, share in itertools.product(TURNS, BRIGHTNESS[: plan.size(4, 1)]):
                turned = image.convert("RGB") if turn is None else image.convert("RGB").transpose(turn)
                turned.point([round(value * share) for value in range(256)] * 3).save(target / f"{number}.png")
                number += 1
    request = {
        "source": {"volume": {"path": "crops"}},
        "task": "Classification",
        "cleaning": {"duplicates": {"action": "Keep"}},
        "split": {"policy": "Random", "ratios": {"train": 80, "validation": 10, "test": 10}, "seed": 0},
    }
    report = plan.folder / "prepared"
    arguments = {"request": json.dumps(request), "data_root": str(plan.folder / "data")}
    training.task(plan, "prepare", arguments | {"store": str(plan.folder / "store"), "report": str(report)})
    version: dict[str, Any] = json.loads((report / "result.json").read_text(encoding="utf-8"))
    python = plan.python("pipelines")
    measuring.run(
        [python, "-c", _VIEW, version["uri"], plan.folder / "view"], plan.log("view"), training.environment(plan)
    )
    return version, number


def _train(plan: Plan, version: dict[str, Any], mlflow: str, epochs: int, workspaces: Iterator[Path]) -> Usage:
    workspace = next(workspaces)
    parameters = {"imageSize": SIZE, "batchSize": BATCH, "learningRate": "0.001", "weightDecay": "0.0005"}
    request = {
        "dataset": {"name": "crops", "version": version["version"], "uri": version["uri"]},
        "task": "Classification",
        "model": {"architecture": ARCHITECTURE},
        "hyperparameters": parameters | {"epochs": epochs, "optimizer": "AdamW"},
        "resources": {"cpu": THREADS},
    }
    places = {"store": str(workspace / "store"), "report": str(workspace / "report"), "workspace": str(workspace)}
    arguments = {"request": json.dumps(request), "data_root": str(plan.folder / "data"), **places}
    run = {"tracking_uri": mlflow, "tracking_run": tracking.create_run(plan, mlflow)}
    return training.task(plan, "train", arguments | run)


def _plain(plan: Plan, version: dict[str, Any], mlflow: str, epochs: int, workspaces: Iterator[Path]) -> Usage:
    del version, mlflow
    workspace = next(workspaces)
    workspace.mkdir()
    numbers = map(str, (epochs, SIZE, BATCH, THREADS))
    command = [plan.python("pipelines"), plan.program("train_plainly"), plan.folder / "view", ARCHITECTURE, *numbers]
    return measuring.run([*command, workspace], plan.log("plain"), training.environment(plan))
