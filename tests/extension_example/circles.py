"""A format with shapes: circles.json with the circles in each image, by their class, centre and radius in pixels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, BinaryIO

from extension_example.descriptions import CIRCLES as DESCRIPTION
from pelagos_pipelines.annotations import drawings
from pelagos_pipelines.annotations.drawings import Drawings, OtherKindError
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.model import Format, SourceFiles
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

FILE = "circles.json"


def _files(tree: SourceFiles) -> list[str]:
    return [FILE] if FILE in tree.known else []


def recognises(tree: SourceFiles) -> bool:
    """Whether there are images, and the file is like ours inside."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and "image" in entry and isinstance(entry.get("circles"), list)


def _is_one(file: BinaryIO) -> bool:
    return _is_entry(drawings.first_entry(file))


def _read(found: Drawings, file: BinaryIO) -> None:
    """Read a list of {"image": "a.png", "circles": [{"class": "cod", "x": 5, "y": 6, "radius": 2}], "note": ""}."""
    for number, entry in enumerate(drawings.entries(found, file)):
        if not _is_entry(entry):
            if number == 0:
                raise OtherKindError
            raise invalid(f"{found.where}: entry {number} has no image or no list of circles: export it again")
        with found.faults.noting():
            image = found.image([entry["image"]], f"entry {number}")
            found.counted["notes"] += bool(entry.get("note"))
            for which, circle in enumerate(entry["circles"]):
                place = f"entry {number}: circle {which}"
                if not isinstance(circle, dict):
                    raise invalid(f"{found.where}: {place} is not a circle: export it again")
                found.shape(image, place, circle.get("class"), functools.partial(_shape, circle))


def _shape(circle: Mapping[str, Any], label: str) -> Shape:
    return Shape(label, Kind.CIRCLE, (circle["x"], circle["y"], circle["radius"]))


parse = drawings.task(_read)
is_one = drawings.question(_is_one)
TOOL = Tool(DESCRIPTION, _files, __name__, said={"notes": "notes about images are left out"})
FORMAT = Format(DESCRIPTION, recognises, TOOL.read, evidence=TOOL.evidence)
