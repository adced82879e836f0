"""Parses the NDJSON of a Labelbox export line by line. Called in a child of the sandbox, by reading.drawings.

Coordinates are pixels of the upright image.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

import orjson

from pelagos_pipelines.annotations import drawings, shapes
from pelagos_pipelines.annotations.drawings import Drawings, Drawn, OtherKindError, Segment
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import class_name, invalid

MASKS = "masks"
"""The folder with masks, beside the file."""
MAX_LINE = 16 * 2**20
"""Most bytes of a data row."""
_MOST_NESTED = 20
"""Most nested questions within answers."""
_IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_Object = Mapping[str, Any]


def _read(found: Drawings, file: BinaryIO) -> None:
    for number, line in _lines(found.where, file):
        try:
            entry = orjson.loads(line)
        except ValueError as error:
            if number == 1:
                raise OtherKindError from error
            raise invalid(f"{found.where}, line {number} is not JSON: export it again") from error
        if not _is_row(entry):
            if number == 1:
                raise OtherKindError
            raise invalid(f"{found.where}, line {number} is not a data row with projects: export it again")
        with found.faults.noting():
            _Row(found, entry, f"line {number}").read()


def _lines(where: str, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if len(line) == MAX_LINE:
            raise invalid(f"{where}, line {number} is longer than {MAX_LINE} bytes: export fewer objects per image")
        if line.strip():
            yield number, line


def _is_row(entry: object) -> bool:
    return (
        isinstance(entry, dict) and isinstance(entry.get("data_row"), dict) and isinstance(entry.get("projects"), dict)
    )


def _is_one(file: BinaryIO) -> bool:
    return _is_row(orjson.loads(file.readline(MAX_LINE)))


class _Row:
    """A data row: an image and its only label of a project."""

    def __init__(self, found: Drawings, entry: _Object, place: str) -> None:
        self._found, self._entry, self._place = found, entry, place

    def read(self) -> None:
        """Add the image with its shapes."""
        media = _mapping(self._entry.get("media_attributes"))
        kind = media.get("mime_type")
        if isinstance(kind, str) and not kind.startswith("image/"):
            self._found.counted["videos"] += 1
            return
        row = _mapping(self._entry["data_row"])
        self._names = _names(row)
        self._size = media.get("width"), media.get("height")
        label = self._label()
        image = self._found.image(self._names, self._place, self._size, is_labelled=label is not None)
        if label is None:
            return
        annotations = _mapping(label.get("annotations"))
        self._found.counted["relations"] += len(_listed(annotations.get("relationships")))
        rest: dict[str, Any] = {"annotator": _person(label)}
        for number, each in enumerate(_listed(annotations.get("objects"))):
            self._object(image, f"{self._place}: object {number} (counted from 0)", _mapping(each), rest)
        for number, each in enumerate(_listed(annotations.get("classifications"))):
            place = f"{self._place}: classification {number} (counted from 0)"
            for question, answer in self._answers(_mapping(each), place):
                attributes = {"question": question} if question else {}
                make = functools.partial(Shape, kind=Kind.TAG, attributes=attributes, **rest)
                self._found.shape(image, place, answer, make)

    def _label(self) -> _Object | None:
        """The only label; None without one. Raises RefusedError when there are several, which would be ambiguous."""
        labelled = {
            project: labels
            for project, entry in self._entry["projects"].items()
            if (labels := _listed(_mapping(entry).get("labels")))
        }
        if len(labelled) > 1:
            raise invalid(
                f"{self._found.where}: {self._place} has labels of {len(labelled)} projects, of which one must be chosen: export"
                " the data rows of one project"
            )
        for labels in labelled.values():
            if len(labels) > 1:
                raise invalid(
                    f"{self._found.where}: {self._place} has {len(labels)} labels of one project, as with consensus and "
                    "benchmarks, of which one must be chosen: export only the winner, or archive the others"
                )
            return _mapping(labels[0])
        return None

    def _object(self, image: Drawn, place: str, entry: _Object, rest: Mapping[str, Any]) -> None:
        attributes: dict[str, str] = {}
        for number, each in enumerate(_listed(entry.get("classifications"))):
            for question, answer in self._answers(_mapping(each), f"{place}: classification {number}"):
                name = question or "answer"
                attributes[name] = f"{attributes[name]}, {answer}" if name in attributes else answer
        identity = entry.get("feature_id")
        if {"mask", "composite_mask"} & entry.keys():
            if not isinstance(identity, str) or not _IDENTITY.fullmatch(identity):
                raise invalid(f"{self._found.where}: {place} is a mask without a feature_id: export it again")
            label = class_name(entry.get("name"), f"{self._found.where}: {place}: class")
            self._found.declare(label, place)
            mask = self._found.image(self._names, place, self._size)
            mask.picture, mask.segments = f"{MASKS}/{identity}.png", [Segment(0, label, is_thing=True, is_crowd=False)]
            return
        told = dict(rest) | {"attributes": attributes, "origin": identity if isinstance(identity, str) else None}
        self._found.shape(image, place, entry.get("name"), functools.partial(_shape, entry, told))

    def _answers(self, entry: _Object, place: str, depth: int = 0) -> Iterator[tuple[str, str]]:
        """Each question with each chosen answer, including nested questions of answers."""
        if depth > _MOST_NESTED:
            raise invalid(f"{self._found.where}: {place} has more than {_MOST_NESTED} questions within each other")
        question = entry.get("name")
        chosen = [_mapping(entry.get("radio_answer")), *map(_mapping, _listed(entry.get("checklist_answers")))]
        if "text_answer" in entry:
            self._found.counted["texts"] += 1
        for answer in chosen:
            if isinstance(answer.get("name"), str):
                yield question if isinstance(question, str) else "", answer["name"]
            for each in _listed(answer.get("classifications")):
                yield from self._answers(_mapping(each), place, depth + 1)


def _names(row: _Object) -> Sequence[object]:
    """The image's names given by people, then the end of its URL."""
    place = row.get("row_data")
    found = [row.get("external_id"), row.get("global_key")]
    if isinstance(place, str):
        try:
            found.append(unquote(urlsplit(place).path).rpartition("/")[2])
        except ValueError:
            found.append(None)
    return [name for name in found if name]


def _person(label: _Object) -> str | None:
    created = _mapping(label.get("label_details")).get("created_by")
    return created if isinstance(created, str) else None


def _mapping(value: object) -> _Object:
    return value if isinstance(value, dict) else {}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _shape(entry: _Object, rest: Mapping[str, Any], label: str) -> Shape:
    for key, make in _KINDS.items():
        if key in entry:
            return make(label, entry[key], rest)
    raise ValueError("an object has a kind that is not supported")


def _box(label: str, value: Any, rest: Mapping[str, Any]) -> Shape:
    return shapes.rectangle(label, value["left"], value["top"], value["width"], value["height"], **rest)


def _flat(value: Any) -> list[float]:
    return [one for point in value for one in (point["x"], point["y"])]


_KINDS: Mapping[str, Callable[[str, Any, Mapping[str, Any]], Shape]] = {
    "bounding_box": _box,
    "polygon": lambda label, value, rest: shapes.polygon(label, _flat(value), **rest),
    "point": lambda label, value, rest: Shape(label, Kind.POINT, (value["x"], value["y"]), **rest),
    "line": lambda label, value, rest: Shape(label, Kind.LINE, tuple(_flat(value)), **rest),
}
parse = drawings.task(_read)
is_one = drawings.question(_is_one)
