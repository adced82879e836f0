"""Writes a version as a task of CVAT for images 1.1: annotations.xml and images/, like CVAT's own exports.

To import it, create a task from the images with the labels of ``cvat-labels.json`` (paste them into the page's "Raw" editor), and
upload annotations.xml. CVAT's polygons have one piece without holes: other polygons become masks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import orjson

from pelagos_contract.dataset import Change
from pelagos_contract.splits import Split
from pelagos_pipelines.annotations import linking, masks
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.cvat_document import OWN, TAKEN
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape

_SUBSETS: Mapping[Split, str] = {"train": "Train", "validation": "Validation", "test": "Test"}
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot represent."""
_WHOLE = re.compile(r"-?[1-9][0-9]{0,8}", re.ASCII)
_IN_QUOTES = {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> Altered:
    """Write ``annotations.xml``, ``images/`` and ``cvat-labels.json``."""
    names, altered = linking.numbered(collection.images), Altered()
    (target / "images").mkdir(parents=True)
    labels = _labels(collection)
    with (target / "annotations.xml").open("w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        file.writelines(_meta(len(collection.images), labels))
        for number, image in enumerate(collection.images):
            linking.show(blobs, image.path, target / "images" / names[image.path])
            file.writelines(_image(number, names[image.path], image, altered))
        file.write("</annotations>\n")
    (target / "cvat-labels.json").write_bytes(orjson.dumps(labels, option=orjson.OPT_INDENT_2))
    return altered


def _labels(collection: Collection) -> list[dict[str, object]]:
    """The classes with the names of their attributes and key points, in CVAT's form."""
    attributes: dict[str, dict[str, None]] = {name: {} for name in collection.classes}
    points: dict[str, dict[str, None]] = {}
    for image in collection.images:
        for shape in image.marks:
            attributes[shape.label].update(dict.fromkeys(name for name, _ in _people(shape)))
            if _is_skeleton(shape):
                points.setdefault(shape.label, {}).update(dict.fromkeys(_names(shape)))
    return [
        {
            "name": _text(name),
            "type": "skeleton" if name in points else "any",
            "attributes": [
                {"name": _text(one), "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
                for one in attributes[name]
            ],
            **(
                {"sublabels": [{"name": _text(one), "type": "points"} for one in points[name]]}
                if name in points
                else {}
            ),
        }
        for name in collection.classes
    ]


def _meta(size: int, labels: Iterable[Mapping[str, object]]) -> Iterator[str]:
    yield f"  <meta>\n    <task>\n      <size>{size}</size>\n      <mode>annotation</mode>\n      <labels>\n"
    for label in labels:
        yield from _label(label, "")
        subordinate = label.get("sublabels", ())
        assert isinstance(subordinate, list | tuple)
        for point in subordinate:
            yield from _label(point, f"<parent>{_content(str(label['name']))}</parent>")
    yield "      </labels>\n    </task>\n  </meta>\n"


def _label(label: Mapping[str, object], parent: str) -> Iterator[str]:
    yield f"        <label><name>{_content(str(label['name']))}</name><type>{label['type']}</type><attributes>"
    attributes = label.get("attributes", ())
    assert isinstance(attributes, list | tuple)
    for one in attributes:
        yield (
            f"<attribute><name>{_content(one['name'])}</name><mutable>False</mutable><input_type>text</input_type>"
            "<default_value></default_value><values></values></attribute>"
        )
    yield f"</attributes>{parent}</label>\n"


def _image(number: int, name: str, image: ImageRecord, altered: Altered) -> Iterator[str]:
    subset = "" if image.split is None else f' subset="{_SUBSETS[image.split]}"'
    yield f'  <image id="{number}" name="{name}" width="{image.width or 0}" height="{image.height or 0}"{subset}>\n'
    for mark in image.marks:
        shape = _held(mark, image, altered)
        if shape is None:
            continue
        if shape.confidence is not None:
            altered.counts["confidence", Change.WITHOUT_EXTRAS] += 1
        yield from _mark(shape)
    yield "  </image>\n"


def _held(shape: Shape, image: ImageRecord, altered: Altered) -> Shape | None:
    """The shape in a form that CVAT supports; None if there is none, which is counted."""
    if shape.kind is Kind.CIRCLE:
        x, y, radius = shape.coordinates
        return replace(shape, kind=Kind.ELLIPSE, coordinates=(x, y, radius, radius, 0.0))
    if shape.kind is Kind.POLYGON and len(shape.rings) > 1:
        held = masks.of_outline(shape, (image.width, image.height)) if image.width and image.height else None
        altered.add(shape, Change.LEFT_OUT if held is None else Change.PIXELS)
        return held
    return shape


def _mark(shape: Shape) -> Iterator[str]:
    tag, place = _WRITERS[shape.kind](shape)
    own = {"label": _text(shape.label), "source": "manual", **place}
    if shape.kind is not Kind.TAG:
        own |= {"occluded": "0", "z_order": "0"}
    for name, (_, told) in OWN.items():
        if _is_own(name, value := shape.attributes.get(name, "")):
            own[name] = "1" if told else value
    said = " ".join(f"{name}={quoteattr(_text(value), _IN_QUOTES)}" for name, value in own.items())
    yield f"    <{tag} {said}>"
    for name, value in _people(shape):
        yield f"<attribute name={quoteattr(_text(name), _IN_QUOTES)}>{_content(value)}</attribute>"
    if tag == "skeleton":
        yield from _joints(shape)
    yield f"</{tag}>\n"


def _people(shape: Shape) -> Iterator[tuple[str, str]]:
    """The attributes that people set, by the names that they gave them, without CVAT's own."""
    for name, value in shape.attributes.items():
        if not _is_own(name, value):
            yield name.removeprefix(TAKEN), value


def _is_own(name: str, value: str) -> bool:
    """Whether this is one of CVAT's own attributes, with a value that CVAT itself uses."""
    if name not in OWN:
        return False
    plain, told = OWN[name]
    if told:
        return value == told
    return value not in {"", plain} and (name == "source" or _WHOLE.fullmatch(value) is not None)


def _joints(shape: Shape) -> Iterator[str]:
    for name, x, y, seen in zip(_names(shape), *(shape.coordinates[part::3] for part in range(3)), strict=True):
        yield (
            f'<points label={quoteattr(_text(name), _IN_QUOTES)} source="manual" outside="{int(seen == 0)}"'
            f' occluded="{int(seen == 1)}" points="{_number(x)},{_number(y)}"></points>'
        )


def _names(shape: Shape) -> tuple[str, ...]:
    """The names of key points; numbers from 1, as CVAT assigns them, where there are none."""
    return shape.points or tuple(str(number) for number in range(1, len(shape.coordinates) // 3 + 1))


def _is_skeleton(shape: Shape) -> bool:
    return shape.kind is Kind.KEY_POINTS and (bool(shape.points) or set(shape.coordinates[2::3]) != {2.0})


_Written = tuple[str, dict[str, str]]


def _box(shape: Shape) -> _Written:
    left, top, width, height, angle = shape.coordinates
    sides = {"xtl": left, "ytl": top, "xbr": left + width, "ybr": top + height}
    return "box", {name: _number(side) for name, side in sides.items()} | _turned(angle)


def _ellipse(shape: Shape) -> _Written:
    x, y, across, down, angle = shape.coordinates
    return "ellipse", {"cx": _number(x), "cy": _number(y), "rx": _number(across), "ry": _number(down)} | _turned(angle)


def _turned(angle: float) -> dict[str, str]:
    return {"rotation": _number(angle)} if angle else {}


def _mask(shape: Shape) -> _Written:
    left, top, width, height, *runs = map(int, shape.coordinates)
    sides = {"left": left, "top": top, "width": width, "height": height}
    return "mask", {"rle": ", ".join(map(str, runs)), **{name: str(side) for name, side in sides.items()}}


def _points(shape: Shape) -> _Written:
    if _is_skeleton(shape):
        return "skeleton", {}
    step = 3 if shape.kind is Kind.KEY_POINTS else 2
    pairs = zip(shape.coordinates[::step], shape.coordinates[1::step], strict=True)
    tag = {Kind.POLYGON: "polygon", Kind.LINE: "polyline"}.get(shape.kind, "points")
    return tag, {"points": ";".join(f"{_number(x)},{_number(y)}" for x, y in pairs)}


def _tag(_: Shape) -> _Written:
    return "tag", {}


_WRITERS: Mapping[Kind, Callable[[Shape], _Written]] = {
    Kind.RECTANGLE: _box,
    Kind.ELLIPSE: _ellipse,
    Kind.MASK: _mask,
    Kind.POLYGON: _points,
    Kind.LINE: _points,
    Kind.POINT: _points,
    Kind.KEY_POINTS: _points,
    Kind.TAG: _tag,
}


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _text(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)


def _content(text: str) -> str:
    return escape(_text(text), {"\r": "&#13;"})
