"""COCO panoptic, read in a child of the sandbox: which segments a picture has, and which pixels are whose.

The number of a pixel is R + 256 G + 65536 B; 0 is nothing. Source: cocodataset.org, Data format, 4. Panoptic Segmentation.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

from pelagos_pipelines.annotations import coco_document, drawings, masks
from pelagos_pipelines.annotations.coco_document import Coco
from pelagos_pipelines.annotations.drawings import Drawings, Segment
from pelagos_pipelines.annotations.untrusted_input import invalid
from pelagos_pipelines.sandbox import Answer

_MOST_SEGMENTS = 10_000
"""Of one picture."""


@dataclass
class _Panoptic(Coco):
    """Takes segments where the other takes boxes."""

    pictures: dict[int, tuple[str, list[Segment]]] = field(default_factory=dict)
    things: dict[int, bool] = field(default_factory=dict)

    def category(self, number: int, entry: dict[str, Any]) -> None:
        super().category(number, entry)
        self.things[next(reversed(self.names))] = bool(entry.get("isthing", 1))

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


def is_panoptic(file: BinaryIO) -> bool:
    """Whether the annotations of a COCO file are segments of pictures. Only the first ones are looked at."""
    for _, entry in coco_document.entries("", "annotations", file):
        return isinstance(entry, dict) and "segments_info" in entry
    return False


def _read(found: Drawings, file: BinaryIO, *, above: bool) -> None:
    """One file: its images, each with its picture and the segments of that. ``above``: classes are the supercategories."""

    def once(translated: bool) -> _Panoptic:
        reading = _Panoptic(found.where, above)
        coco_document.fill(reading, file, found.limit, found.limit, translated=translated)
        return reading

    reading = coco_document.patiently(found.where, file, once)
    reading.judge()
    if reading.many["unknown"]:
        reading.faults.add(
            invalid(f"{found.where} has {reading.many['unknown']} segments of categories that are not declared")
        )
    found.faults.include(reading.faults.document())
    found.classes += reading.ordered
    for index, (name, width, height, group, _) in enumerate(reading.images):
        with found.faults.noting():
            image = found.image([name], f"images[{index}]", (width, height), group=group)  # type: ignore[arg-type]
            if index in reading.pictures:
                image.picture, image.segments = reading.pictures[index]
            else:
                image.is_labelled = False


def pixels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The masks of the ``numbers`` that are asked for in a picture, as JSON in raw: None for one without a pixel.

    The document has the size, and how many pixels have a number that nobody asked for.
    """
    import numpy as np
    from PIL import Image

    with drawings.refusals():
        where = arguments["where"]
        try:
            with Image.open(io.BytesIO(file.read()), formats=["PNG"]) as opened:
                if opened.width * opened.height > masks.MAX_PIXELS:
                    raise invalid(f"{where} has more pixels than any camera")
                if opened.mode not in {"RGB", "RGBA"}:
                    raise invalid(f"{where} is no picture of red, green and blue, in which segments have their numbers")
                colours = np.asarray(opened.convert("RGB")).astype(np.uint32)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise invalid(f"{where} is no PNG that can be decoded: export it again") from error
        numbers = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        found: list[Any] = []
        known = np.asarray(arguments["numbers"], np.uint32)
        for number in arguments["numbers"]:
            inside = numbers == number
            found.append(masks.of_array("", inside).coordinates if inside.any() else None)
        others = int((~np.isin(numbers, known) & (numbers != 0)).sum())
        document = {"width": numbers.shape[1], "height": numbers.shape[0], "others": others}
        return Answer(document, orjson.dumps(found))


parse = drawings.task(functools.partial(_read, above=False))
parse_above = drawings.task(functools.partial(_read, above=True))
is_one = drawings.question(is_panoptic)
