"""Facts about an untrained model, for its documents: with every field set, or with none that people would fill in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pelagos_contract.cost import Cost
from pelagos_contract.metrics import class_name, of_test
from pelagos_contract.tasks import TASKS, Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.describing.facts import Facts

ABOUT: dict[str, Any] = {
    "resource": "bay/fish-yolo",
    "card": {
        "title": "Fish of the bay",
        "summary": "Finds fish in images of a diver's camera.",
        "intendedUse": "Counting fish, by people who check what it says.\nNot for protected species.",
        "limitations": "Not tried at night.",
        "contact": {"name": "Roe, Jo", "email": "jo@example.org"},
        "license": "CC-BY-4.0",
        "citation": "Roe (2026)",
        "sourceCode": "https://git.example.org/bay/fish",
    },
    "dataset": {
        "title": "Fish of the bay, annotated underwater images",
        "creators": ["Curie, Marie", "Marine Lab"],
        "license": "CC-BY-4.0",
        "doi": "10.5281/zenodo.1234567",
    },
}


def request(about: Mapping[str, Any] | None = None) -> TrainingRequest:
    return TrainingRequest.model_validate(
        {
            "dataset": {"name": "bay-fish", "version": f"sha256:{'ab12' * 16}", "uri": "/nowhere"},
            "task": "Detection",
            "model": {"architecture": "yolov8n"},
            "hyperparameters": {"epochs": 100, "imageSize": 640},
            "earlyStopping": {"patience": 8},
            "about": about,
        }
    )


def facts(
    labels: Sequence[str] = ("cod", "eel", "never seen"), about: Mapping[str, Any] | None = ABOUT, site: str = "pier"
) -> Facts:
    """Facts about a detector whose last class is in no test image, with intervals, slices and models that left a group out."""
    names, metrics = TASKS[Task.DETECTION].metrics, dict[str, float | None]()
    for place, name in enumerate(names):
        metrics[of_test(name)] = 0.5 + place / 20
        metrics |= {of_test(name, label): 0.3 + number / 10 for number, label in enumerate(labels[:-1])}
        metrics[of_test(name, labels[-1])] = None
    metrics[of_test("ECE")] = 0.04
    for value, found in ((site, 0.2), ("reef", 0.7)):
        metrics[f"slice/site/{class_name(value)}/mAP50"] = found
        metrics[f"leave-one-out/site/{class_name(value)}/mAP50"] = found - 0.1
    metrics["leave-one-out/site/mAP50"] = 0.35
    intervals = {
        of_test("mAP50"): {"low": 0.41, "high": 0.58},
        f"slice/site/{class_name(site)}/mAP50": {"low": 0.1, "high": 0.3},
        f"leave-one-out/site/{class_name(site)}/mAP50": {"low": 0.05, "high": 0.15},
    }
    return Facts(
        request=request(about),
        labels=labels,
        state={
            "metrics": metrics,
            "intervals": intervals,
            "deviations": {"leave-one-out/site/mAP50": 0.354},
            "leaveOneOut": {
                "field": "site",
                "metric": "mAP50",
                "unknown": 0,
                "groups": [
                    {"value": site, "images": 130, "epochs": 20, "warnings": []},
                    {"value": "reef", "images": 310, "epochs": 25, "warnings": []},
                ],
            },
            "resampling": {"by": "site", "groups": 14, "level": 0.95, "samples": 2000},
            "at": 1_790_000_000.0,
            "calibration": {
                "scaling": {"temperature": 1.234, "offset": -0.5},
                "thresholds": dict.fromkeys(labels, 0.31),
                "validation": {},
            },
            "slices": [
                {
                    "field": "site",
                    "metric": "mAP50",
                    "slices": [
                        {"value": site, "images": 12, "objects": 20, "by": "image", "groups": 12},
                        {"value": "reef", "images": 28, "objects": 38, "by": "image", "groups": 28},
                    ],
                    "worst": site,
                }
            ],
        },
        trained={
            "epochs": 32,
            "bestEpoch": 24,
            "bestSha256": "c" * 64,
            "applied": {"augmentation.rotate": "15 degrees"},
        },
        warnings=["1 of 3 classes have no annotation in the test split, and no metrics: never seen"],
        cost=Cost(
            seconds=4210,
            cpu_seconds=8000,
            kilowatt_hours=0.31,
            energy_method="12 W for each busy core (Green Algorithms)",
            grams=147,
            grams_per_kwh=475,
            missing=["memory, and what the machine takes idle"],
        ),
        package="e" * 64,
        onnx="1" * 64,
        environment={"python": "3.11.7", "torch": "2.9.1"},
        counts={
            "images": {"train": 320, "validation": 80, "test": 40},
            "test": dict(zip(labels, (30, 28, 0), strict=False)),
        },
        run="0123456789abcdef",
    )


def unsaid() -> Facts:
    """Facts about a model that has metrics, and nothing that people would fill in."""
    known = facts(about=None)
    return replace(
        known, state={"metrics": {of_test("mAP50"): None}, "at": 0.0}, counts={}, environment={}, cost=None, run=""
    )


def draw(folder: Path, names: Sequence[str], side: int = 400) -> None:
    """Draw figures of an evaluation at the largest size and of content that hardly compresses."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(3)
    for name in names:
        noise = generator.integers(0, 255, (math.ceil(side * 0.7), side, 3), np.uint8)
        cv2.imwrite(str(folder / name), noise)
