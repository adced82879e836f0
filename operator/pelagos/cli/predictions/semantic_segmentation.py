"""Answers of models that label pixels: the class of each, and how much of the image each class has."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pelagos.cli.predictions.strategy import Strategy, empty_table
from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class SemanticSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.SEMANTIC_SEGMENTATION

    @override
    def summary(self, answer: Answer) -> str:
        """The number of classes."""
        count = len(answer["classes"])
        return f"{count} class{'' if count == 1 else 'es'}"

    @override
    def table(self, answer: Answer) -> Table:
        """One row per class with its share of the image, and one for pixels without a class."""
        found = empty_table("class", "share", "area [px]")
        for row in answer["classes"]:
            found.add_row(Text(row["label"]), f"{row['share']:.1%}", str(row["area"]))
        found.add_row(Text("(no class)", style="dim"), *left(answer))
        return found


def left(answer: Answer) -> tuple[str, str]:
    """Share and area of the unclassified pixels, as text."""
    none = answer["unclassified"]
    return f"{none['share']:.1%}", str(none["area"])


STRATEGY = SemanticSegmentation()
