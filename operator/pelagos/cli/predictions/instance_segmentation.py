"""Answers of instance segmentation: objects with classes, scores and masks, the best first."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pelagos.cli.predictions.strategy import Strategy, empty_table
from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class InstanceSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.INSTANCE_SEGMENTATION

    @override
    def summary(self, answer: Answer) -> str:
        """The number of objects, and whether there were more."""
        count = len(answer["instances"])
        more = " (the best; there are more: raise spec.maxDetections, or cut the image)" if answer.get("cut") else ""
        return f"{count} object{'' if count == 1 else 's'}{more}"

    @override
    def table(self, answer: Answer) -> Table:
        """One row per object, with the area of its mask and the corners of its box."""
        found = empty_table("class", "score", "area [px]", "x1 [px]", "y1 [px]", "x2 [px]", "y2 [px]")
        for row in answer["instances"]:
            sides = (f"{value:.1f}" for value in row["box"])
            found.add_row(Text(row["label"]), f"{row['score']:.3f}", f"{row['area']}", *sides)
        return found


STRATEGY = InstanceSegmentation()
