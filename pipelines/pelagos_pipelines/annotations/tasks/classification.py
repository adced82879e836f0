"""Classification in annotations: one class of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

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

    def marks(self, image: ImageRecord) -> Sequence[str]:
        """Its class."""
        return [] if image.label is None else [image.label]

    def drawn(self, image: ImageRecord, shapes: Sequence[Shape], altered: Altered) -> ImageRecord | None:
        """The class of its only tag."""
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
            raise invalid(
                f"{printable(image.path)} has {len(tags)} classes ({format_names(sorted(tags))}), and Classification needs one of"
                " each image: keep one"
            )
        return replace(image, label=next(iter(tags))) if tags else None

    def stored(self, image: ImageRecord) -> dict[str, Any]:
        """Its class."""
        return {"class": image.label}

    def restored(self, mark: Mapping[str, Any], numbers: Mapping[str, int], classes: Sequence[str]) -> ImageRecord:
        """With its class."""
        return ImageRecord(mark["path"], label=mark["class"])

    def told(self, image: ImageRecord) -> str:
        """Its class."""
        return str(image.label)


STRATEGY = Classification()
