"""Answers of detectors: boxes with classes and scores, the best first."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pelagos.cli.predictions.strategy import Strategy, empty_table
from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class Detection(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.DETECTION

    @override
    def summary(self, answer: Answer) -> str:
        """The number of detections, and whether there were more."""
        count = len(answer["detections"])
        more = " (the best; there are more: raise spec.maxDetections)" if answer.get("cut") else ""
        return f"{count} detection{'' if count == 1 else 's'}{more}"

    @override
    def table(self, answer: Answer) -> Table:
        """One row per detection, with the corners of its box."""
        found = empty_table("class", "score", "x1 [px]", "y1 [px]", "x2 [px]", "y2 [px]")
        for row in answer["detections"]:
            found.add_row(Text(row["label"]), f"{row['score']:.3f}", *(f"{value:.1f}" for value in row["box"]))
        return found


STRATEGY = Detection()
