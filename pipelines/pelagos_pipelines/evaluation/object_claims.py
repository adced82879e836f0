"""Claims of detectors: objects with a class, a place and a score. Called by the strategies of evaluation.tasks."""

from __future__ import annotations

import numpy as np

from pelagos_pipelines.evaluation import matching
from pelagos_pipelines.evaluation.calibration import Claims
from pelagos_pipelines.evaluation.doubts import FAINTEST
from pelagos_pipelines.evaluation.matching import Objects
from pelagos_pipelines.serving.calibration import odds


def claims(of: Objects, images: int, classes: int) -> Claims:
    """A claim is right if it has the class of an object and an IoU of 0.50 with it, matched by descending score as for AP.

    Claims below `doubts.FAINTEST` are faint. Detections in a crowd that match no object are not judged.
    """
    given = matching.assigned(of)[0]
    judged = ~of.ignored(given)
    right, scores, labels = given[judged] >= 0, of.scores[judged], of.labels[judged]
    return Claims(
        images=images,
        logits=np.stack((np.zeros(len(scores)), odds(scores)), axis=1),
        claimed=np.ones(len(scores), np.int64),
        true=right.astype(np.int64),
        class_ids=labels.astype(np.int64),
        right=right,
        objects=np.bincount(of.true_labels.astype(np.int64), minlength=classes),
        faintest=FAINTEST,
        is_own=True,
    )
