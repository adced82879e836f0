"""Oriented detection in the export: as detection; boxes are compared by their corners.

Sides and angle would not do: a square has four of them that differ, and a box at 0 degrees is one at 180.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pelagos_contract.tasks import Task
from pelagos_pipelines.export.tasks.detection import Detection
from pelagos_pipelines.serving.predictions import Floats
from pelagos_pipelines.serving.tasks.oriented_detection import corners


class OrientedDetection(Detection):
    """See `Strategy` for the contract of its methods."""

    task = Task.ORIENTED_DETECTION

    def places_and_scores(self, raw: Floats) -> tuple[Floats, Floats]:
        """Without the angles, which are neither: rows of their own."""
        return raw[:4], raw[4:-1]

    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The angle, too."""
        return "the angle of the boxes" if kind == "angles" else super().row(kind, index, labels)

    def apart(self, boxes: Any, others: Any) -> Any:
        """Of the corner that is furthest away, whichever of them comes first."""
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
