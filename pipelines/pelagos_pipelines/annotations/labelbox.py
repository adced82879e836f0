"""Labelbox: the NDJSON of an export, one line per data row, and the images.

Source: labelbox 7.17.0, ``export_task.py`` and its documentation of exports. Masks are at URLs that need a key; nothing is
fetched here: a mask is read from ``masks/<feature_id>.png`` beside the file if that exists.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from pelagos_contract.formats import LABELBOX
from pelagos_pipelines.annotations import labelbox_document, masks, reading
from pelagos_pipelines.annotations.drawings import Drawings, Drawn
from pelagos_pipelines.annotations.drawn import Tool
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Format, SourceFiles, suffix
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid, printable

_PICTURES = "pelagos_pipelines.annotations.label_pictures_document"


def _files(tree: SourceFiles) -> list[str]:
    return [path for path in tree.files if suffix(path) in {".ndjson", ".jsonl", ".json"}]


def _masks(tree: SourceFiles) -> list[str]:
    return [
        path
        for path in tree.images
        if suffix(path) == ".png" and labelbox_document.MASKS in PurePosixPath(path).parent.parts
    ]


def recognises(tree: SourceFiles) -> bool:
    """Whether there are files of Labelbox."""
    return bool(tree.images) and TOOL.recognised(tree, _files(tree))


def _fill(tree: SourceFiles, path: str, drawings: Drawings, faults: Faults) -> None:
    """Add the masks of objects to the drawings."""
    for image in drawings.images:
        if image.picture is not None:
            with faults.noting():
                _draw(tree, path, image, str(PurePosixPath(path).parent / image.picture))


def _draw(tree: SourceFiles, path: str, image: Drawn, picture: str) -> None:
    if picture not in tree.known:
        raise invalid(
            f"{printable(path)}: {image.place} is a mask behind a URL, which is not fetched: put it into "
            f"{labelbox_document.MASKS}/ beside the file, as the object's feature_id with .png, or draw polygons"
        )
    document, (coordinates,) = reading.pixels(_PICTURES, tree, picture, [masks.ANY])
    size = document["width"], document["height"]
    if (image.width or size[0], image.height or size[1]) != size:
        raise invalid(
            f"{printable(picture)} has {size[0]} x {size[1]} pixels, but {printable(path)}: {image.place} says"
            f" {image.width} x {image.height}"
        )
    (segment,) = image.segments
    if coordinates is None:
        raise invalid(f"{printable(picture)} has only black pixels: remove {image.place}")
    image.shapes.append(Shape(segment.label, Kind.MASK, tuple(map(float, coordinates))))


TOOL = Tool(
    LABELBOX,
    _files,
    "pelagos_pipelines.annotations.labelbox_document",
    said={
        "videos": "data rows are not images, and are left out",
        "relations": "relations between objects are left out",
        "texts": "answers in free text are left out",
    },
    pictures=_masks,
    fill=_fill,
)
FORMAT = Format(LABELBOX, recognises, TOOL.read, evidence=TOOL.evidence)
