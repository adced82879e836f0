"""Answers of classifiers: the probability of each class."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text
from typing_extensions import override

from pelagos.cli.predictions.strategy import Strategy, empty_table
from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task

_BAR = 24


class Classification(Strategy):
    """See `Strategy` for the contract of its methods."""

    task = Task.CLASSIFICATION

    @override
    def summary(self, answer: Answer) -> str:
        """A note that the most probable class is below its threshold; "" when it is not, or there is no threshold."""
        if answer.get("decided") is not False:
            return ""
        return f"undecided (no class has more than its threshold, {answer.get('threshold', 0):.2f} of the first)"

    @override
    def table(self, answer: Answer) -> Table:
        """One row per class, with a bar in proportion to its probability."""
        found = empty_table("class", "probability")
        found.add_column("")
        for row in answer["classes"]:
            bar = "█" * round(row["probability"] * _BAR)
            found.add_row(Text(row["label"]), f"{row['probability']:.4f}", bar)
        return found


STRATEGY = Classification()
