"""Parses a Pascal VOC file: one image, and the boxes of its objects.

Called in a child of the sandbox by parsers.py. The XML is streamed without building a tree. A document type is refused, and with
it all custom entities: nothing is expanded or fetched.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.untrusted_input import class_name, invalid, too_many

MAX_DEPTH = 32
MAX_TEXT = 4096
"""Most characters of one value."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_ROOT = "annotation"
_OBJECT = (_ROOT, "object")
_FLAGS: Mapping[tuple[str, ...], str] = {(*_OBJECT, flag): flag for flag in ("difficult", "truncated", "occluded")}
_PARTS: Mapping[tuple[str, ...], str] = {
    (*_OBJECT, "part"): "parts",
    (*_OBJECT, "polygon"): "polygons",
    (*_OBJECT, "attributes"): "attributes",
}
_ROTATED = (*_OBJECT, "robndbox")
_LARGEST = 2**31
"""Bound of an image's side in pixels; no image is that large."""


@dataclass
class Document:
    """One file. A box is an index of ``names`` and left, top, width and height in pixels.

    ``counted`` are objects with a flag, or with elements that are not read; ``boxless`` are those without a box.
    """

    file_name: str = ""
    width: int | None = None
    height: int | None = None
    is_of_the_challenge: bool = False
    """Whether its coordinates are pixel numbers, which begin at 1 and include the last pixel."""
    names: list[str] = field(default_factory=list)
    boxes: list[tuple[int, float, float, float, float]] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)


class _OtherKindError(Exception):
    """The root element is not that of Pascal VOC."""


class _FirstError(Exception):
    """Stops the parser at the first element, with its name."""


def is_one(content: bytes) -> bool:
    """Whether the root element is that of Pascal VOC, in any encoding; faults are left to ``read``."""
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = parser.StartElementHandler = _stop
    try:
        parser.Parse(content, True)
    except _FirstError as first:
        return str(first).lower() == _ROOT
    except (expat.ExpatError, LookupError, ValueError):
        return False
    return False


def _stop(name: str, *_: object) -> None:
    raise _FirstError(name)


def read(where: str, content: bytes, faults: Faults, limit: int) -> Document | None:
    """Parse the document; None for XML of another kind. Faults of its objects are added to ``faults``.

    Raises:
        RefusedError: FORMAT_INVALID when it is not XML, or has more than ``limit`` objects.
    """
    reader = _Reader(where, faults, limit)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.refuse_type
    parser.StartElementHandler = reader.start
    parser.CharacterDataHandler = reader.text
    parser.EndElementHandler = reader.end
    try:
        parser.Parse(content, True)
    except _OtherKindError:
        return None
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        place = f", in line {error.lineno}" if isinstance(error, expat.ExpatError) else ""
        raise invalid(f"{where} is not well-formed XML{place}: export it again") from error
    return reader.document


class _Reader:
    """Handles the elements of the XML stream."""

    def __init__(self, where: str, faults: Faults, limit: int) -> None:
        self.document = Document()
        self._where, self._faults, self._limit = where, faults, limit
        self._path: tuple[str, ...] = ()
        self._text: list[str] = []
        self._length = 0
        self._numbers: dict[str, int] = {}
        self._objects = 0
        self._values: dict[str, str] = {}
        """The current object's name, sides and flags."""
        self._is_double = False
        """Whether the current object has two names or boxes."""

    def refuse_type(self, *_: object) -> None:
        raise invalid(
            f"{self._where} declares a document type, which annotations do not need and which is never read: remove the line "
            "that begins with <!DOCTYPE"
        )

    def start(self, name: str, _: object) -> None:
        self._path = (*self._path, name.lower())
        self._text, self._length = [], 0
        if self._path[0] != _ROOT:
            raise _OtherKindError
        if len(self._path) > MAX_DEPTH:
            raise invalid(f"{self._where} has elements nested more than {MAX_DEPTH} levels deep: export it again")
        if self._path[-1] == _OBJECT[-1] and self._path != _OBJECT:
            raise invalid(f"{self._where} has an object outside of the first element: export it again")
        if self._path == _OBJECT:
            self._values, self._is_double = {}, False
            self._objects += 1
            if self._objects > self._limit:
                raise too_many(self._where, self._limit)
        elif (kind := _PARTS.get(self._path)) is not None:
            self.document.counted[kind] += 1
        elif self._path == _ROTATED:
            self._values["rotated"] = "1"

    def text(self, text: str) -> None:
        self._length += len(text)
        if self._length <= MAX_TEXT:
            self._text.append(text)

    def end(self, _: str) -> None:
        path, self._path = self._path, self._path[:-1]
        if path == _OBJECT:
            with self._faults.noting():
                self._take_object()
            return
        # Mixed content, such as text around an element, is not a value.
        value, self._text = ("" if self._length > MAX_TEXT else "".join(self._text).strip()), []
        if path[:2] == _OBJECT:
            if path == (*_OBJECT, "name") or path[2:-1] == ("bndbox",):
                self._is_double |= path[-1] in self._values
                self._values[path[-1]] = value
            elif path in _FLAGS:
                self._values[_FLAGS[path]] = value
        elif path == (_ROOT, "filename"):
            self.document.file_name = value
        elif path in {(_ROOT, "size", "width"), (_ROOT, "size", "height")}:
            with self._faults.noting():
                setattr(self.document, path[-1], self._side(path[-1], value))
        elif path == (_ROOT, "source", "database"):
            # The challenge's own files say "The VOC2012 Database".
            self.document.is_of_the_challenge = value.lower().startswith("the voc")

    def _side(self, name: str, value: str) -> int | None:
        """A side of the image; None for 0, which labelImg writes for an unknown size."""
        number = _number(value)
        if number is None or not 0 <= number < _LARGEST or number != int(number):
            raise invalid(f"{self._where}: size.{name} is not a whole number of pixels: correct it, or remove size")
        return int(number) or None

    def _take_object(self) -> None:
        place, values, counted = f"{self._where}: object {self._objects}", self._values, self.document.counted
        if self._is_double:
            raise invalid(f"{place} has more than one name or bndbox: create an object for each box")
        label = class_name(values.get("name"), f"{place}: name")
        for flag in _FLAGS.values():
            counted[flag] += values.get(flag, "").lower() in {"1", "true", "yes"}
        if not any(side in values for side in _SIDES):
            counted["rotated" if "rotated" in values else "boxless"] += 1
            return
        corners = [_number(values.get(side, "")) for side in _SIDES]
        if None in corners:
            raise invalid(f"{place} has a bndbox whose xmin, ymin, xmax and ymax are not four numbers: correct it")
        left, top, right, bottom = (corner for corner in corners if corner is not None)
        number = self._numbers.setdefault(label, len(self._numbers))
        if number == len(self.document.names):
            self.document.names.append(label)
        self.document.boxes.append((number, left, top, right - left, bottom - top))


def _number(text: str) -> float | None:
    """A finite decimal number; None for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    # Python's float() would accept underscores.
    return number if math.isfinite(number) and "_" not in text else None
