"""Parses a JSON file of VIA, a project or an export of annotations, piece by piece, since a file has all images.

Called in a child of the sandbox, by reading.drawings. Coordinates are pixels of the upright image. People name the attributes of
regions and files themselves, so the one with the class is found by its name: see _class_of.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from pelagos_pipelines.annotations import drawings, shapes
from pelagos_pipelines.annotations.drawings import MAX_TEXT, Drawings, Drawn, OtherKindError
from pelagos_pipelines.annotations.model import split_of
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

_PROJECT = "_via_img_metadata"
"""The member of a project with its images. An export is only the content of this member."""
_ENTRY = frozenset({"filename", "regions"})
"""Members by which the entry of an image is recognised."""
_LOOKED_AT = 100_000
"""Most parts of JSON that are read to recognise a file."""
_CLASS = "class"
_USUAL = frozenset({"class name", "class_name", "label", "species", "taxon", "category", "object", "name", "type"})
"""Usual names of the attribute with the class, in lower case."""
_SPLITS = frozenset({"split", "subset"})
_Object = Mapping[str, Any]


def _read(found: Drawings, file: BinaryIO) -> None:
    try:
        prefix = _prefix(file)
    except ValueError as error:
        raise invalid(f"{found.where} is not valid JSON: export it again") from error
    if prefix is None:
        raise OtherKindError
    named = _Named()
    for _, entry in drawings.members(found, file, prefix):
        named.note(entry)
    region, tag = _class_of(named.regions), _usual(named.files)
    if region is None and len(named.regions) > 1:
        raise invalid(
            f"{found.where}: regions have {len(named.regions)} attributes, of which it is not clear which one has the class: "
            f"rename that one to {_CLASS}"
        )
    if prefix and region is not None:
        for option, _ in drawings.members(found, file, f"_via_attributes.region.{region}.options"):
            if option.strip():
                found.declare(option, "_via_attributes")
    images = _Images(found, region, tag)
    for number, (_, entry) in enumerate(drawings.members(found, file, prefix)):
        with found.faults.noting():
            images.take(f"image {number} (counted from 0)", entry)


def _prefix(file: BinaryIO) -> str | None:
    """The member with the entries of images, empty for the whole file; None for a file of another kind."""
    events = drawings.events(file)
    if next(events, (None, None))[0] != "start_map":
        return None
    name = next(events, (None, None))[1]
    if isinstance(name, str) and name.startswith("_via_"):
        return _PROJECT
    depth, met = 0, set[object]()
    for event, value in islice(events, _LOOKED_AT):
        if depth == 1 and event == "map_key":
            met.add(value)
        depth += event.startswith("start_") - event.startswith("end_")
        if met >= _ENTRY:
            return ""
        if not depth:  # the first entry is over
            break
    return None


def _is_one(file: BinaryIO) -> bool:
    return _prefix(file) is not None


class _Named:
    """The names of the attributes that have a value in a file, of regions and of files."""

    def __init__(self) -> None:
        self.regions: dict[str, None] = {}
        self.files: dict[str, None] = {}

    def note(self, entry: object) -> None:
        entry = _mapping(entry)
        self.files |= _given(entry.get("file_attributes"))
        for region in _listed(entry.get("regions")) or ():
            self.regions |= _given(_mapping(region).get("region_attributes"))


def _given(attributes: object) -> dict[str, None]:
    return {name: None for name, value in _mapping(attributes).items() if _texts(value)}


def _class_of(names: Collection[str]) -> str | None:
    """The attribute of regions with the class: the only one, otherwise by its name; None without exactly one."""
    return next(iter(names)) if len(names) == 1 else _usual(names)


def _usual(names: Collection[str]) -> str | None:
    """The attribute named class, otherwise the only one with another usual name; None without exactly one."""
    for usual in ({_CLASS}, _USUAL):
        alike = [name for name in names if name.strip().lower() in usual]
        if len(alike) == 1:
            return alike[0]
    return None


class _Images:
    """Adds the entries of images; ``region`` and ``tag`` are the attributes with the class of a region and of an image."""

    def __init__(self, found: Drawings, region: str | None, tag: str | None) -> None:
        self._found, self._region_class, self._tag = found, region, tag
        self._drawn: dict[str, bool] = {}
        """By file name, whether an entry has regions."""

    def take(self, place: str, entry: object) -> None:
        """Add an image with its regions. Raises RefusedError for anything else."""
        entry = _mapping(entry)
        regions, told = _listed(entry.get("regions")), _mapping(entry.get("file_attributes"))
        if regions is None:
            raise invalid(f"{self._found.where}: {place} has no regions, which may be an empty list: export it again")
        name = entry.get("filename")
        split = next((text for key in told if key.strip().lower() in _SPLITS for text in _texts(told[key])), "")
        image = self._found.image(_names(name), place, split=split_of(split[:MAX_TEXT]))
        # VIA tells images of one name apart by their sizes in bytes, which others rewrite and which it may not know.
        if regions and self._drawn.get(str(name)):
            raise invalid(
                f"{self._found.where}: {place} has the same filename as another image with regions: give both images and"
                " entries different names"
            )
        self._drawn[str(name)] = bool(regions) or self._drawn.get(str(name), False)
        tags = _texts(told.get(self._tag)) if self._tag is not None else []
        for tag in tags:
            self._found.shape(image, f"{place}: file_attributes", tag, lambda label: Shape(label, Kind.TAG))
        used = {self._tag, *(key for key in told if key.strip().lower() in _SPLITS and image.split is not None)}
        self._found.counted["files"] += len(_given(told).keys() - used)
        self._found.counted["empty"] += not regions and not tags
        for number, region in enumerate(regions):
            with self._found.faults.noting():
                self._region(image, f"{place}: region {number}", _mapping(region))

    def _region(self, image: Drawn, place: str, region: _Object) -> None:
        told = _mapping(region.get("region_attributes"))
        labels = _texts(told.get(self._region_class)) if self._region_class is not None else []
        if not labels:
            raise invalid(f"{self._found.where}: {place} has no class: give it one in VIA, or remove the region")
        self._found.counted["labels"] += len(labels) > 1
        others = {
            name: ", ".join(texts)
            for name, value in told.items()
            if name != self._region_class and (texts := _texts(value))
        }
        for label in labels:
            self._found.shape(image, place, label, functools.partial(_shape, region.get("shape_attributes"), others))


def _names(name: object) -> Sequence[object]:
    """The file name; of a URL also its end."""
    if isinstance(name, str) and "://" in name:
        try:
            return [name, unquote(urlsplit(name).path).rpartition("/")[2]]
        except ValueError:
            return [name]
    return [name]


def _texts(value: object) -> list[str]:
    """The values of an attribute: a text, a number, or the checked options."""
    if isinstance(value, dict):
        return [option for option, is_checked in value.items() if is_checked is True and option.strip()]
    if isinstance(value, str):
        return [value] if value.strip() else []
    return [str(value)] if type(value) in {int, float} else []


def _mapping(value: object) -> _Object:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any] | None:
    """The regions: a list, or an object that numbers them; None for anything else."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None


def _shape(told: object, attributes: Mapping[str, str], label: str) -> Shape:
    drawn = _mapping(told)
    kind = drawn.get("name")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError("a region has a shape that VIA does not define")
    return _KINDS[kind](label, drawn, {"attributes": attributes})


def _points(drawn: _Object) -> list[float]:
    xs, ys = drawn["all_points_x"], drawn["all_points_y"]
    if len(xs) != len(ys):
        raise ValueError("a region has different numbers of x and y")
    return [one for pair in zip(xs, ys, strict=True) for one in pair]


def _rect(label: str, drawn: _Object, rest: _Object) -> Shape:
    return shapes.rectangle(label, drawn["x"], drawn["y"], drawn["width"], drawn["height"], **rest)


def _circle(label: str, drawn: _Object, rest: _Object) -> Shape:
    return Shape(label, Kind.CIRCLE, (drawn["cx"], drawn["cy"], drawn["r"]), **rest)


def _ellipse(label: str, drawn: _Object, rest: _Object) -> Shape:
    """An ellipse; VIA 1 does not turn it, VIA 2 does by ``theta`` in radians, clockwise."""
    angle = math.degrees(drawn.get("theta", 0))
    return Shape(label, Kind.ELLIPSE, (drawn["cx"], drawn["cy"], drawn["rx"], drawn["ry"], angle), **rest)


def _polygon(label: str, drawn: _Object, rest: _Object) -> Shape:
    return shapes.polygon(label, _points(drawn), **rest)


def _polyline(label: str, drawn: _Object, rest: _Object) -> Shape:
    return Shape(label, Kind.LINE, tuple(_points(drawn)), **rest)


def _point(label: str, drawn: _Object, rest: _Object) -> Shape:
    return Shape(label, Kind.POINT, (drawn["cx"], drawn["cy"]), **rest)


_KINDS: Mapping[str, Callable[[str, _Object, _Object], Shape]] = {
    "rect": _rect,
    "circle": _circle,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "polyline": _polyline,
    "point": _point,
}
parse = drawings.task(_read)
is_one = drawings.question(_is_one)
