"""COCO panoptic: a JSON file beside a folder with a picture for each image, whose pixels are the numbers of segments.

Called by the format coco. Source: cocodataset.org, Data format, 4. Panoptic Segmentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from pelagos_contract.dataset import Change
from pelagos_contract.splits import SPLITS
from pelagos_pipelines.annotations import coco_writing, linking, masks, naming, reading
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.drawings import Drawn
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Collection, ImageRecord, SourceFiles, suffix
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid, printable

PARSER = "pelagos_pipelines.annotations.coco_panoptic_document"
_PIXELS = "pelagos_pipelines.annotations.label_pictures_document"
THING = "isthing"
"""The attribute of shapes whose class is a thing, not stuff."""
_NAMES = re.compile(r"^panoptic_.*\.json$", re.IGNORECASE)


def files(tree: SourceFiles) -> list[str]:
    """The annotation files of the source."""
    return [path for path in tree.files if _NAMES.match(path.rpartition("/")[2])]


def pictures(tree: SourceFiles, annotations: Sequence[str]) -> list[str]:
    """The pictures of these files, which are in folders of the same name."""
    stems = {PurePosixPath(path).stem for path in annotations}
    if not stems:
        return []
    return [
        path
        for path in tree.images
        if suffix(path) == ".png" and not stems.isdisjoint(PurePosixPath(path).parent.parts)
    ]


def drawn(
    tree: SourceFiles, path: str, faults: Faults, task: str = "parse"
) -> Iterator[tuple[Sequence[str], Drawn, Mapping[str, int]]]:
    """The classes of a file, each image with the masks of its segments, and counts of what is left out.

    ``task`` names the parser's task that reads the file.
    """
    names = naming.Names(pictures(tree, [path]))
    for _, drawings in reading.drawings(PARSER, tree, [path], faults, task):
        if drawings is None:
            continue
        for image in drawings.images:
            with faults.noting():
                yield drawings.classes, image, _fill(tree, path, image, names)


def _fill(tree: SourceFiles, path: str, image: Drawn, names: naming.Names) -> Mapping[str, int]:
    """Add the masks of an image's segments; returns counts of what is left out."""
    if image.picture is None:
        return {}
    found = names.alike(image.picture)
    if len(found) != 1:
        raise invalid(
            f"{printable(path)}: the picture {printable(image.picture)} of {image.place} is not in a folder"
            f" {PurePosixPath(path).stem}, or more than once: add the folder that belongs to the file"
        )
    known = {segment.number: segment for segment in image.segments}
    document, shapes = reading.pixels(_PIXELS, tree, found[0], list(known), coloured=True)
    size = (document["width"], document["height"])
    if (image.width or size[0], image.height or size[1]) != size:
        raise invalid(
            f"{printable(found[0])} has {size[0]} x {size[1]} pixels, but {printable(path)} says {image.width} x {image.height}"
        )
    image.width, image.height = size
    for segment, coordinates in zip(known.values(), shapes, strict=True):
        if coordinates is not None:
            attributes = {THING: str(segment.is_thing).lower()}
            shape = Shape(segment.label, Kind.MASK, tuple(map(float, coordinates)), attributes=attributes)
            (image.crowds if segment.is_crowd else image.shapes).append(shape)
    image.left = crowds = sum(segment.is_crowd for segment in image.segments)
    return {"crowds": crowds, "unnumbered": document["others"], "absent": sum(each is None for each in shapes)}


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> Altered:
    """Write ``images/<split>/``, ``annotations/panoptic_<split>.json`` and the pictures in ``annotations/panoptic_<split>/``.

    A pixel belongs to one segment: of overlapping shapes the smaller one is on top, and what it covers is counted. Crowds are
    below.
    """
    names, altered = linking.numbered(collection.images), Altered()
    ids = {label: number for number, label in enumerate(collection.classes, start=1)}
    extents = {
        shape.label for image in collection.images for shape in image.shapes if shape.attributes.get(THING) == "false"
    }
    taxa = coco_writing.taxa(collection)
    categories = [
        {
            "id": number,
            "name": label,
            "supercategory": label,
            "isthing": int(label not in extents),
            **taxa.get(label, {}),
        }
        for label, number in ids.items()
    ]
    for split in SPLITS:
        folder, drawn_in = target / "images" / split, target / "annotations" / f"panoptic_{split}"
        folder.mkdir(parents=True)
        drawn_in.mkdir(parents=True)
        images, annotations = [], []
        for index, image in enumerate(image for image in collection.images if image.split == split):
            name = names[image.path]
            linking.show(blobs, image.path, folder / name)
            group = {} if image.group is None else {"group": image.group}
            size = {"width": image.width, "height": image.height}
            images.append({"id": index, "file_name": name, **size, "source": image.path, **group})
            picture = f"{PurePosixPath(name).stem}.png"
            segments = _draw(image, ids, drawn_in / picture, altered)
            annotations.append({"image_id": index, "file_name": picture, "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (target / "annotations" / f"panoptic_{split}.json").write_bytes(orjson.dumps(content))
    return altered


def _draw(image: ImageRecord, ids: Mapping[str, int], file: Path, altered: Altered) -> list[dict[str, Any]]:
    """Write the picture of an image; returns its segments."""
    import numpy as np
    from PIL import Image

    assert image.width is not None
    assert image.height is not None
    width, height = image.width, image.height
    objects, crowds = (
        sorted(((shape, masks.drawn(shape, width, height)) for shape in each), key=lambda pair: -int(pair[1].sum()))
        for each in (image.shapes, image.crowds)
    )
    numbers: Any = np.zeros((image.height, image.width), np.uint32)
    ordered = [*crowds, *objects]
    for number, (_, inside) in enumerate(ordered, start=1):
        numbers[inside] = number
    segments = []
    for number, (shape, inside) in enumerate(ordered, start=1):
        left: Any = numbers == number
        area = int(left.sum())
        if area != int(inside.sum()):
            altered.add(shape, Change.COVERED)
        if not area:
            continue
        rows, columns = np.flatnonzero(left.any(axis=1)), np.flatnonzero(left.any(axis=0))
        box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
        told = {"id": number, "category_id": ids[shape.label], "iscrowd": int(number <= len(crowds))}
        segments.append(told | {"bbox": box, "area": area})
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(file, "PNG")
    return segments
