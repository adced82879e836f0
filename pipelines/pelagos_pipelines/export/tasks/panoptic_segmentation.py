"""Export for panoptic segmentation: segments are paired within their class, by their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import override

from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import panoptic
from pelagos_pipelines.export.differences import SCORE_TOLERANCE, failed
from pelagos_pipelines.export.tasks.strategy import Strategy
from pelagos_pipelines.serving.predictions import Floats, Raw, Thresholds
from pelagos_pipelines.serving.tasks.panoptic_segmentation import Segments

MARGIN = 0.02
"""Least distance of known segments from the confidence threshold, so that rounding cannot make one vanish."""
LEAST = 0.001
"""Share of an image's pixels below which a segment may be missing on the other side."""


class PanopticSegmentation(Strategy):
    """Implements `Strategy`, which documents its methods, for the export of networks for panoptic segmentation."""

    task, has_thresholds = Task.PANOPTIC_SEGMENTATION, True

    @override
    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """Only values in [0, 1]: scores and masks."""
        classes, masks = raw
        return classes[:0], np.concatenate((classes.ravel(), masks.ravel()))

    @override
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a query's mask, or of a class over all queries."""
        return f"the mask of query {index}" if kind == "masks" else f"class {labels[index]!r}"

    @override
    def distance(self, theirs: Segments, ours: Segments, confidence: float, number: int) -> tuple[float, float]:
        """The largest difference of scores of pairs, or the share of pixels outside of pairs, if that is larger."""
        classes = int(max([0, *theirs.class_ids.tolist(), *ours.class_ids.tolist()])) + 1
        one, other = theirs.segments.pixels, ours.segments.pixels
        counted = panoptic.Counted.none(classes)
        pairs, _ = counted.add((one, theirs.class_ids), (other, ours.class_ids))
        scores = [abs(float(theirs.scores[left] - ours.scores[right])) for left, right in pairs]
        for side, found, seen in (
            ("training", theirs, {left for left, _ in pairs}),
            ("exported", ours, {right for _, right in pairs}),
        ):
            areas, least = found.segments.areas, LEAST * found.width * found.height
            alone = [
                index
                for index, score in enumerate(found.scores)
                if index not in seen and score > confidence + SCORE_TOLERANCE and areas[index + 1] > least
            ]
            if alone:
                raise failed(
                    f"image {number}: the {side} model alone finds {len(alone)} of {len(found.scores)} segments"
                )
        same: Any = np.zeros(len(theirs.scores) + 1, np.int64)
        for left, right in pairs:
            same[left + 1] = right + 1
        return 0.0, max([float((same[one] != other).mean()), *scores])

    @override
    def surest(self, prediction: Segments) -> float:
        """The first score, since scores descend; 0 without segments."""
        return float(prediction.scores[0]) if len(prediction.scores) else 0.0

    @override
    def worth(self, known: Segments, thresholds: Thresholds) -> tuple[bool, float]:
        """Clear if no score is near the threshold, ranked by the highest score."""
        clear = (abs(known.scores - thresholds.confidence) > MARGIN).all()
        return bool(clear), self.surest(known)


STRATEGY = PanopticSegmentation()
