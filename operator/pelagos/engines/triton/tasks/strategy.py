"""What a task says about serving: what a model's answer holds, and when two answers are those of one model. Pure."""

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
"""Name, type in Triton's words, and shape without the batch dimension: -1 is a number of rows that differs between responses."""


def least(label: str, package: Found, want: DesiredService) -> float:
    """What a score of a class must have more than, so that both a package's known answer and a server's have it."""
    classes, general = package.get("classes") or {}, float(want.confidence)
    known = float(classes[label] if label in classes else package.get("confidence", 0))
    asked = known if label in classes and want.heeds_classes else general
    return max(known, asked)


class Strategy(ABC):
    """A task in serving, as the control plane sees it."""

    task: ClassVar[Task]
    answer: ClassVar[type[Strict]]
    """The known answer in a package."""
    heads: ClassVar[tuple[str, ...]] = ()
    """What packages call the kind of their networks' outputs, where there are several; none: they call it nothing."""

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.value

    @abstractmethod
    def outputs(self, labels: int) -> Iterator[Output]:
        """What a model of so many classes answers beside its JSON and errors."""

    @abstractmethod
    def most(self, want: DesiredService, exported: int) -> int:
        """The most detections of an answer; ``exported``: as its package says."""

    @abstractmethod
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """What is wrong with an answer; None when it is right. See ``probe.compare``."""
