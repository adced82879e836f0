"""How a task shows an answer, which has the JSON shape of the service contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from rich.table import Table
from rich.text import Text

from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class Strategy(ABC):
    """Shows the answers of one task to people."""

    task: ClassVar[Task]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.value

    def summary(self, answer: Answer) -> str:
        """How much was found, for a heading; "" when there is nothing to add."""
        return ""

    @abstractmethod
    def table(self, answer: Answer) -> Table:
        """The findings, one per row."""


def empty_table(name: str, *numbers: str) -> Table:
    """An empty table with a column for names, and right-aligned ones for numbers."""
    found = Table(box=None, padding=(0, 3, 0, 0))
    found.add_column(name, style="bold")
    for number in numbers:
        found.add_column(Text(number), justify="right")
    return found
