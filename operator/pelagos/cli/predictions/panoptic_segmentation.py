"""Answers of models that label pixels and objects: segments, and how much of the image each has."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pelagos.cli.predictions import semantic_segmentation as semantic
from pelagos.cli.predictions.strategy import Strategy, empty_table
from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class PanopticSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.PANOPTIC_SEGMENTATION

    @override
    def summary(self, answer: Answer) -> str:
        """The number of segments, how many of them are objects, and whether there were more."""
        count = len(answer["segments"])
        things = sum(row["isThing"] for row in answer["segments"])
        more = " (the best; there are more: raise spec.maxDetections)" if answer.get("cut") else ""
        return f"{count} segment{'' if count == 1 else 's'}, {things} of objects{more}"

    @override
    def table(self, answer: Answer) -> Table:
        """One row per segment with its share of the image, and one for pixels without a segment."""
        found = empty_table("class", "kind", "score", "share", "area [px]")
        for row in answer["segments"]:
            kind = "object" if row["isThing"] else "extent"
            found.add_row(Text(row["label"]), kind, f"{row['score']:.3f}", f"{row['share']:.1%}", str(row["area"]))
        found.add_row(Text("(no segment)", style="dim"), "", "", *semantic.left(answer))
        return found


STRATEGY = PanopticSegmentation()
