"""Parses an iFDO (YAML or JSON): a header, and items by the names of their files. Called in a child of the sandbox.

Coordinates are pixels from the upper left corner of the image. Source: the iFDO standard, version 2.2, on marine-imaging.com.
Annotations of version 1 have no shape; it is derived from the number of coordinates.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import ijson
from ijson.backends import yajl2_c

from pelagos_pipelines.annotations import axes, drawings, yaml_members
from pelagos_pipelines.annotations.drawings import Drawings, Drawn, OtherKindError
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

HEADER, ITEMS = "image-set-header", "image-set-items"
_LOOKED_AT = 2**18
_KEYS = re.compile(rb"""(?:^|[\n{,])\s*["']?image-set-(?:header|items)["']?\s*:""")
FILMS = {"video"}
"""Values of image-acquisition for videos."""
Object = Mapping[str, Any]


def _read(found: Drawings, file: BinaryIO) -> None:
    if not is_ifdo(file):
        raise OtherKindError
    header = _Header(found, header_of(found.where, file))
    seen: set[str] = set()
    for number, (name, item) in enumerate(items_of(found.where, file)):
        place = f"item {number} (counted from 0)"
        with found.faults.noting():
            if name in seen:
                raise invalid(f"{found.where}: {place} has the same name as an earlier one: remove one of them")
            seen.add(name)
            header.item(name, item, place)


def is_ifdo(file: BinaryIO) -> bool:
    """Whether the file has the keys of an iFDO near its start, to which it is rewound."""
    file.seek(0)
    is_ours = _KEYS.search(file.read(_LOOKED_AT)) is not None
    file.seek(0)
    return is_ours


def header_of(where: str, file: BinaryIO) -> Object:
    """The header. Raises RefusedError (FORMAT_INVALID) when there is none."""
    for key, _, value in _members(where, file):
        if key == HEADER:
            if not isinstance(value, dict):
                break
            return value
    raise invalid(f"{where} has no {HEADER} with names and values: export it again")


def items_of(where: str, file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The names of files with their items, one after the other. Raises RefusedError (FORMAT_INVALID) when there are none."""
    for key, name, value in _members(where, file):
        if key == ITEMS:
            if name is None:
                raise invalid(f"{where}: {ITEMS} is not a mapping of file names to their items: export it again")
            yield name, value


def _members(where: str, file: BinaryIO) -> Iterator[tuple[str, str | None, Any]]:
    """The top-level keys with their values, and each item with its name."""
    file.seek(0)
    first = file.read(_LOOKED_AT).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    file.seek(0)
    if first != b"{":
        yield from yaml_members.members(where, file, ITEMS)
        return
    if file.read(3) != b"\xef\xbb\xbf":
        file.seek(0)
    start = file.tell()
    try:
        for value in yajl2_c.items(file, HEADER, use_float=True):
            yield HEADER, None, value
        file.seek(start)
        for name, value in yajl2_c.kvitems(file, ITEMS, use_float=True):
            yield ITEMS, name, value
    except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
        raise invalid(f"{where} is not valid JSON: export it again") from error


class _Header:
    """The header's information for all items: names of labels and people, and defaults of items."""

    def __init__(self, found: Drawings, header: Object) -> None:
        self._found, self._header = found, header
        self._labels = _names(header.get("image-annotation-labels"))
        self._people = _names(header.get("image-annotation-creators"))
        # Two labels with the same name, such as "sp. 1" of two genera, are two classes.
        shared = {name for name, count in Counter(self._labels.values()).items() if count > 1}
        self._labels = {
            identity: f"{name} ({identity})" if name in shared else name for identity, name in self._labels.items()
        }
        for number, name in enumerate(self._labels.values()):
            with found.faults.noting():
                found.declare(name, f"image-annotation-labels[{number}]")

    def item(self, name: str, item: object, place: str) -> None:
        """Add an image and its shapes; an item may be a list of entries."""
        entries: list[Any] = item if isinstance(item, list) else [item]
        if not entries or not all(isinstance(entry, dict) for entry in entries):
            raise invalid(f"{self._found.where}: {place} is neither a mapping nor a list of mappings: export it again")
        if any(self._of(entry, "image-acquisition") in FILMS for entry in entries):
            self._found.counted["videos"] += 1
            return
        lists = [self._of(entry, "image-annotations") for entry in entries]
        image = self._found.image([name], place, is_labelled=any(one is not None for one in lists))
        listed = [
            each for one in lists for each in (one if isinstance(one, list) else [one] if one is not None else [])
        ]
        for number, each in enumerate(listed):
            where = f"{place}: image-annotations[{number}]"
            with self._found.faults.noting():
                if not isinstance(each, dict):
                    raise invalid(f"{self._found.where}: {where} is not an annotation: export it again")
                self._annotation(image, each, where)

    def _of(self, entry: Object, field: str) -> Any:
        return entry.get(field, self._header.get(field))

    def _annotation(self, image: Drawn, entry: Object, place: str) -> None:
        labels = entry.get("labels")
        if not isinstance(labels, list) or not labels:
            self._found.counted["bare"] += 1
            image.left += 1
            return
        self._found.counted["labels"] += len(labels) - 1
        for label in labels:
            known = label if isinstance(label, dict) else {}
            # The first versions of the library name it id.
            identity = _text(known.get("label", known.get("id")))
            if identity not in self._labels:
                self._found.counted["undeclared"] += 1
            name = self._labels.get(identity, identity)
            self._found.shape(image, place, name, functools.partial(_shape, entry, self._told(known)))

    def _told(self, label: Object) -> dict[str, Any]:
        annotator = _text(label.get("annotator"))
        return {"annotator": self._people.get(annotator, annotator) or None, "confidence": label.get("confidence")}


def _names(listed: object) -> dict[str, str]:
    """Names by their ids."""
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    return {_text(entry.get("id")): _text(entry.get("name")) or _text(entry.get("id")) for entry in entries}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""


def _shape(entry: Object, rest: Mapping[str, Any], label: str) -> Shape:
    confidence = rest["confidence"]
    if confidence is not None and (type(confidence) not in {int, float} or not 0 <= confidence <= 1):
        raise ValueError("an annotation has a confidence that is not a number from 0 to 1")
    numbers = _flat(entry)
    kind = entry.get("shape") or _kind_of(numbers)
    if kind not in _KINDS:
        raise ValueError("an annotation has a shape that iFDO does not define")
    return _KINDS[kind](label, numbers, {**rest, "confidence": None if confidence is None else float(confidence)})


def _flat(entry: Object) -> list[float]:
    """The coordinates of one frame, flattened from any nesting."""
    listed = entry.get("coordinates") or []
    if isinstance(listed, list) and len(listed) == 1 and isinstance(listed[0], list):
        listed = listed[0]
    if isinstance(listed, list) and listed and all(isinstance(one, dict) for one in listed):
        listed = [value for one in listed for value in (one["x"], one["y"])]
    if not isinstance(listed, list) or any(isinstance(one, list) for one in listed):
        raise ValueError("an annotation has coordinates of several frames, which only videos have")
    if not all(type(one) in {int, float} for one in listed):
        raise ValueError("an annotation has coordinates that are not a list of numbers")
    return listed


def _kind_of(numbers: Sequence[float]) -> str:
    """The shape in version 1, by the number of coordinates."""
    if len(numbers) <= 3:
        return {0: "whole-image", 2: "single-pixel", 3: "circle"}.get(len(numbers), "")
    return "polygon" if len(numbers) >= 8 and list(numbers[:2]) == list(numbers[-2:]) else "polyline"


def _plain(kind: Kind) -> Callable[[str, Sequence[float], Mapping[str, Any]], Shape]:
    return lambda label, numbers, rest: Shape(label, kind, tuple(map(float, numbers)), **rest)


_KINDS: Mapping[str, Callable[[str, Sequence[float], Mapping[str, Any]], Shape]] = {
    "single-pixel": _plain(Kind.POINT),
    "polyline": _plain(Kind.LINE),
    "circle": _plain(Kind.CIRCLE),
    "whole-image": lambda label, _, rest: Shape(label, Kind.TAG, **rest),
    "polygon": lambda label, numbers, rest: axes.polygon(label, numbers, **rest),
    "rectangle": lambda label, numbers, rest: axes.rectangle(label, numbers, **rest),
    "ellipse": lambda label, numbers, rest: axes.ellipse(label, numbers, **rest),
}
parse = drawings.task(_read)
is_one = drawings.question(is_ifdo)
