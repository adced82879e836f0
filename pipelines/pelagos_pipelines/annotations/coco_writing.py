"""Annotations in COCO's form: boxes, outlines as polygons, and masks as compressed run lengths. Source: cocodataset.org, Data
format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape, area_of


def taxa(collection: Collection) -> dict[str, dict[str, Any]]:
    """The members of categories that are taxa: the parent taxon as supercategory, name and LSID under Darwin Core terms."""
    named = collection.taxonomy.classes if collection.taxonomy is not None else ()
    said = ((each.name, each.taxon, each.parent) for each in named)
    return {
        name: {
            **({"supercategory": parent} if parent else {}),
            "scientificName": taxon.name,
            **({"scientificNameID": taxon.uri} if taxon.uri else {}),
        }
        for name, taxon, parent in said
    }


def marks(image: ImageRecord) -> Iterator[tuple[str, dict[str, Any]]]:
    """The class of each annotation of an image, and its COCO members without ids."""
    for box in image.boxes:
        sides = {"bbox": [box.x, box.y, box.width, box.height], "area": box.width * box.height}
        yield box.label, sides | {"iscrowd": 0}
    for is_crowd, shapes in enumerate((image.shapes, image.crowds)):
        for shape in shapes:
            extras = {"attributes": dict(shape.attributes)} if shape.attributes else {}
            yield shape.label, _shown(shape, image) | extras | {"iscrowd": is_crowd}


def _shown(shape: Shape, image: ImageRecord) -> dict[str, Any]:
    sides = shape.sides
    assert sides is not None  # these tasks only keep shapes with an area
    if shape.kind is Kind.RECTANGLE:
        left, top, width, height, angle = shape.coordinates
        # As CVAT does: the box before rotation, and the angle as an attribute.
        turned = {"attributes": {**shape.attributes, "rotation": angle}} if angle % 360 else {}
        return {"bbox": [left, top, width, height], "area": width * height, **turned}
    box = {"bbox": list(sides)}
    if shape.kind is Kind.POLYGON and not any(is_hole for _, is_hole in shape.outlines):
        rings = [list(ring) for ring, _ in shape.outlines]
        return {"segmentation": rings, "area": sum(map(area_of, rings)), **box}
    assert image.width is not None
    assert image.height is not None
    # COCO's polygons have no holes, and its tools rasterize polygons differently; a mask is unambiguous.
    pixels = masks.drawn(shape, image.width, image.height)
    runs = masks.compressed(masks.columns_of(pixels))
    return {"segmentation": {"size": [image.height, image.width], "counts": runs}, "area": int(pixels.sum()), **box}
