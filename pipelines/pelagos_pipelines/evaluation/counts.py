"""How much of a dataset version metrics are of."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pelagos_contract.dataset import SPLITS
from pelagos_pipelines.evaluation.samples import GroundTruth


def of(truth: GroundTruth) -> dict[str, Any]:
    """``images`` of each split, and under ``test`` how many annotations of each class the test split has."""
    shown = Counter(int(label) for sample in truth.samples("test") for label in sample.class_ids)
    return {
        "images": {split: len(truth.samples(split)) for split in SPLITS},
        "test": {name: shown[number] for number, name in enumerate(truth.labels)},
    }
