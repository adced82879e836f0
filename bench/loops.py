"""Shared by the training benchmarks: a training step, compared with a plain loop of its framework."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import measuring, tracking, training
from bench.measuring import Usage
from bench.plan import Plan
from bench.results import Section

OURS = "step train"


@dataclass(frozen=True)
class Data:
    """A dataset version as the preparation reports it, the root of its data, and the number of training images."""

    version: Mapping[str, Any]
    root: Path
    images: int


@dataclass(frozen=True)
class Trained:
    """The training that both do.

    ``loop`` returns the plain program's arguments for a number of epochs and a folder. ``epochs``: those of the short and the
    long training, first for a full run, then for a quick one.
    """

    title: str
    task: str
    architecture: str
    size: int
    batch: int
    threads: int
    learning_rate: str
    epochs: tuple[tuple[int, int], tuple[int, int]]
    bare: str
    loop: Callable[[Plan, int, Path], list[object]]


def measure(plan: Plan, what: Trained, prepare: Callable[[Plan], Data]) -> Section:
    """Train with both on the data from ``prepare``, and return the section that compares them."""
    repeats, (short, long) = plan.size(3, 1), tuple(plan.size(*each) for each in what.epochs)
    with tracking.server(plan) as mlflow:
        data = prepare(plan)
        workspaces = (plan.folder / f"workspace-{number}" for number in itertools.count())
        ways = {OURS: partial(_step, plan, what, data, mlflow), what.bare: partial(_plain, plan, what)}
        candidates = {
            f"{name}, {epochs} epochs": partial(train, epochs, workspaces)
            for epochs in (short, long)
            for name, train in ways.items()
        }
        trained = measuring.alternate(candidates, repeats, plan.say)
    reading = plan.reading(
        architecture=what.architecture, images=data.images, size=what.size, batch=what.batch, threads=what.threads,
        ours=OURS, bare=what.bare, short=short, long=long,
    )  # fmt: skip
    return Section(
        title=what.title,
        reading=reading,
        columns=["", f"{OURS}, CPU s", f"{what.bare}, CPU s", "ratio", f"{OURS}, wall s", f"{what.bare}, wall s"],
        rows=training.compared(trained, (OURS, what.bare), short, long),
        details={name: [vars(usage) for usage in usages] for name, usages in trained.items()},
    )


def source(plan: Plan, name: str) -> Path:
    """The path of a samples folder. Raises MeasurementError when it does not exist."""
    found = plan.data / "samples" / name
    if not found.exists():
        raise measuring.MeasurementError(f"{found} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    return found


def prepared(plan: Plan, request: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Create a dataset version by the real step; returns its result."""
    report = plan.folder / "prepared"
    arguments = {"request": json.dumps(request), "data_root": str(root)}
    training.task(plan, "prepare", arguments | {"store": str(plan.folder / "store"), "report": str(report)})
    version: dict[str, Any] = json.loads((report / "result.json").read_text(encoding="utf-8"))
    return version


def _step(plan: Plan, what: Trained, data: Data, mlflow: str, epochs: int, workspaces: Iterator[Path]) -> Usage:
    workspace = next(workspaces)
    parameters = {"imageSize": what.size, "batchSize": what.batch, "weightDecay": "0.0005", "optimizer": "AdamW"}
    request = {
        "dataset": {"name": "samples", "version": data.version["version"], "uri": data.version["uri"]},
        "task": what.task,
        "model": {"architecture": what.architecture},
        "hyperparameters": parameters | {"learningRate": what.learning_rate, "epochs": epochs},
        "resources": {"cpu": what.threads},
    }
    places = {"store": str(workspace / "store"), "report": str(workspace / "report"), "workspace": str(workspace)}
    arguments = {"request": json.dumps(request), "data_root": str(data.root), **places}
    run = {"tracking_uri": mlflow, "tracking_run": tracking.create_run(plan, mlflow)}
    return training.task(plan, "train", arguments | run)


def _plain(plan: Plan, what: Trained, epochs: int, workspaces: Iterator[Path]) -> Usage:
    workspace = next(workspaces)
    workspace.mkdir()
    command = [plan.python("pipelines"), *map(str, what.loop(plan, epochs, workspace))]
    return measuring.run(command, plan.log("plain"), training.environment(plan))
