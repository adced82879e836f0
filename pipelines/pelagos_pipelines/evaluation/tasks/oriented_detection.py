"""Evaluation of oriented detection: like detection, with the exact IoU of turned boxes."""

from __future__ import annotations

import numpy as np

from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation import turned
from pelagos_pipelines.evaluation.matching import Places
from pelagos_pipelines.evaluation.tasks.detection import Detection
from pelagos_pipelines.serving.tasks.oriented_detection import corners


class OrientedDetection(Detection):
    """Implements `Strategy`, which documents its methods, for the evaluation of oriented detection."""

    task = Task.ORIENTED_DETECTION
    places = Places(
        true=lambda sample: turned.of_shapes(sample.shapes),
        found=lambda predicted: predicted.boxes,
        overlaps=turned.iou,
        outline=lambda box: corners(np.asarray(box, float)[None])[0],
        crowds=lambda sample: turned.of_shapes(sample.crowds),
        shares=turned.shares,
    )


STRATEGY = OrientedDetection()
