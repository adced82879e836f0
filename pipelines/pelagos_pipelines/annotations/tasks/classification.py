"""Classification in annotations: one class of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.tasks.strategy import Strategy


class Classification(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, needs_several_classes, joins = Task.CLASSIFICATION, True, False

    def marks(self, image: ImageRecord) -> Sequence[str]:
        """Its class."""
        return [] if image.label is None else [image.label]

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
