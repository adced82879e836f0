"""What a task says about showing an answer, which has the JSON shape of the service contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from PIL import Image
from rich.table import Table
from rich.text import Text

from pelagos_contract.tasks import Task

Answer = Mapping[str, Any]


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

    @abstractmethod
    def drawn(self, image: Image.Image, answer: Answer, scale: float) -> Image.Image:
        """A new picture with what was found in an image that was enlarged by ``scale``."""


def empty_table(name: str, *numbers: str) -> Table:
    """A table for names and numbers."""
    found = Table(box=None, padding=(0, 3, 0, 0))
    found.add_column(name, style="bold")
    for number in numbers:
        found.add_column(Text(number), justify="right")
    return found
