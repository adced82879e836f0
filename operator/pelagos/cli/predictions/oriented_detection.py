"""Answers of detectors of turned boxes, the best first."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pelagos.cli.predictions.detection import Detection
from pelagos.cli.predictions.strategy import empty_table
from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class OrientedDetection(Detection):
    """See `Strategy` for the contract of its methods."""

    task = Task.ORIENTED_DETECTION

    @override
    def table(self, answer: Answer) -> Table:
        """One row per detection, with center, sides and angle."""
        found = empty_table("class", "score", "x [px]", "y [px]", "length [px]", "width [px]", "angle [°]")
        for row in answer["detections"]:
            found.add_row(Text(row["label"]), f"{row['score']:.3f}", *(f"{value:.1f}" for value in row["box"]))
        return found


STRATEGY = OrientedDetection()
