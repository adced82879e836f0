"""Export for oriented detection: like detection, with boxes compared by their corners.

Sides and angle are ambiguous: a square has four equivalent angles, and 0 degrees equals 180.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from pelagos_contract.tasks import Task
from pelagos_pipelines.export.tasks.detection import Detection
from pelagos_pipelines.serving.predictions import Floats
from pelagos_pipelines.serving.tasks.oriented_detection import corners


class OrientedDetection(Detection):
    """Implements `Strategy`, which documents its methods, for the export of detectors of turned boxes."""

    task = Task.ORIENTED_DETECTION

    @override
    def places_and_scores(self, raw: Floats) -> tuple[Floats, Floats]:
        """Boxes and scores, without the angles, which are neither and have separate rows."""
        return raw[:4], raw[4:-1]

    @override
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a row, also for the angle."""
        return "the angle of the boxes" if kind == "angles" else super().row(kind, index, labels)

    @override
    def apart(self, boxes: Floats, others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The distance of the furthest corner, for the best cyclic order of corners."""
        one, other = corners(boxes.astype(float)), corners(others.astype(float))
        nearest = np.full((len(one), len(other)), np.inf)
        for first in range(4):
            furthest = np.zeros_like(nearest)
            for corner in range(4):
                differ = one[:, None, corner] - other[None, :, (corner + first) % 4]
                np.maximum(furthest, np.abs(differ).max(axis=2), out=furthest)
            np.minimum(nearest, furthest, out=nearest)
        return nearest


STRATEGY = OrientedDetection()
