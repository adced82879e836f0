"""Export for instance segmentation: objects are paired by their boxes within their class, and their masks are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from typing_extensions import override

from pelagos_contract import run_lengths
from pelagos_contract.tasks import Task
from pelagos_pipelines.export.differences import failed
from pelagos_pipelines.export.tasks import detection
from pelagos_pipelines.export.tasks.strategy import Strategy
from pelagos_pipelines.serving import tasks
from pelagos_pipelines.serving.predictions import Floats, Raw, Thresholds
from pelagos_pipelines.serving.tasks.instance_segmentation import InstanceHead, Instances

LEAST_IOU = 0.99
"""Least IoU of an object's two masks. Small masks may differ by a row or column of their box, even if that is more."""
KNOWN_CHARACTERS = 2**20
"""Most characters of all masks in a package's known answer, which is read as a whole."""


class InstanceSegmentation(Strategy):
    """Implements `Strategy`, which documents its methods, for the export of networks for instance segmentation."""

    task, has_thresholds = Task.INSTANCE_SEGMENTATION, True

    def __init__(self, head: InstanceHead | None = None) -> None:
        """For networks with the given head; see `headed`."""
        self._head = head

    @override
    def headed(self, head: str | None) -> Strategy:
        """The strategy with the rules of a head."""
        return InstanceSegmentation(cast("InstanceHead", tasks.named(self.task.value, head)))

    @override
    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """Divided by the rules of the head."""
        assert self._head is not None
        return self._head.places_and_scores(raw)

    @override
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The head's name of the row."""
        assert self._head is not None
        return self._head.row(kind, index, labels)

    @override
    def distance(self, theirs: Instances, ours: Instances, confidence: float, number: int) -> tuple[float, float]:
        """The differences of boxes and scores, as for detection.

        Raises:
            RefusedError: PARITY_FAILED for an object whose masks have an IoU below LEAST_IOU, or without a counterpart.
        """
        boxes, scores, pairs = detection.paired(theirs, ours, confidence, number)
        for left, right in pairs:
            common, together = run_lengths.shared(theirs.masks[left], ours.masks[right], theirs.size)
            width, height = (theirs.boxes[left][2:] - theirs.boxes[left][:2]).tolist()
            if together - common > max((1 - LEAST_IOU) * together, width, height, 1):
                raise failed(f"image {number}: the masks of an object have an IoU of {common / together:.3f}")
        return boxes, scores

    @override
    def surest(self, prediction: Instances) -> float:
        """The first score, since scores descend; 0 without objects."""
        return float(prediction.scores[0]) if len(prediction.scores) else 0.0

    @override
    def worth(self, known: Instances, thresholds: Thresholds) -> tuple[bool, float]:
        """Clear if no score is near its threshold, ranked by the highest score."""
        clear = (abs(known.scores - thresholds.least(known.class_ids)) > detection.MARGIN).all()
        return bool(clear), float(known.scores.max(initial=0.0))

    @override
    def known(self, prediction: Instances) -> Instances:
        """The best objects whose masks have at most KNOWN_CHARACTERS together."""
        left = KNOWN_CHARACTERS
        for place, mask in enumerate(prediction.masks):
            left -= len(mask)
            if left < 0:
                return prediction.chosen(slice(place), cut=True)
        return prediction


STRATEGY = InstanceSegmentation()
