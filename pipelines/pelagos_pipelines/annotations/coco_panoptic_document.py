"""Parses COCO panoptic in a child of the sandbox: the segments of each picture.

The number of a pixel is R + 256 G + 65536 B; 0 is unlabelled. Source: cocodataset.org, Data format, 4. Panoptic Segmentation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from typing_extensions import override

from pelagos_pipelines.annotations import coco_document, drawings
from pelagos_pipelines.annotations.coco_document import Coco, Document
from pelagos_pipelines.annotations.coco_shapes_document import images
from pelagos_pipelines.annotations.drawings import Drawings, Segment
from pelagos_pipelines.annotations.untrusted_input import invalid

_MOST_SEGMENTS = 10_000
"""Most segments of one picture."""


@dataclass
class _Panoptic(Coco):
    """Reads segments where ``Coco`` reads boxes."""

    pictures: dict[int, tuple[str, list[Segment]]] = field(default_factory=dict)
    things: dict[int, bool] = field(default_factory=dict)

    @override
    def category(self, number: int, entry: dict[str, Any]) -> None:
        super().category(number, entry)
        self.things[next(reversed(self.names))] = bool(entry.get("isthing", 1))

    @override
    def mark(self, number: int, entry: dict[str, Any]) -> None:
        place = f"{self.where}: annotations[{number}]"
        index = self.index(coco_document.identity(entry.get("image_id"), f"{place}.image_id"))
        name, listed = entry.get("file_name"), entry.get("segments_info")
        if index is None:
            self.note("orphans", self.orphans, f"annotations[{number}].image_id", "")
            return
        if not isinstance(name, str) or not isinstance(listed, list) or len(listed) > _MOST_SEGMENTS:
            raise invalid(f"{place} has no file_name, or no segments_info of at most {_MOST_SEGMENTS}: export it again")
        segments = []
        for position, each in enumerate(listed):
            where = f"{place}.segments_info[{position}]"
            if not isinstance(each, dict):
                raise invalid(f"{where} must be an object: export it again")
            category = coco_document.whole(each.get("category_id"), f"{where}.category_id")
            if category in self.topmost:
                self.note("topmost", self.lacking, f"annotations[{number}].segments_info[{position}]", str(category))
                continue
            if category not in self.names:
                self.note("unknown", self.unknown, f"annotations[{number}].segments_info[{position}]", "")
                continue
            identity = coco_document.whole(each.get("id"), f"{where}.id")
            segments.append(Segment(identity, self.names[category], self.things[category], bool(each.get("iscrowd"))))
        self.pictures[index] = name, segments


def _read(found: Drawings, file: BinaryIO, *, above: bool) -> None:
    """Read one file: its images, each with its picture and segments. ``above``: classes are the supercategories."""

    def once(document: Document) -> _Panoptic:
        reading = _Panoptic(found.where, above)
        coco_document.fill(reading, document, found.limit, found.limit)
        return reading

    reading = coco_document.patiently(found.where, file, once)
    for index, image in images(found, reading):
        if index in reading.pictures:
            image.picture, image.segments = reading.pictures[index]
        else:
            image.is_labelled = False


parse = drawings.task(functools.partial(_read, above=False))
parse_above = drawings.task(functools.partial(_read, above=True))
