"""Our scoring of objects, with all reported metrics. Started by evaluating.py with the interpreter of ``pipelines``.

Arguments: IMAGES EACH. Prints JSON with seconds of processor time for predictions in memory, and the mean average precision.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from objects_found import CLASSES, SIDE, make
from pycocotools import mask  # noqa: F401 - keeps the import out of the measurement

from pelagos_pipelines.evaluation import detection, matching
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.detection import Detections


def main(images: int, each: int) -> None:
    """Measure, and print the result as JSON."""
    true, found = make(images, each)
    bounds = np.searchsorted(found.images, np.arange(1, images))
    parts = zip(*(np.split(column, bounds) for column in (found.corners, found.scores, found.labels)), strict=True)
    predicted = [Detections(SIDE, SIDE, *part) for part in parts]
    truths = zip(np.split(true.labels, images), np.split(true.corners, images), strict=True)
    samples = [Sample(str(number), Path(str(number)), *truth) for number, truth in enumerate(truths)]
    before = time.process_time()
    of = matching.objects(samples, predicted)
    scores = detection.of_objects(of, CLASSES)
    confusion = detection.confusion(of, CLASSES, scores.confidence)
    judged = detection.judged(of, images, scores.confidence)
    averages = {name: (share.macro, share.micro, share.weighted) for name, share in scores.shares.items()}
    seconds = time.process_time() - before
    if confusion.sum() < len(true.images) or len(judged) != images or len(averages) != 5:
        sys.exit("something of it was not counted")
    print(json.dumps({"cpu": seconds, "precision": [scores.map50.mean(), scores.map50_95.mean()]}))


main(*map(int, sys.argv[1:]))
