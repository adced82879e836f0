"""Detection metrics: COCO's reference evaluator matches boxes; precision, recall and F1 are read off its matches.

Called by evaluation.report with predictions in pixels of the original images. Knows no training framework.

Average precision is COCO's (Lin et al. 2014, doi:10.1007/978-3-319-10602-1_48): the mean of 101 interpolated precisions, at
IoU 0.50 (mAP50) and averaged over IoU 0.50 to 0.95 in steps of 0.05 (mAP50-95), with up to 300 detections an image.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pelagos_pipelines.evaluation.truth import Sample
from pelagos_pipelines.serving.predictor import Detections

MAX_DETECTIONS = 300
CONFIDENCES = np.linspace(0, 1, 1001)


@dataclass(frozen=True)
class Scores:
    """Metrics in [0, 1]; arrays have one entry per class, NaN where the class has no true box in the split.

    Precision, recall and F1 hold at ``confidence``: the one with the highest F1, averaged over classes, at IoU 0.50, as
    ultralytics reports them; NaN where the split has no true box. ``iou`` is the mean IoU of the boxes matched there, NaN where
    none is.
    """

    confidence: float
    map50: Any
    map50_95: Any
    precision: Any
    recall: Any
    f1: Any
    iou: Any
    curves: Any
    """Precision at IoU 0.50 on the 101 recall points 0, 0.01 ... 1: ``[classes, 101]``."""

    def mean(self, metric: str) -> float:
        """The unweighted mean of a per-class metric over the classes that have it; NaN where none has."""
        values = getattr(self, metric)
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


@dataclass(frozen=True)
class _Matches:
    """What the evaluator found for one class at IoU 0.50: per detection its score, whether it is right, and its IoU."""

    scores: Any
    right: Any
    iou: Any
    boxes: int


def score(samples: Sequence[Sample], found: Sequence[Detections], classes: int) -> Scores:
    """Metrics of predictions ``found`` against ``samples``, which stand in the same order.

    ``found`` must reach down to low confidences (0.001), because average precision integrates over all of them.
    """
    evaluator = _evaluate(samples, found, classes)
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # [IoU, recall point, class]; -1 where undefined
    present = (precision > -1).any(axis=(0, 1))
    matches = [_matches(evaluator, index, found) for index in range(classes)]
    counts = [_counts(match) for match in matches]
    f1_curves = [f1 for (_, _, f1), exists in zip(counts, present, strict=True) if exists]
    best = int(np.mean(f1_curves, axis=0).argmax()) if f1_curves else 0
    at_best = np.array([[values[best] for values in triple] for triple in counts])
    at_best[~present] = np.nan
    curves = np.where(present[:, None], precision[0].T, np.nan)
    return Scores(
        confidence=float(CONFIDENCES[best]) if f1_curves else math.nan,
        map50=curves.mean(axis=1),
        map50_95=np.where(present, precision.mean(axis=(0, 1)), np.nan),
        precision=at_best[:, 0],
        recall=at_best[:, 1],
        f1=at_best[:, 2],
        iou=np.array([_mean_iou(match, float(CONFIDENCES[best])) for match in matches]),
        curves=curves,
    )


def confusion(samples: Sequence[Sample], found: Sequence[Detections], classes: int, confidence: float) -> Any:
    """Boxes ``[true class, predicted class]`` at ``confidence`` and IoU 0.50; the last index is background.

    Matching is greedy by IoU and ignores classes, so that confusions between classes become visible.
    """
    matrix: Any = np.zeros((classes + 1, classes + 1), np.int64)
    for sample, predicted in zip(samples, found, strict=True):
        chosen = predicted.scores >= confidence
        boxes, ids = predicted.boxes[chosen], predicted.class_ids[chosen]
        pairs = match(sample.boxes, boxes, 0.5)
        for true, guess in pairs:
            matrix[sample.class_ids[true], ids[guess]] += 1
        for true in set(range(len(sample.boxes))) - {true for true, _ in pairs}:
            matrix[sample.class_ids[true], classes] += 1
        for guess in set(range(len(boxes))) - {guess for _, guess in pairs}:
            matrix[classes, ids[guess]] += 1
    return matrix


def match(truth: Any, boxes: Any, minimum: float) -> list[tuple[int, int]]:
    """Pairs (index into ``truth`` [n, 4], index into ``boxes`` [m, 4]) by descending IoU, each box at most once."""
    overlaps = overlap(truth, boxes)
    pairs: list[tuple[int, int]] = []
    while overlaps.size and overlaps.max() >= minimum:
        row, column = (int(value) for value in np.unravel_index(overlaps.argmax(), overlaps.shape))
        pairs.append((row, column))
        overlaps[row, :] = overlaps[:, column] = -1
    return pairs


def overlap(first: Any, second: Any) -> Any:
    """IoU ``[n, m]`` of boxes ``[n, 4]`` and ``[m, 4]`` given as x1, y1, x2, y2."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-9)


def _evaluate(samples: Sequence[Sample], found: Sequence[Detections], classes: int) -> Any:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        truth = COCO()
        truth.dataset = _coco_truth(samples, classes)
        truth.createIndex()
        predicted = COCO()
        predicted.dataset = {**truth.dataset, "annotations": _coco_detections(found)}
        predicted.createIndex()
        evaluator = COCOeval(truth, predicted, "bbox")
        evaluator.params.maxDets = [MAX_DETECTIONS]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _coco_truth(samples: Sequence[Sample], classes: int) -> dict[str, Any]:
    annotations = [
        _annotation(image, box, class_id) | {"iscrowd": 0}
        for image, sample in enumerate(samples)
        for box, class_id in zip(sample.boxes, sample.class_ids, strict=True)
    ]
    # Ids count from 1: the evaluator takes 0 for "no match".
    return {
        "images": [{"id": image} for image in range(len(samples))],
        "categories": [{"id": index} for index in range(classes)],
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
    }


def _coco_detections(found: Sequence[Detections]) -> list[dict[str, Any]]:
    rows = [
        _annotation(image, box, class_id) | {"score": float(value)}
        for image, predicted in enumerate(found)
        for box, class_id, value in zip(predicted.boxes, predicted.class_ids, predicted.scores, strict=True)
    ]
    return [{**row, "id": number} for number, row in enumerate(rows, start=1)]


def _annotation(image: int, box: Any, class_id: int) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(value) for value in box)
    size = [x1, y1, x2 - x1, y2 - y1]
    return {"image_id": image, "category_id": int(class_id), "bbox": size, "area": size[2] * size[3]}


def _matches(evaluator: Any, class_id: int, found: Sequence[Detections]) -> _Matches:
    scores: list[float] = []
    right: list[bool] = []
    ious: list[float] = []
    boxes = 0
    for image in range(len(found)):
        result = evaluator.evalImgs[class_id * len(found) + image]
        if result is None:  # neither truth nor detections of this class
            continue
        boxes += len(result["gtIds"])
        matched = np.asarray(result["dtMatches"][0], np.int64)
        scores.extend(result["dtScores"])
        right.extend(matched > 0)
        table = np.asarray(evaluator.ious[image, class_id])  # [detection by score, truth in the order of annotations]
        order = {annotation["id"]: column for column, annotation in enumerate(evaluator._gts[image, class_id])}
        ious.extend(table[row, order[truth]] if truth > 0 else 0.0 for row, truth in enumerate(matched))
    return _Matches(np.array(scores), np.array(right, bool), np.array(ious), boxes)


def _counts(matches: _Matches) -> tuple[Any, Any, Any]:
    """Precision, recall and F1 on ``CONFIDENCES``."""
    order = np.argsort(matches.scores)
    scores, right = matches.scores[order], matches.right[order]
    start = np.searchsorted(scores, CONFIDENCES)
    hits = np.concatenate((right[::-1].cumsum()[::-1], [0]))[start] if len(right) else np.zeros(len(CONFIDENCES))
    claimed = len(scores) - start
    precision = hits / np.maximum(claimed, 1)
    recall = hits / max(matches.boxes, 1)
    return precision, recall, 2 * hits / np.maximum(claimed + matches.boxes, 1)


def _mean_iou(matches: _Matches, confidence: float) -> float:
    chosen = matches.iou[matches.right & (matches.scores >= confidence)] if len(matches.scores) else matches.iou
    return float(chosen.mean()) if len(chosen) else float("nan")
