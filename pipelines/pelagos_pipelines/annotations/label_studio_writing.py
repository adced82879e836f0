"""Writes a version as a Label Studio project: tasks.json, images/, and config.xml, the labelling configuration.

To import it, create a project with the code of config.xml, add the folder as local storage (``LOCAL_FILES_DOCUMENT_ROOT`` is the
folder that contains ``images/``), and upload tasks.json. Polygons with holes or several pieces become brush masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import orjson

from pelagos_contract.dataset import Change
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import brushes, linking, masks, shapes
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape

IMAGE = "image"
"""The name of the image in the configuration, and in the data of a task."""
_CONTROLS: Mapping[str, str] = {
    "rectanglelabels": "RectangleLabels",
    "polygonlabels": "PolygonLabels",
    "ellipselabels": "EllipseLabels",
    "keypointlabels": "KeyPointLabels",
    "brushlabels": "BrushLabels",
}
_OFFERED = ("rectanglelabels", "polygonlabels", "brushlabels")
"""Controls in every project of shapes. Others are only added if needed: with KeyPointLabels, COCO exports give all one class."""
_POINT = 0.5
"""Displayed size of a key point, in percent of the width."""
_OWN = frozenset({"origin", "meta"})
"""Attributes that are not answers."""


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> Altered:
    """Write ``tasks.json``, ``images/`` and ``config.xml``."""
    names, altered, answers = linking.numbered(collection.images), Altered(), dict[str, None]()
    kinds = {"choices"} if collection.task is Task.CLASSIFICATION else {*_OFFERED}
    (target / "images").mkdir(parents=True)
    with (target / "tasks.json").open("wb") as file:
        separator = b"[\n"
        for number, image in enumerate(collection.images, start=1):
            name = names[image.path]
            linking.show(blobs, image.path, target / "images" / name)
            results = [*_results(image, altered, answers)]
            kinds |= {result["type"] for result in results}
            place = f"/data/local-files/?d={quote(f'images/{name}')}"
            data = {IMAGE: place} | ({} if image.split is None else {"split": image.split})
            task = {"id": number, "data": data, "annotations": [{"result": results, "ground_truth": False}]}
            file.write(separator + orjson.dumps(task))
            separator = b",\n"
        file.write(b"]\n" if separator == b",\n" else b"[]\n")
    config = "".join(configuration(collection.classes, answers, kinds))
    (target / "config.xml").write_text(config, encoding="utf-8")
    return altered


def configuration(classes: Sequence[str], answers: Iterable[str], kinds: Set[str]) -> Iterator[str]:
    """The labelling configuration for these classes, with a control for each of the ``kinds`` of results.

    ``answers`` are names of attributes, which people enter as text beside a region.
    """
    yield f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
    for kind, control in ((kind, control) for kind, control in _CONTROLS.items() if kind in kinds):
        yield f'  <{control} name="{kind}" toName="{IMAGE}">\n'
        # Label Studio's own converter orders key points by this number.
        yield from (
            f'    <Label value={_quoted(name)} model_index="{number}"/>\n' for number, name in enumerate(classes)
        )
        yield f"  </{control}>\n"
    if "choices" in kinds:
        yield f'  <Choices name="choices" toName="{IMAGE}" choice="single">\n'
        yield from (f"    <Choice value={_quoted(name)}/>\n" for name in classes)
        yield "  </Choices>\n"
    for name in answers:
        yield f'  <TextArea name={_quoted(name)} toName="{IMAGE}" perRegion="true" editable="true"/>\n'
    yield "</View>\n"


def _quoted(text: str) -> str:
    return quoteattr(text, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _results(image: ImageRecord, altered: Altered, answers: dict[str, None]) -> Iterator[dict[str, Any]]:
    for number, shape in enumerate(image.marks, start=1):
        held = _held(shape, image, altered)
        if held is None:
            continue
        kind, value, chosen = held
        base = {"id": shape.origin or f"r{number}", "to_name": IMAGE}
        found: dict[str, Any] = {**base, "type": kind, "from_name": kind, "value": {**value, kind: chosen}}
        if shape.confidence is not None:
            found["score"] = shape.confidence
        if kind == "choices":
            if shape.attributes:
                altered.counts["attributes", Change.WITHOUT_EXTRAS] += 1
            yield found
            continue
        size = {"original_width": image.width, "original_height": image.height, "image_rotation": 0}
        meta = {"meta": {"text": [shape.attributes["meta"]]}} if "meta" in shape.attributes else {}
        yield found | size | {"origin": shape.attributes.get("origin", "manual")} | meta
        for name, text in shape.attributes.items():
            if name not in _OWN:
                answers[name] = None
                yield {**base, **size, "type": "textarea", "from_name": name, "value": {**value, "text": [text]}}


_Held = tuple[str, dict[str, Any], list[str]]


def _held(shape: Shape, image: ImageRecord, altered: Altered) -> _Held | None:
    """The kind, value and class of a region; None for a shape without an equivalent region, which is counted."""
    if shape.kind is Kind.TAG:
        return "choices", {}, [shape.label]
    if not image.width or not image.height:
        raise ValueError(f"{image.path} has no size, and positions in Label Studio are fractions of it")
    size = (image.width, image.height)
    if shape.kind is Kind.POLYGON and len(shape.rings) > 1:
        pixels = masks.of_outline(shape, size)
        altered.add(shape, Change.LEFT_OUT if pixels is None else Change.PIXELS)
        return None if pixels is None else _region(pixels, size)
    if shape.kind is Kind.MASK and not _lies_on(shape, size):
        is_there = masks.on_image(shape, *size).any()
        altered.add(shape, Change.CUT if is_there else Change.LEFT_OUT)
        return _region(shape, size) if is_there else None
    found = _region(shape, size)
    if found is None:
        altered.add(shape, Change.LEFT_OUT)
    return found


def _lies_on(shape: Shape, size: tuple[int, int]) -> bool:
    left, top, width, height = shape.coordinates[:4]
    return left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]


def _region(shape: Shape, size: tuple[int, int]) -> _Held | None:
    if shape.kind not in _KINDS:
        return None
    kind, make = _KINDS[shape.kind]
    return kind, make(shape, size), [shape.label]


def _rectangle(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    width, height, angle = shape.coordinates[2:]
    x, y = shapes.corners_of(shape)[:2] if angle % 360 else shape.coordinates[:2]
    return {**_percents({"x": x, "y": y, "width": width, "height": height}, size), "rotation": angle}


def _ellipse(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    x, y, across, down, *turned = shape.coordinates
    return {**_percents({"x": x, "y": y, "radiusX": across, "radiusY": down}, size), "rotation": sum(turned)}


def _circle(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    x, y, radius = shape.coordinates
    return {**_percents({"x": x, "y": y, "radiusX": radius, "radiusY": radius}, size), "rotation": 0}


def _outline(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    pairs = zip(shape.coordinates[::2], shape.coordinates[1::2], strict=True)
    points = [[100 * x / size[0], 100 * y / size[1]] for x, y in pairs]
    return {"points": points, "closed": shape.kind is Kind.POLYGON}


def _point(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    x, y = shape.coordinates
    return {**_percents({"x": x, "y": y}, size), "width": _POINT}


def _brush(shape: Shape, size: tuple[int, int]) -> dict[str, Any]:
    return {"format": "rle", "rle": brushes.encoded(shape, size)}


def _percents(pixels: Mapping[str, float], size: tuple[int, int]) -> dict[str, float]:
    """Convert pixels to percentages; horizontal and vertical values alternate."""
    return {name: 100 * one / size[number % 2] for number, (name, one) in enumerate(pixels.items())}


_KINDS: Mapping[Kind, tuple[str, Callable[[Shape, tuple[int, int]], dict[str, Any]]]] = {
    Kind.RECTANGLE: ("rectanglelabels", _rectangle),
    Kind.POLYGON: ("polygonlabels", _outline),
    Kind.LINE: ("polygonlabels", _outline),
    Kind.ELLIPSE: ("ellipselabels", _ellipse),
    Kind.CIRCLE: ("ellipselabels", _circle),
    Kind.POINT: ("keypointlabels", _point),
    Kind.MASK: ("brushlabels", _brush),
}
