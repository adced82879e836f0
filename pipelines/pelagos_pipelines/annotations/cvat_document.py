"""Parses a file of CVAT for images 1.1: classes, images, and their shapes.

Called in a child of the sandbox, by reading.drawings. The XML is streamed without building a tree. A document type is refused,
and with it all custom entities. Coordinates are pixels from the upper left corner; boxes and ellipses are turned about their
centre, in degrees, clockwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO
from xml.parsers import expat

from pelagos_pipelines.annotations import drawings, kinds, masks, model, shapes
from pelagos_pipelines.annotations.drawings import MAX_NAME, MAX_TEXT, Drawings, Drawn, OtherKindError
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

MAX_DEPTH = 32
_PIECE = 1 << 18
_ROOT = "annotations"
_IMAGES = kinds.READABLE | kinds.OTHER
_BEGINNINGS = frozenset({"version", "meta", "image", "track"})
"""Elements with which the root element may begin."""
_IMAGE = (_ROOT, "image")
_META = (_ROOT, "meta")
_LABEL = ("labels", "label")
OWN: Mapping[str, tuple[str, str]] = {
    "occluded": ("0", "true"),
    "source": ("manual", ""),
    "z_order": ("0", ""),
    "group_id": ("0", ""),
}
"""CVAT's own attributes of a shape: the default value, which is not recorded, and the text that replaces other values, if any."""
TAKEN = "attribute."
"""Prefix for a user's attribute with the name of one of CVAT's own."""


class _AnswerError(Exception):
    """Stops the parser after recognition; its argument is whether the file is one of CVAT."""


def _read(found: Drawings, file: BinaryIO) -> None:
    reader = _Reader(found)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse_type
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.EndElementHandler = reader.end
    try:
        while piece := file.read(_PIECE):
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        place = f", in line {error.lineno}" if isinstance(error, expat.ExpatError) else ""
        raise invalid(f"{found.where} is not well-formed XML{place}: export it again") from error


def _is_one(file: BinaryIO) -> bool:
    """Whether its first elements are those of CVAT, in any encoding."""
    path: list[str] = []

    def start(name: str, _: object) -> None:
        path.append(name)
        if path[0] != _ROOT or len(path) == 2:
            raise _AnswerError(path[0] == _ROOT and path[1] in _BEGINNINGS)

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    try:
        while piece := file.read(_PIECE):
            parser.Parse(piece, False)
    except _AnswerError as answer:
        return bool(answer.args[0])
    except (expat.ExpatError, LookupError):
        return False
    return False


class _Reader:
    """Handles the elements of the XML stream."""

    def __init__(self, found: Drawings) -> None:
        self._found = found
        self._path: tuple[str, ...] = ()
        self._text: list[str] = []
        self._length = 0
        self._images = 0
        self._image: Drawn | None = None
        self._marks = 0
        self._mark: Mapping[str, str] = {}
        """The XML attributes of the current shape."""
        self._said: dict[str, str] = {}
        """Its attributes that people set."""
        self._named = ""
        """The name of the attribute that is being read."""
        self._joints: list[Mapping[str, str]] = []
        """The points of a skeleton."""
        self._label: dict[str, str] = {}
        self._subset = ""
        """The task's subset, for images that do not have their own."""

    def refuse_type(self, *_: object) -> None:
        raise invalid(
            f"{self._found.where} declares a document type, which annotations do not need and which is never read: remove the "
            "line that begins with <!DOCTYPE"
        )

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._path = path = (*self._path, name)
        self._text, self._length = [], 0
        if path[0] != _ROOT:
            raise OtherKindError
        if len(path) > MAX_DEPTH:
            raise invalid(f"{self._found.where} has elements nested more than {MAX_DEPTH} levels deep: export it again")
        if path == (_ROOT, "track"):
            raise invalid(
                f"{self._found.where} is CVAT for video, whose tracks span frames: export it as CVAT for images 1.1, in which "
                "each frame is an image with its own shapes"
            )
        if path == _IMAGE:
            self._begin_image(attributes)
        elif path[:2] == _IMAGE:
            self._begin_in_image(path[2:], attributes)
        elif path[-2:] == _LABEL:
            self._label = {}

    def text(self, text: str) -> None:
        self._length += len(text)
        if self._length <= MAX_TEXT:
            self._text.append(text)

    def end(self, name: str) -> None:
        path, self._path = self._path, self._path[:-1]
        value, self._text = "".join(self._text), []
        if path == _IMAGE:
            self._image = None
        elif path[:2] == _IMAGE:
            if len(path) == 3 and self._image is not None:
                self._take_mark(name, self._image)
            elif len(path) == 4 and name == "attribute":
                self._said[self._named] = value
        elif path == (*_META, "task", "subset"):
            self._subset = value.strip() or self._subset
        elif path[:2] == _META and path[-3:-1] == _LABEL:
            self._label[name] = value.strip()
        elif path[:2] == _META and path[-2:] == _LABEL and "parent" not in self._label:
            # Points of a skeleton are labels with a parent, not classes.
            with self._found.faults.noting():
                self._found.declare(self._label.get("name"), f"meta: label {len(self._found.classes)}: name")

    def _begin_image(self, attributes: Mapping[str, str]) -> None:
        where = f"image {self._images} (counted from 0)"
        self._images += 1
        self._marks = 0
        name, subset = attributes.get("name", ""), attributes.get("subset") or self._subset
        # Datumaro writes one file per subset, named after it.
        split = model.split_of((subset or self._found.where.rpartition("/")[2].removesuffix(".xml"))[:MAX_TEXT])
        # A project's images are in a folder per subset, and two subsets may have images of the same name.
        folders = [f"images/{subset}/", f"{subset}/"] if 0 < len(subset) <= MAX_TEXT else []
        # Video frames have names without a suffix, but are exported as files with one.
        ends = ("",) if model.suffix(name) in _IMAGES else ("", ".PNG", ".png", ".jpg")
        places = [f"{folder}{name}" for folder in (*folders, "images/", "")] if 0 < len(name) < MAX_NAME else []
        names = [f"{place}{end}" for place in places for end in ends]
        size = (_side(attributes.get("width")), _side(attributes.get("height")))
        with self._found.faults.noting():
            self._image = self._found.image(names, where, size, split=split)

    def _begin_in_image(self, path: Sequence[str], attributes: Mapping[str, str]) -> None:
        if len(path) == 1:
            self._mark, self._said, self._joints = attributes, {}, []
        elif path[-1] == "attribute" and len(path) == 2:
            name = attributes.get("name", "")[:MAX_TEXT]
            self._named = f"{TAKEN}{name}" if name in OWN or name.startswith(TAKEN) else name
        elif path == ("skeleton", "points"):
            self._joints.append(attributes)

    def _take_mark(self, kind: str, image: Drawn) -> None:
        place = f"{image.place}: annotation {self._marks} ({kind if kind in _MAKERS else 'other'})"
        self._marks += 1
        make = _MAKERS.get(kind)
        if make is None:
            self._found.passed_over(image, "cuboids" if kind == "cuboid" else "others")
            return
        mark, joints, extras = self._mark, self._joints, _extras(self._mark, self._said)
        self._found.shape(image, place, mark.get("label"), lambda label: make(label, mark, joints, extras))


def _extras(mark: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    """All attributes of a shape beside its class and coordinates."""
    own = {
        name: told or mark[name]
        for name, (plain, told) in OWN.items()
        if mark.get(name, plain) not in {plain, ""}  # a missing attribute, as from older servers, has its default
    }
    return own | dict(said)


_Mark = Mapping[str, str]
_Maker = Callable[[str, _Mark, Sequence[_Mark], Mapping[str, str]], Shape]


def _box(label: str, mark: _Mark, _: object, extras: Mapping[str, str]) -> Shape:
    left, top, right, bottom = (_number(mark.get(side)) for side in ("xtl", "ytl", "xbr", "ybr"))
    angle = _number(mark.get("rotation", "0"))
    return shapes.rectangle(label, left, top, right - left, bottom - top, angle, attributes=extras)


def _ellipse(label: str, mark: _Mark, _: object, extras: Mapping[str, str]) -> Shape:
    numbers = [_number(mark.get(name)) for name in ("cx", "cy", "rx", "ry")]
    return Shape(label, Kind.ELLIPSE, (*numbers, _number(mark.get("rotation", "0"))), attributes=extras)


def _polygon(label: str, mark: _Mark, _: object, extras: Mapping[str, str]) -> Shape:
    return shapes.polygon(label, _points(mark), attributes=extras)


def _polyline(label: str, mark: _Mark, _: object, extras: Mapping[str, str]) -> Shape:
    return Shape(label, Kind.LINE, tuple(_points(mark)), attributes=extras)


def _several(label: str, mark: _Mark, _: object, extras: Mapping[str, str]) -> Shape:
    """One point, or several points of one object."""
    flat = _points(mark)
    if len(flat) == 2:
        return Shape(label, Kind.POINT, tuple(flat), attributes=extras)
    seen = [value for x, y in zip(flat[::2], flat[1::2], strict=True) for value in (x, y, 2.0)]
    return Shape(label, Kind.KEY_POINTS, tuple(seen), attributes=extras)


def _skeleton(label: str, _: _Mark, joints: Sequence[_Mark], extras: Mapping[str, str]) -> Shape:
    """Named key points; those outside of the image count as not marked."""
    found: list[float] = []
    for joint in joints:
        if joint.get("outside", "0") == "1":
            found += (0.0, 0.0, 0.0)
            continue
        x, y = _points(joint)
        found += (x, y, 1.0 if joint.get("occluded", "0") == "1" else 2.0)
    names = tuple(joint.get("label", "")[:MAX_TEXT] for joint in joints)
    return Shape(label, Kind.KEY_POINTS, tuple(found), points=names, attributes=extras)


def _mask(label: str, mark: _Mark, _: object, extras: Mapping[str, str]) -> Shape:
    left, top, width, height = (int(_plain(mark.get(side, ""))) for side in ("left", "top", "width", "height"))
    runs = [int(run) for run in _plain(mark.get("rle", "")).split(",")]
    return masks.of_rows(label, runs, (left, top, width, height), attributes=extras)


def _tag(label: str, _: _Mark, __: object, extras: Mapping[str, str]) -> Shape:
    return Shape(label, Kind.TAG, attributes=extras)


_MAKERS: Mapping[str, _Maker] = {
    "box": _box,
    "ellipse": _ellipse,
    "polygon": _polygon,
    "polyline": _polyline,
    "points": _several,
    "skeleton": _skeleton,
    "mask": _mask,
    "tag": _tag,
}


def _points(mark: _Mark) -> list[float]:
    """Coordinates from ``x,y;x,y``. Raises ValueError for anything else."""
    found: list[float] = []
    for pair in _plain(mark.get("points", "")).split(";"):
        x, y = pair.split(",")
        found += (float(x), float(y))
    return found


def _number(text: str | None) -> float:
    """A number. Raises ValueError if it is not one; shapes.problem reports values that are not finite."""
    return float(_plain(text or "-"))


def _plain(text: str) -> str:
    if "_" in text:  # Python's float() would accept underscores
        raise ValueError("numbers")
    return text


def _side(text: str | None) -> float | None:
    """A number of pixels; NaN for an invalid one, so that it is refused with its place."""
    if not text:
        return None
    try:
        return _number(text)
    except ValueError:
        return math.nan


parse = drawings.task(_read)
is_one = drawings.question(_is_one)
