"""Images with their true annotations, for training and metrics. Independent of training frameworks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.preprocessing import Preprocessing, Statistics
from pelagos_contract.splits import Split
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.preparation.balancing import Plan
from pelagos_pipelines.serving import color, images
from pelagos_pipelines.serving.geometry import Pixels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Sample:
    """One image: ``class_ids`` [n], and ``boxes`` [n, 4] around objects, as x1, y1, x2, y2 in pixels of the original."""

    name: str
    file: Path
    class_ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[Any]
    sha256: str | None = None
    """SHA-256 of the file's content, from the version; None if it is not a file of a version."""
    color: str | None = None
    """The colour correction that the version declares, a key of color.METHODS; None without one."""
    repeats: int = 1
    """How often an epoch shows the image, by the version's plan; 0: never."""
    shapes: Sequence[Shape] = ()
    """For tasks that need more than a box: one shape for each of ``class_ids``, in pixels of the original."""
    source: str | None = None
    """The path of the source file that it is, or is a tile of; None: its own name."""
    group: str | None = None
    """The group that a split keeps whole."""
    capture: Capture | None = None
    """When and where it was taken, as far as known."""
    crowds: Sequence[Shape] = ()
    """Crowd regions in pixels of the original, which training ignores, and in which predictions are not judged. ``crowd_ids`` are
    their classes."""
    crowd_ids: Sequence[int] = ()
    record: ImageRecord | None = None
    """The image's exact record in the version; None if it is not an image of a version."""

    def pixels(self) -> Pixels:
        """The image as a model sees it: decoded and corrected as by the server. Raises as `stored` does."""
        return color.corrected(self.stored(), self.color)

    def stored(self) -> Pixels:
        """The image decoded as by the server, before any correction.

        Decoding in this process is safe: the preparation has decoded the same bytes in a child with ceilings, and the digest
        is verified here.
        Raises:
            RefusedError: DATASET_NOT_READABLE when the file does not match the version.
        """
        content = self.file.read_bytes()
        if self.sha256 is not None and hashlib.sha256(content).hexdigest() != self.sha256:
            raise RefusedError(
                Reason.DATASET_NOT_READABLE,
                f"the image {self.file} is damaged or was altered; restore it, or prepare the dataset again",
                "dataset.uri",
            )
        return images.decode_known(content)


@dataclass(frozen=True)
class GroundTruth:
    """A dataset version in memory, without pixels.

    ``statistics``, by which inputs are normalised, ``balance``, the plan of how often training images are shown and how much
    classes weigh, and ``augmentation``, the limits to which training images are altered, are None unless the version declares
    them. ``stuff`` has the labels of classes that have an extent and no objects.
    """

    labels: tuple[str, ...]
    by_split: dict[Split, tuple[Sample, ...]]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    statistics: Statistics | None = None
    balance: Plan | None = None
    augmentation: Augmentation | None = None
    stuff: tuple[str, ...] = ()

    def samples(self, split: Split) -> Sequence[Sample]:
        """The images of a split."""
        return self.by_split.get(split, ())

    def trained_on(self) -> Sequence[Sample]:
        """The training images without those that no epoch shows."""
        return [sample for sample in self.samples("train") if sample.repeats]

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The loss weights of classes; None: all equal."""
        return None if self.balance is None else self.balance.weights
