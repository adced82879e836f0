"""What a task says about showing an answer, which has the JSON shape of the service contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from rich.table import Table
from rich.text import Text

from pelagos_contract.answers.drawing import Answer
from pelagos_contract.tasks import Task


class Strategy(ABC):
    """A task in what people see of answers."""

    task: ClassVar[Task]

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.value

    def summary(self, answer: Answer) -> str:
        """How much was found, for a heading; "" where that goes without saying."""
        return ""

    @abstractmethod
    def table(self, answer: Answer) -> Table:
        """What was found, a row each."""


def empty_table(name: str, *numbers: str) -> Table:
    """A table for names and numbers."""
    found = Table(box=None, padding=(0, 3, 0, 0))
    found.add_column(name, style="bold")
    for number in numbers:
        found.add_column(Text(number), justify="right")
    return found
