"""Numbers of images and annotations behind metrics."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pelagos_contract.splits import SPLITS
from pelagos_pipelines.evaluation.samples import GroundTruth


def of(truth: GroundTruth) -> dict[str, Any]:
    """``images`` of each split, and under ``test`` the number of annotations of each class in the test split."""
    shown = Counter(int(label) for sample in truth.samples("test") for label in sample.class_ids)
    return {
        "images": {split: len(truth.samples(split)) for split in SPLITS},
        "test": {name: shown[number] for number, name in enumerate(truth.labels)},
    }
