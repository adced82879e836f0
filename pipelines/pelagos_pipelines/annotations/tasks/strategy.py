"""The interface of task-specific handling of annotations: which ones an image has, and how a version stores them.

Called by the preparation, which cleans and stores annotations, and by the evaluation, which uses them as ground truth. Strategies
depend on annotations.model only.
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
    """Handling of annotations for one task.

    ``needs_several_classes``: with a single class there is nothing to learn. ``joins``: of images with the same pixels, the
    annotations of one can be used for all if they include those of the others.
    """

    task: ClassVar[Task]
    needs_several_classes: ClassVar[bool]
    joins: ClassVar[bool]
    draws_crowds: ClassVar[bool] = False
    """Whether a crowd region is as good as separate objects, as for tasks that only need the pixels of classes."""

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.task.value

    @abstractmethod
    def marks(self, image: ImageRecord) -> Sequence[str]:
        """The class of each annotation."""

    @abstractmethod
    def drawn(self, image: ImageRecord, shapes: Sequence[Shape], altered: Altered) -> ImageRecord | None:
        """The image with the shapes that the task can use; None when there are shapes but no usable one, so it is no background.

        Changed or dropped shapes are counted in ``altered``.
        Raises:
            RefusedError: FORMAT_INVALID when the shapes contradict the task.
        """

    def crowded(self, crowds: Iterable[Shape]) -> tuple[Shape, ...]:
        """Crowd regions in the form of the task's own shapes, where it has some."""
        return ()

    def settled(self, image: ImageRecord) -> ImageRecord:
        """The final image, after all annotations have the requested classes.

        Raises:
            RefusedError: FORMAT_INVALID when these contradict the task.
        """
        return image

    @abstractmethod
    def stored(self, image: ImageRecord) -> dict[str, Any]:
        """The members of the image in annotations.json of a version, beside its path. They are part of the version's digest."""

    @abstractmethod
    def restored(self, mark: Mapping[str, Any], numbers: Mapping[str, int], classes: Sequence[str]) -> ImageRecord:
        """The image from ``mark``, its entry in annotations.json; ``numbers`` are the indices of ``classes``."""

    @abstractmethod
    def told(self, image: ImageRecord) -> str:
        """The annotations of an image in words, for messages."""
