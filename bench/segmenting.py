"""The training of segmenters, against a plain loop of transformers with the same images and arguments. Called by run.py."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench import measuring, tracking, training
from bench.measuring import Usage
from bench.plan import Plan
from bench.results import Section

OURS, BARE = "step train", "plain transformers"
NETWORK = "mask2former_tiny"
SIZE, BATCH, THREADS = 128, 8, 1


def measure(plan: Plan) -> Section:
    """See the module."""
    repeats, (short, long) = plan.size(3, 1), (plan.size(1, 1), plan.size(3, 2))
    with tracking.server(plan) as mlflow:
        version = _prepare(plan)
        workspaces = (plan.folder / f"workspace-{number}" for number in itertools.count())
        candidates = {
            f"{name}, {epochs} epochs": partial(train, plan, version, mlflow, epochs, workspaces)
            for epochs in (short, long)
            for name, train in ((OURS, _train), (BARE, _plain))
        }
        trained = measuring.alternate(candidates, repeats, plan.say)
    images = sum(version["splits"][split]["images"] for split in ("train", "validation"))
    reading = plan.reading(
        architecture=f"{NETWORK}-semantic", images=images, size=SIZE, batch=BATCH, threads=THREADS, ours=OURS, bare=BARE,
        short=short, long=long,
    )  # fmt: skip
    return Section(
        title="Training of segmenters",
        reading=reading,
        columns=["", f"{OURS}, CPU s", f"{BARE}, CPU s", "ratio", f"{OURS}, wall s", f"{BARE}, wall s"],
        rows=training.compared(trained, (OURS, BARE), short, long),
        details={name: [vars(usage) for usage in usages] for name, usages in trained.items()},
    )


def _prepare(plan: Plan) -> dict[str, Any]:
    """A dataset version of the sample scenes, by the real step, and its arrays for the plain loop."""
    source = plan.data / "samples" / "phytoplankton-scenes"
    if not source.exists():
        raise measuring.MeasurementError(f"{source} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    request = {
        "source": {"volume": {"path": "samples/phytoplankton-scenes"}},
        "format": "Coco",
        "task": "SemanticSegmentation",
        "split": {"policy": "Provided"},
    }
    report = plan.folder / "prepared"
    arguments = {"request": json.dumps(request), "data_root": str(plan.data)}
    training.task(plan, "prepare", arguments | {"store": str(plan.folder / "store"), "report": str(report)})
    version: dict[str, Any] = json.loads((report / "result.json").read_text(encoding="utf-8"))
    drawn = [plan.python("pipelines"), plan.program("draw_maps"), version["uri"], SIZE, plan.folder / "arrays.npz"]
    measuring.run(drawn, plan.log("draw"), training.environment(plan))
    return version


def _train(plan: Plan, version: dict[str, Any], mlflow: str, epochs: int, workspaces: Iterator[Path]) -> Usage:
    workspace = next(workspaces)
    parameters = {"imageSize": SIZE, "batchSize": BATCH, "learningRate": "0.0005", "weightDecay": "0.0005"}
    request = {
        "dataset": {"name": "scenes", "version": version["version"], "uri": version["uri"]},
        "task": "SemanticSegmentation",
        "model": {"architecture": f"{NETWORK}-semantic"},
        "hyperparameters": parameters | {"epochs": epochs, "optimizer": "AdamW"},
        "resources": {"cpu": THREADS},
    }
    places = {"store": str(workspace / "store"), "report": str(workspace / "report"), "workspace": str(workspace)}
    arguments = {"request": json.dumps(request), "data_root": str(plan.data), **places}
    run = {"tracking_uri": mlflow, "tracking_run": tracking.create_run(plan, mlflow)}
    return training.task(plan, "train", arguments | run)


def _plain(plan: Plan, version: dict[str, Any], mlflow: str, epochs: int, workspaces: Iterator[Path]) -> Usage:
    del version, mlflow
    workspace = next(workspaces)
    workspace.mkdir()
    program, arrays = plan.program("train_segmenter_plainly"), plan.folder / "arrays.npz"
    command = [plan.python("pipelines"), program, arrays, NETWORK, epochs, BATCH, THREADS, workspace]
    return measuring.run(command, plan.log("plain"), training.environment(plan))
