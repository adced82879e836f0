"""The serving strategy of a task: the contents of a model's answer, and when two answers are from the same model. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pelagos.engines.triton.fields import Strict
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from pelagos.ports.serving import DesiredService

Found = Mapping[str, Any]
Output = tuple[str, str, list[int]]
"""Name, Triton's type, and shape without the batch dimension, where -1 is a number of rows that varies between responses."""


def least(label: str, package: Found, want: DesiredService) -> float:
    """The threshold above which both the package's known answer and the server's answer contain a score of a class."""
    classes, general = package.get("classes") or {}, float(want.confidence)
    known = float(classes[label] if label in classes else package.get("confidence", 0))
    asked = known if label in classes and want.heeds_classes else general
    return max(known, asked)


class Strategy(ABC):
    """How the control plane handles a task in serving."""

    task: ClassVar[Task]
    answer: ClassVar[type[Strict]]
    """The schema of the known answer in a package."""
    heads: ClassVar[tuple[str, ...]] = ()
    """The names for the kinds of networks' outputs in packages, where there are several; empty: packages name none."""

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.value

    @abstractmethod
    def outputs(self, labels: int) -> Iterator[Output]:
        """The outputs of a model with ``labels`` classes, besides its JSON and errors."""

    @abstractmethod
    def most(self, want: DesiredService, exported: int) -> int:
        """The largest number of detections in an answer; ``exported`` is the package's."""

    @abstractmethod
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """The problem with an answer; None when it is right. See ``probe.compare``."""
