"""Average precision by another library. Started by evaluating.py with the interpreter of ``oracles``: LIBRARY IMAGES EACH.

Prints JSON with seconds of processor time for dictionaries or arrays in memory, whichever is faster for the library, and the
mean average precision.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from typing import Any

import numpy as np
from objects_found import CLASSES, Boxes, make, sides


def hotcoco(images: int, true: Boxes, found: Boxes) -> tuple[float, Any]:
    """Score with hotcoco, from arrays."""
    from hotcoco import COCO, COCOeval

    rows = np.column_stack((found.images, sides(found.corners), found.scores, found.labels))
    categories = [{"id": label, "name": str(label)} for label in range(CLASSES)]
    before = time.process_time()
    known = COCO.from_arrays(
        [{"id": image} for image in range(images)], categories, true.images, true.labels, sides(true.corners)
    )
    evaluator = COCOeval(known, known.load_res(rows), "bbox")
    return before, _scored(evaluator, len(found.images))


def others(library: str, images: int, true: Boxes, found: Boxes) -> tuple[float, Any]:
    """Score with another library, from dictionaries in the form of pycocotools."""
    if library == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    truth = [
        {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for number, (image, label, box) in enumerate(_rows(true), start=1)
    ]
    dataset = {
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": label, "name": str(label)} for label in range(CLASSES)],
        "annotations": truth,
    }
    guesses = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for (image, label, box), score in zip(_rows(found), found.scores.tolist(), strict=True)
    ]
    before = time.process_time()
    known = COCO()
    known.dataset = dataset
    known.createIndex()
    return before, _scored(COCOeval(known, known.loadRes(guesses), "bbox"), len(found.images))


def _rows(boxes: Boxes) -> Any:
    return zip(boxes.images.tolist(), boxes.labels.tolist(), sides(boxes.corners).tolist(), strict=True)


def _scored(evaluator: Any, most: int) -> Any:
    """Score only all detections and objects of any size: the least that the evaluator can compute."""
    parameters = evaluator.params
    parameters.maxDets, parameters.areaRng, parameters.areaRngLbl = [most], [[0, 1e10]], ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"])[..., 0, -1]


def main(library: str, images: int, each: int) -> None:
    """Measure, and print the result as JSON."""
    true, found = make(images, each)
    with contextlib.redirect_stdout(io.StringIO()):
        before, precision = (
            hotcoco(images, true, found) if library == "hotcoco" else others(library, images, true, found)
        )
        seconds = time.process_time() - before
    print(json.dumps({"cpu": seconds, "precision": [precision[0].mean(), precision.mean()]}))


main(sys.argv[1], *map(int, sys.argv[2:]))
