"""Detection metrics: objects are matched as COCO's reference evaluator does, which computes average precision from that.

Called by evaluation.report with predictions in pixels of the original images. Knows no training framework.

Average precision is COCO's (Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48): the mean of 101 interpolated precisions, at
IoU 0.50 (mAP50), at 0.75 (mAP75) and averaged over IoU 0.50 to 0.95 in steps of 0.05 (mAP50-95), of all detections that are
given: how many an image may have was decided when they were made. The evaluator's own matching takes seconds for an image of 600
objects. Where an object is, and what two of them have in common, is said by `Places`: upright boxes, if nothing else is said.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import Share
from pelagos_pipelines.serving.tasks.detection import Detections

CONFIDENCES = np.linspace(0, 1, 1001)
IOUS = np.linspace(0.5, 0.95, 10)
"""Smallest overlaps of a match, over which mAP50-95 is averaged."""


@dataclass(frozen=True)
class Places:
    """Where objects are, an array with an entry for each: the true ones of a sample, and those of a prediction.

    ``overlaps`` gives the IoU ``[n, m]`` of n and m such entries, and ``outline`` the points ``[k, 2]`` around one, in pixels.
    """

    true: Callable[[Sample], Any]
    found: Callable[[Any], Any]
    overlaps: Callable[[Any, Any], Any]
    outline: Callable[[Any], Any]

    def around(self, place: Any) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of the upright box around one."""
        points = self.outline(place)
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]; arrays have one entry per class, NaN where the class has no true object in the split.

    ``shares`` by name hold at ``confidence``: the one with the highest F1, averaged over classes, at IoU 0.50, as ultralytics
    reports them; NaN where the split has no true object. Precision, recall and F1 are of objects; IoU is the mean of those that
    are right, and Dice the mean of their Dice coefficients, 2 IoU / (1 + IoU).
    """

    confidence: float
    map50: Any
    map75: Any
    map50_95: Any
    shares: dict[str, Share]
    curves: Any
    """Precision at IoU 0.50 on the 101 recall points 0, 0.01 ... 1: ``[classes, 101]``."""


@dataclass(frozen=True)
class _Matches:
    """What was found of one class at IoU 0.50: per detection its score, whether it is right, and its IoU."""

    scores: Any
    right: Any
    iou: Any
    boxes: int


def box_iou(found: Any, truth: Any) -> Any:
    """The evaluator's IoU ``[n, m]`` of boxes ``[n, 4]`` and ``[m, 4]`` given as x1, y1, x2, y2."""
    from pycocotools import mask

    if not len(found) or not len(truth):
        return np.zeros((len(found), len(truth)))
    return mask.iou(_sides(found), _sides(truth), [0] * len(truth))


BOXES = Places(
    true=lambda sample: sample.boxes,
    found=lambda predicted: predicted.boxes,
    overlaps=box_iou,
    outline=lambda box: np.asarray(box)[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2),
)


def score(samples: Sequence[Sample], found: Sequence[Detections], classes: int, places: Places = BOXES) -> Scores:
    """Metrics of predictions ``found`` against ``samples``, which stand in the same order.

    ``found`` must reach down to low confidences (0.001), because average precision integrates over all of them.
    """
    by_class = [
        [_match_class(sample, predicted, index, places) for sample, predicted in zip(samples, found, strict=True)]
        for index in range(classes)
    ]
    precision = _precision(by_class)  # [IoU, recall point, class]; -1 where undefined
    present = (precision > -1).any(axis=(0, 1))
    matches = [_joined(images) for images in by_class]
    boxes = np.array([match.boxes for match in matches])
    f1 = np.array([_f1(match) for match in matches])[boxes > 0]
    best = float(CONFIDENCES[f1.mean(axis=0).argmax()]) if len(f1) else math.nan
    chosen = [match.scores >= (best if len(f1) else 0) for match in matches]
    right = [match.iou[match.right & each] for match, each in zip(matches, chosen, strict=True)]
    said, hits = np.array([each.sum() for each in chosen]), np.array([len(each) for each in right])
    counts = shares.of_counts(hits, boxes, said)
    counts |= {
        "IoU": Share(np.array([iou.sum() for iou in right]), hits, boxes),
        "Dice": Share(np.array([(2 * iou / (1 + iou)).sum() for iou in right]), hits, boxes),
    }
    curves = np.where(present[:, None], precision[0].T, np.nan)
    return Scores(
        confidence=best,
        map50=curves.mean(axis=1),
        map75=np.where(present, precision[IOUS.searchsorted(0.75)].mean(axis=0), np.nan),
        map50_95=np.where(present, precision.mean(axis=(0, 1)), np.nan),
        shares=counts,
        curves=curves,
    )


def confusion(
    samples: Sequence[Sample], found: Sequence[Detections], classes: int, confidence: float, places: Places = BOXES
) -> Any:
    """Objects ``[true class, predicted class]`` at ``confidence`` and IoU 0.50; the last index is background.

    Matching is greedy by IoU and ignores classes, so that confusions between classes become visible.
    """
    matrix: Any = np.zeros((classes + 1, classes + 1), np.int64)
    for sample, predicted in zip(samples, found, strict=True):
        chosen = predicted.scores >= confidence
        truth, guesses, ids = places.true(sample), places.found(predicted)[chosen], predicted.class_ids[chosen]
        pairs = match(truth, guesses, 0.5, places)
        for true, guess in pairs:
            matrix[sample.class_ids[true], ids[guess]] += 1
        for true in set(range(len(truth))) - {true for true, _ in pairs}:
            matrix[sample.class_ids[true], classes] += 1
        for guess in set(range(len(guesses))) - {guess for _, guess in pairs}:
            matrix[classes, ids[guess]] += 1
    return matrix


def match(truth: Any, guesses: Any, minimum: float, places: Places = BOXES) -> list[tuple[int, int]]:
    """Pairs (index into ``truth`` [n], index into ``guesses`` [m]) by descending IoU, each at most once."""
    overlaps = places.overlaps(guesses, truth).T
    rows, columns = np.nonzero(overlaps >= minimum)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in pairs and column not in taken:
            pairs[row] = column
            taken.add(column)
    return list(pairs.items())


def _match_class(sample: Sample, predicted: Detections, class_id: int, places: Places) -> dict[str, Any] | None:
    """What the evaluator's ``evaluateImg`` says of one class in an image, and the IoU of each match at IoU 0.50."""
    truth = places.true(sample)[sample.class_ids == class_id]
    chosen = predicted.class_ids == class_id
    if not len(truth) and not chosen.any():
        return None
    scores = predicted.scores[chosen].astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    matches, ious = np.full((len(IOUS), len(order)), -1), np.zeros(len(order))
    if len(truth) and len(order):
        table = places.overlaps(places.found(predicted)[chosen][order], truth)
        matches = assign(table, IOUS)
        ious = np.where(matches[0] >= 0, table[np.arange(len(order)), matches[0]], 0.0)
    return {
        "dtMatches": matches + 1,  # 0 is no match
        "dtScores": scores[order],
        "dtIgnore": np.zeros(matches.shape, bool),
        "gtIgnore": np.zeros(len(truth), int),
        "ious": ious,
    }


def assign(table: Any, thresholds: Any) -> Any:
    """Index of the true box that each detection is given, or -1, by threshold: ``[thresholds, detections]``.

    Args:
        table: IoU ``[detections by descending score, true boxes]``.
        thresholds: smallest IoU of a match, ascending. A detection gets the box with the highest IoU that none before it got;
            of equal ones the last, as in COCO.
    """
    given = np.full((len(thresholds), len(table)), -1)
    free: Any = np.ones((len(thresholds), table.shape[1]), bool)
    near = table >= thresholds[0]
    for row in np.flatnonzero(near.any(axis=1)):
        candidates = np.flatnonzero(near[row])[::-1]
        values = table[row, candidates]
        allowed = free[:, candidates] & (values[None] >= thresholds[:, None])
        best = np.where(allowed, values[None], -1.0).argmax(axis=1)
        chosen = np.flatnonzero(allowed.any(axis=1))
        given[chosen, row] = candidates[best[chosen]]
        free[chosen, given[chosen, row]] = False
    return given


def _sides(boxes: Any) -> Any:
    """Corners as left, top, width and height."""
    corners = np.asarray(boxes, np.float64)
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def _precision(by_class: Sequence[Sequence[dict[str, Any] | None]]) -> Any:
    """The evaluator's ``[IoU, recall point, class]``."""
    from pycocotools.cocoeval import COCOeval

    evaluator = COCOeval(iouType="bbox")
    evaluator.evalImgs = [image for images in by_class for image in images]
    parameters = evaluator.params
    parameters.imgIds, parameters.catIds = list(range(len(by_class[0]))), list(range(len(by_class)))
    parameters.areaRng, parameters.areaRngLbl = [[0, 1e10]], ["all"]
    parameters.maxDets = [max((len(image["dtScores"]) for image in evaluator.evalImgs if image), default=1)]
    evaluator._paramsEval = parameters
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluator.accumulate()
    return evaluator.eval["precision"][:, :, :, 0, -1]


def _joined(images: Sequence[dict[str, Any] | None]) -> _Matches:
    known = [image for image in images if image is not None]
    if not known:
        return _Matches(np.zeros(0), np.zeros(0, bool), np.zeros(0), 0)
    return _Matches(
        scores=np.concatenate([image["dtScores"] for image in known]),
        right=np.concatenate([image["dtMatches"][0] > 0 for image in known]),
        iou=np.concatenate([image["ious"] for image in known]),
        boxes=sum(len(image["gtIgnore"]) for image in known),
    )


def _f1(matches: _Matches) -> Any:
    """On ``CONFIDENCES``."""
    order = np.argsort(matches.scores)
    scores, right = matches.scores[order], matches.right[order]
    start = np.searchsorted(scores, CONFIDENCES)
    hits = np.concatenate((right[::-1].cumsum()[::-1], [0]))[start] if len(right) else np.zeros(len(CONFIDENCES))
    return 2 * hits / np.maximum(len(scores) - start + matches.boxes, 1)
