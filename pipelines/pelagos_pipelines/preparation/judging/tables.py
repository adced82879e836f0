"""The images and annotations of a version as arrays, from which all figures are counted."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract.splits import SPLITS
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.preparation.judging.slices import Slice, coded


@dataclass(frozen=True)
class Tables:
    """The arrays. ``shown`` [pairs, 2] has each image with each class that it shows, as indices; ``splits`` [images] has indices
    of SPLITS, or -1.

    ``sizes`` [images, 2] are width and height in pixels. ``boxes`` [boxes, 4] are left, top, width and height in fractions of the
    image, and ``box_of`` [boxes, 2] the image and the class of each; classified images have no boxes.
    """

    classes: tuple[str, ...]
    images: Sequence[ImageRecord]
    shown: npt.NDArray[np.int32]
    splits: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.float64]
    box_of: npt.NDArray[np.int32]
    slices: Sequence[Slice]

    @property
    def by_class(self) -> npt.NDArray[np.int64]:
        """The number of images that show each class, [classes]."""
        return np.bincount(self.shown[:, 1], minlength=len(self.classes))

    @property
    def by_class_and_split(self) -> npt.NDArray[np.int64]:
        """The number of images that show each class, by split, [classes, splits]."""
        return self.counted(self.splits, len(SPLITS))

    def counted(self, codes: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.int64]:
        """The number of images that show each class, by the image's code, [classes, count]; negative codes are left out."""
        found = codes[self.shown[:, 0]]
        known = found >= 0
        cells = self.shown[known, 1] * count + found[known]
        return np.bincount(cells, minlength=len(self.classes) * count).reshape(len(self.classes), count)


def of(collection: Collection, slices: Mapping[str, Sequence[str | None]]) -> Tables:
    """The tables of a version; ``slices`` has, by name, a value for each image."""
    numbers = {name: number for number, name in enumerate(collection.classes)}
    images, shown, box_of, boxes = collection.images, array("i"), array("i"), array("d")
    for index, image in enumerate(images):
        for label in image.labels:
            shown.extend((index, numbers[label]))
        width, height = image.width or 1, image.height or 1
        for label, x, y, w, h in sides_of(image):
            box_of.extend((index, numbers[label]))
            boxes.extend((x / width, y / height, w / width, h / height))
    splits = {split: number for number, split in enumerate(SPLITS)}
    return Tables(
        classes=collection.classes,
        images=images,
        shown=_table(shown, np.int32, 2),
        splits=np.array([splits.get(image.split, -1) if image.split else -1 for image in images], np.int32),
        sizes=np.array([(image.width or 0, image.height or 0) for image in images], np.int32).reshape(-1, 2),
        boxes=_table(boxes, np.float64, 4),
        box_of=_table(box_of, np.int32, 2),
        slices=[coded(name, values) for name, values in slices.items()],
    )


def _table(values: array[Any], kind: Any, columns: int) -> npt.NDArray[Any]:
    return np.frombuffer(values, kind).reshape(-1, columns) if len(values) else np.zeros((0, columns), kind)


def sides_of(image: ImageRecord) -> Iterator[tuple[str, float, float, float, float]]:
    """Class, left, top, width and height, in pixels, of each box and shape of an image."""
    for box in image.boxes:
        yield box.label, box.x, box.y, box.width, box.height
    for shape in image.shapes:
        if (sides := shape.sides) is not None:
            yield (shape.label, *sides)
