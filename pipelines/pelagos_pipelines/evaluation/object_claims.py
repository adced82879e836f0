"""What detectors claim: objects, each with a class, a place and a score. Called by the strategies of evaluation.tasks."""

from __future__ import annotations

import numpy as np

from pelagos_pipelines.evaluation import matching
from pelagos_pipelines.evaluation.calibration import Claims
from pelagos_pipelines.evaluation.doubts import FAINTEST
from pelagos_pipelines.evaluation.matching import Objects
from pelagos_pipelines.serving.calibration import odds


def claims(of: Objects, images: int, classes: int) -> Claims:
    """What is right has the class of an object and IoU 0.50 with it, as average precision matches them: the surest comes first.

    Faint are those that `doubts.FAINTEST` says.
    """
    right = matching.assigned(of)[0] >= 0
    return Claims(
        images=images,
        logits=np.stack((np.zeros(len(of.scores)), odds(of.scores)), axis=1),
        claimed=np.ones(len(of.scores), np.int64),
        true=right.astype(np.int64),
        class_ids=of.labels.astype(np.int64),
        right=right,
        objects=np.bincount(of.true_labels.astype(np.int64), minlength=classes),
        faintest=FAINTEST,
        is_own=True,
    )
