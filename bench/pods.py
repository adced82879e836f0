"""Overhead of pods for a Dataset and a training on a Kubernetes node, with a pod before each step. Called by run.py."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping

from bench import measuring
from bench.plan import Plan
from bench.results import Cell, Section

PATH = "samples/phytoplankton-crops"
GOALS = {"Dataset": 20.0, "TrainingRun": 30.0}
"""Goals in seconds above the work itself, on an idle node."""
Sample = Mapping[str, float]


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    if not (plan.data / PATH).exists():
        raise measuring.MeasurementError(f"{plan.data / PATH} is missing; run `make samples`, or set PELAGOS_DATA_ROOT")
    into, node = plan.folder / "pods.json", plan.folder / "node"
    node.mkdir()
    environment = os.environ | {"PYTHONPATH": str(plan.root / "tests"), "PELAGOS_ENVIRONMENTS": str(plan.environments)}
    plan.say("a node of Kubernetes, its images, and the platform on it")
    command = [plan.python("dev"), plan.program("follow_pods"), node, plan.data, plan.size(3, 1), into]
    measuring.run(command, plan.log("pods"), environment)
    found = json.loads(into.read_text(encoding="utf-8"))
    samples = {kind: found[kind] for kind in GOALS}
    return Section(
        title="Pipelines on a node",
        reading=plan.reading(path=PATH, loads=", ".join(f"{load:.1f}" for load in found["loads"])),
        columns=["", *(f"{kind}, s" for kind in GOALS)],
        rows=rows(samples),
        details=found,
    )


def rows(samples: Mapping[str, list[Sample]]) -> list[list[Cell]]:
    """Rows of the table, from the samples by kind."""
    spans: dict[str, Callable[[str, Sample], float]] = {
        "`kubectl apply` to Ready": lambda _, each: each["ready"],
        "its work": lambda _, each: each["work"],
        "**above its work**": lambda _, each: each["ready"] - each["work"],
        "... of the goal": lambda kind, each: (each["ready"] - each["work"]) / GOALS[kind],
        "... pods that prepare the run and its steps": lambda _, each: each["preparing"],
        "... pods of steps, until their work begins": lambda _, each: each["starting"],
        "pods": lambda _, each: each["pods"],
    }
    return [[name, *([span(kind, each) for each in samples[kind]] for kind in GOALS)] for name, span in spans.items()]
