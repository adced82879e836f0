"""Start of a step's process up to its work, compared with an interpreter that imports the framework. Called by run.py."""

from __future__ import annotations

import json
from functools import partial

from bench import measuring, training
from bench.measuring import Usage
from bench.plan import Plan
from bench.results import Section, middle

GOAL = 1.2
_FRAMEWORKS = {"torch": "import torch", "torchvision": "import torch, torchvision", "ultralytics": "import ultralytics"}
_STEPS = {"yolov8n": ("Detection", "ultralytics"), "mobilenet_v3_small": ("Classification", "torchvision")}
_OURS = "step train, "


def measure(plan: Plan) -> Section:
    """Run the measurement and return its section."""
    ways: dict[str, tuple[object, ...]] = {name: ("-c", code) for name, code in _FRAMEWORKS.items()}
    ways |= {f"{_OURS}{name}": (plan.program("start_step"), _request(name, task)) for name, (task, _) in _STEPS.items()}
    candidates = {name: partial(_run, plan, words) for name, words in ways.items()}
    for once in candidates.values():
        once()
    found = measuring.alternate(candidates, plan.size(5, 2), plan.say)
    cpu = {name: middle([usage.cpu for usage in usages]) for name, usages in found.items()}
    return Section(
        title="Start of a step",
        reading=plan.reading(goal=GOAL),
        columns=["", "CPU s", "ratio to torch", "ratio to its framework", "wall s"],
        rows=[
            [
                name,
                [usage.cpu for usage in usages],
                cpu[name] / cpu["torch"],
                cpu[name] / cpu[_STEPS[name.removeprefix(_OURS)][1]] if name.startswith(_OURS) else None,
                [usage.wall for usage in usages],
            ]
            for name, usages in found.items()
        ],
        details={name: [vars(usage) for usage in usages] for name, usages in found.items()},
    )


def _request(architecture: str, task: str) -> str:
    dataset = {"name": "samples", "version": f"sha256:{'0' * 64}", "uri": "/nowhere"}
    model, learning = {"architecture": architecture}, {"epochs": 1, "imageSize": 96, "batchSize": 16}
    return json.dumps({"dataset": dataset, "task": task, "model": model, "hyperparameters": learning})


def _run(plan: Plan, words: tuple[object, ...]) -> Usage:
    return measuring.run([plan.python("pipelines"), *words], plan.log("starting"), training.environment(plan))
