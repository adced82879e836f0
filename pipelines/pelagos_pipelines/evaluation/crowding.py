"""Warnings about images with more objects than the limit of reported detections, for the person who chose the limit.

Called by the strategies of detection. Independent of training frameworks.
"""

from __future__ import annotations

from collections.abc import Sequence

from pelagos_contract.splits import SPLITS
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.serving.tasks.detection import Detections

FIELD = "spec.evaluation.maxDetections"


def warnings(
    truth: GroundTruth, samples: Sequence[Sample], found: Sequence[Detections], confidence: float, limit: int
) -> list[str]:
    """One line per split with images of more than ``limit`` objects, and one for truncated predictions.

    ``found`` are the predictions for ``samples``, at most ``limit`` each. Missing low-confidence predictions are normal: only
    those above ``confidence``, at which the metrics hold, are reported.
    """
    lines = [line for split in SPLITS if (line := _crowded(split, truth.samples(split), limit))]
    # Scores descend: if the last kept prediction is above the confidence, others above it may have been cut.
    cut = [item for item in found if item.cut and len(item.scores) > 0 and float(item.scores[-1]) > confidence]
    if cut:
        lines.append(
            f"in {len(cut)} of {len(samples)} images of the split test more than {limit} objects are found with a confidence "
            f"above {confidence:.3f}, and the others are left out of the metrics: raise {FIELD}"
        )
    return lines


def _crowded(split: str, samples: Sequence[Sample], limit: int) -> str | None:
    counts = [len(sample.class_ids) for sample in samples]
    crowded = sum(count > limit for count in counts)
    if not crowded:
        return None
    missed = sum(max(count - limit, 0) for count in counts) / sum(counts)
    return (
        f"{crowded} of {len(samples)} images of the split {split} show more than {limit} objects, up to {max(counts)}: "
        f"{missed:.0%} of its objects cannot be found; raise {FIELD}"
    )
