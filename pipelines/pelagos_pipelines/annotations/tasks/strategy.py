"""What a task says about annotations: what an image has of them, how a version keeps them, what may be made of them.

Called by the preparation, which stores and cleans them, and by the evaluation, which makes ground truth of them. Strategies know
annotations.model only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.shapes import Shape


class Strategy(ABC):
    """A task in annotations.

    ``needs_several_classes``: of one class alone there is nothing to learn. ``joins``: images with the same pixels may have all
    annotations that one of them has, when these hold those of the others.
    """

    task: ClassVar[Task]
    needs_several_classes: ClassVar[bool]
    joins: ClassVar[bool]
    draws_crowds: ClassVar[bool] = False
    """Whether a region with objects that nobody drew one by one is as good as they are: of pixels of classes."""

    @property
    def name(self) -> str:
        """That of the task."""
        return self.task.value

    @abstractmethod
    def marks(self, image: ImageRecord) -> Sequence[str]:
        """The class of each annotation."""

    @abstractmethod
    def drawn(self, image: ImageRecord, shapes: Sequence[Shape], altered: Altered) -> ImageRecord | None:
        """The image with what the task takes of its shapes; None when it takes nothing of them, so that it is no background.

        What becomes of shapes that the task cannot hold as they are is counted in ``altered``.

        Raises:
            RefusedError: FORMAT_INVALID when the shapes contradict the task.
        """

    def crowded(self, crowds: Iterable[Shape]) -> tuple[Shape, ...]:
        """Regions with objects that nobody drew one by one, as the task looks at places; by its own shapes, where it has some."""
        return ()

    def settled(self, image: ImageRecord) -> ImageRecord:
        """The image as it is once all its annotations are of the classes that are asked for.

        Raises:
            RefusedError: FORMAT_INVALID when these contradict the task.
        """
        return image

    @abstractmethod
    def stored(self, image: ImageRecord) -> dict[str, Any]:
        """As annotations.json of a version has them, beside the path. It is part of the version's digest."""

    @abstractmethod
    def restored(self, mark: Mapping[str, Any], numbers: Mapping[str, int], classes: Sequence[str]) -> ImageRecord:
        """The image with the annotations that ``mark``, of annotations.json, has; ``numbers`` are the places of ``classes``."""

    @abstractmethod
    def told(self, image: ImageRecord) -> str:
        """The annotations of an image, in a message."""
