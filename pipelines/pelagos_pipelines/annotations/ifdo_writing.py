"""Writes a version as an iFDO: ``ifdo.json`` and ``images/<split>/``.

iFDO has neither masks nor holes: for a mask, or a polygon of several rings, the outline of the largest piece is written.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from pelagos_contract.dataset import Change
from pelagos_pipelines.annotations import axes, linking, masks, shapes
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape

VERSION = "v2.2.1"
_SCHEMA = "http://hdl.handle.net/20.500.12085/22aba7d7-c432-49ab-bebe-ee8ed4f70150"
_CREATOR = {"id": "unknown", "name": "not recorded", "type": "unknown"}
_NEVER = "1970-01-01 00:00:00.000000"
"""The standard requires a time for each label, which versions do not have."""


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> Altered:
    """Write the view. Name and ids of the image set depend only on its content."""
    names, altered = linking.numbered(collection.images), Altered()
    for image in collection.images:
        folder = target / "images" / (image.split or "")
        folder.mkdir(parents=True, exist_ok=True)
        linking.show(blobs, image.path, folder / names[image.path])
    found = document(collection, names, altered)
    (target / "ifdo.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return altered


def document(collection: Collection, names: Mapping[str, str], altered: Altered) -> dict[str, Any]:
    """The iFDO of the images, whose file names are ``names`` by their paths in the source. Unsupported shapes are counted."""
    items = {
        names[image.path]: {"image-annotations": [_annotation(shape) for shape in _held(image, altered)]}
        for image in collection.images
    }
    taxa = collection.taxonomy.taxa() if collection.taxonomy is not None else {}
    uris = {name: taxon.uri for name, taxon in taxa.items() if taxon.uri}
    digest = hashlib.sha256(orjson.dumps([list(collection.classes), items], option=orjson.OPT_SORT_KEYS)).hexdigest()
    identity = uuid.uuid5(uuid.NAMESPACE_OID, digest)
    header = {
        "image-set-name": f"pelagos-{digest[:12]}",
        "image-set-uuid": str(identity),
        "image-set-handle": f"urn:uuid:{identity}",
        "image-set-ifdo-version": VERSION,
        "image-set-local-path": "images",
        "image-acquisition": "photo",
        "image-annotation-labels": [
            {"id": name, "name": name} | ({"info": uris[name]} if name in uris else {}) for name in collection.classes
        ],
        "image-annotation-creators": [_CREATOR],
    }
    return {"$schema": _SCHEMA, "image-set-header": header, "image-set-items": items}


def _held(image: ImageRecord, altered: Altered) -> list[Shape]:
    """The marks of an image in forms that iFDO supports; changes are counted."""
    found = []
    for shape in image.marks:
        if shape.kind is Kind.KEY_POINTS:
            altered.add(shape, Change.LEFT_OUT)
            continue
        if shape.attributes:
            altered.counts["attributes", Change.WITHOUT_EXTRAS] += 1
        if shape.kind is Kind.MASK or len(shape.rings) > 1:
            altered.add(shape, Change.OUTLINE)
            shape = _largest(shape)  # noqa: PLW2901 - as iFDO has it
        found.append(shape)
    return found


def _largest(shape: Shape) -> Shape:
    """The polygon around the largest piece of a mask, or of a polygon."""
    outer = [ring for ring, is_hole in shape.outlines if not is_hole]
    ring = max(outer or masks.rings_of(shape), key=shapes.area_of)
    return replace(shape, kind=Kind.POLYGON, coordinates=ring, rings=(len(ring) // 2,))


def _annotation(shape: Shape) -> dict[str, Any]:
    word, numbers = _WRITERS[shape.kind](shape)
    label: dict[str, Any] = {"label": shape.label, "annotator": _CREATOR["id"], "created-at": _NEVER}
    if shape.confidence is not None:
        label["confidence"] = shape.confidence
    return {"shape": word, "coordinates": list(numbers), "labels": [label]}


_Written = tuple[str, tuple[float, ...]]
_WRITERS: Mapping[Kind, Callable[[Shape], _Written]] = {
    Kind.RECTANGLE: lambda shape: ("rectangle", shapes.corners_of(shape)),
    Kind.POLYGON: lambda shape: ("polygon", (*shape.coordinates, *shape.coordinates[:2])),
    Kind.POINT: lambda shape: ("single-pixel", shape.coordinates),
    Kind.LINE: lambda shape: ("polyline", shape.coordinates),
    Kind.CIRCLE: lambda shape: ("circle", shape.coordinates),
    Kind.ELLIPSE: lambda shape: ("ellipse", axes.ends_of(shape)),
    Kind.TAG: lambda shape: ("whole-image", ()),
}
