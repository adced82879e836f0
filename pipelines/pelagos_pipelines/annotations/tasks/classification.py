"""Annotations for classification: one class per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from pelagos_contract.dataset import Change
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.tasks.strategy import Strategy
from pelagos_pipelines.annotations.untrusted_input import format_names, invalid, printable


class Classification(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, needs_several_classes, joins = Task.CLASSIFICATION, True, False

    @override
    def marks(self, image: ImageRecord) -> Sequence[str]:
        """The image's class; all of its classes while they are not settled."""
        return [shape.label for shape in image.shapes] if image.label is None else [image.label]

    @override
    def drawn(self, image: ImageRecord, shapes: Sequence[Shape], altered: Altered) -> ImageRecord | None:
        """The class of the only tag. With several tags all are kept: ``settled`` decides after labels were applied."""
        tags: dict[str, Shape] = {}
        for shape in shapes:
            if shape.kind is not Kind.TAG:
                altered.add(shape, Change.LEFT_OUT)
                continue
            if shape.label in tags:
                altered.add(shape, Change.REPEATED)
            else:
                altered.add_extras(shape)
            tags[shape.label] = shape
        if len(tags) > 1:
            return replace(image, shapes=tuple(tags.values()))
        return replace(image, label=next(iter(tags))) if tags else None

    @override
    def settled(self, image: ImageRecord) -> ImageRecord:
        """The image with the class that all its tags have after labels were applied.

        Raises:
            RefusedError: FORMAT_INVALID when they have several.
        """
        if not image.shapes:
            return image
        if len(image.labels) > 1:
            raise invalid(
                f"{printable(image.path)} has {len(image.labels)} classes ({format_names(sorted(image.labels))}), and "
                "Classification needs one of each image: keep one, leave others out with labels.exclude, or merge them with "
                "labels.merge"
            )
        return replace(image, label=next(iter(image.labels)), shapes=())

    @override
    def stored(self, image: ImageRecord) -> dict[str, Any]:
        """The class, or the classes while they are not settled."""
        return {"class": image.label} if image.label is not None else {"classes": sorted(image.labels)}

    @override
    def restored(self, mark: Mapping[str, Any], numbers: Mapping[str, int], classes: Sequence[str]) -> ImageRecord:
        """The image with its class."""
        return ImageRecord(mark["path"], label=mark["class"])

    @override
    def told(self, image: ImageRecord) -> str:
        """The class."""
        return str(image.label)


STRATEGY = Classification()
