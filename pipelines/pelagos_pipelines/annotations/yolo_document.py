"""Parses YOLO's files in a child of the sandbox: data.yaml, the lines of text files, and the rows of label files.

Called by the tasks ``settings``, ``lines`` and ``labels`` in parsers.py. A fault names its file, its line and, if that is a
number, the value; text of the file is never repeated.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml
from typing_extensions import override

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import keypoints, outlines
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import split_of
from pelagos_pipelines.annotations.untrusted_input import MAX_CLASSES, class_name, invalid, is_composed, too_many
from pelagos_pipelines.sandbox import Answer

MAX_DEPTH = 16
"""Most levels of data.yaml, which has 2. The caller limits its size; this limits what few bytes can do to a parser."""
MAX_NODES = 50_000
"""Most keys and values in data.yaml."""
MAX_POINTS = 10_000
"""Most key points of an object."""
_BOX_COLUMNS = 5
_LONGEST_ID = 9
_ID = re.compile(rf"[0-9]{{1,{_LONGEST_ID}}}")
"""The number of a class as text, as some tools write it."""
_SPLITS = ("train", "val", "test")
_MAX_OTHERS = 100
"""Most paths under other keys that are considered."""
_INTEGER = r"^[-+]?(?:0|[1-9][0-9]{0,17})$"
_FARTHEST = 0.5
"""How far outside of the image a coordinate may be, as a fraction of it, to be accepted here; cleaning checks the edges later."""


def text_of(where: str, content: bytes) -> str:
    """Decode a text file.

    Raises:
        RefusedError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"{where} is not UTF-8 text; save it as UTF-8") from error


def lines_of(text: str) -> list[str]:
    """The lines as editors number them; ``splitlines`` would also split at characters that names may contain."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


# --- data.yaml


class _Loader(yaml.SafeLoader):
    """Plain mappings, lists and scalars: no aliases (a few lines can expand to gigabytes), tags, deep nesting or duplicate keys.

    Only the scalar types that data.yaml needs are recognised: unlike in YAML 1.1, ``59:59`` is not a number, and ``no`` is not a
    truth value.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - filled below, as in the base class
    depth = 0
    nodes = 0

    @override
    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        self.depth += 1
        self.nodes += 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem_mark=event.start_mark)
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem_mark=event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    @override
    def flatten_mapping(self, node: Any) -> None:
        """Treat ``<<`` like any key, and refuse duplicate keys, of which PyYAML would silently take the last."""
        seen = set()
        for key, _ in node.value:
            identity = key.tag, key.value if isinstance(key.value, str) else None
            if identity in seen:
                raise _TwiceError(problem_mark=key.start_mark)
            seen.add(identity)


class _TwiceError(yaml.MarkedYAMLError):
    """A mapping has a duplicate key."""


def _make_resolvers() -> None:
    _Loader.yaml_implicit_resolvers = {}
    for tag, expression, first in (
        ("null", r"^(?:~|null|)$", ["~", "n", ""]),
        ("bool", r"^(?:true|false)$", list("tf")),
        ("int", _INTEGER, list("-+0123456789")),
        ("float", r"^[-+]?[0-9]{1,18}\.[0-9]{0,18}$", list("-+0123456789")),
    ):
        _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(expression), first)


_make_resolvers()


def settings(where: str, content: bytes) -> dict[str, Any]:
    """``names``, those that are ``recomposed``, the entries of each split, ``points`` (kpt_shape), ``path``, and ``faults``.

    ``splits`` has the entries by key, which may be any word for a split; ``others`` are texts under other keys. Invalid names are
    replaced, so that labels can be read and checked too.
    Raises:
        RefusedError: it is not YAML.
    """
    found = _yaml(where, text_of(where, content))
    faults = Faults()
    written: list[Any] | None = None
    with faults.noting():
        written = _written(where, found)
        if "nc" in found and found["nc"] != len(written):
            told = f", {found['nc']}," if type(found["nc"]) is int else ""
            raise invalid(f"{where}: nc{told} is not the number of names, {len(written)}: correct one of them")
    # If the names are invalid as a whole, rows may have any class, so that unnamed classes are not further faults.
    names = [f"class {number}" for number in range(MAX_CLASSES if written is None else len(written))]
    for index, name in enumerate(written or ()):
        with faults.noting():
            names[index] = class_name(name, f"{where}: names[{index}]")
    recomposed = [index for index, name in enumerate(written or ()) if isinstance(name, str) and not is_composed(name)]
    splits: dict[str, list[Any]] = {}
    for key, value in found.items():
        if not _is_split(key, value):
            continue
        entries: list[Any] = value if isinstance(value, list) else [value]
        with faults.noting():
            if not all(isinstance(entry, str) and entry for entry in entries):
                raise invalid(f"{where}: {key} must be a path or a list of paths below the source: correct it")
            splits[key] = entries
    others = [one for key, value in found.items() if key not in {*splits, "path"} for one in _texts(value)]
    points = None
    with faults.noting():
        points = _points(where, found.get("kpt_shape"))
    return {
        "names": names,
        "recomposed": [names[index] for index in recomposed],
        "splits": splits,
        "others": others[:_MAX_OTHERS],
        "points": points,
        "path": None if found.get("path") is None else str(found["path"]),
        "faults": faults.document(),
    }


def _is_split(key: object, value: object) -> bool:
    """Whether an entry names a split: train, val and test have paths; other words may also have a number, such as a share."""
    if key in _SPLITS:
        return bool(value)
    return isinstance(key, str) and split_of(key) is not None and bool(_texts(value))


def _texts(value: object) -> list[str]:
    """A text, or a list of texts; empty for anything else."""
    listed: list[Any] = value if isinstance(value, list) else [value]
    return listed if all(isinstance(one, str) and one for one in listed) else []


def _yaml(where: str, text: str) -> dict[Any, Any]:
    """The top-level mapping with its keys in lower case, since CVAT writes ``Train`` for a subset of that name."""
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except _TwiceError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        raise invalid(
            f"{where}, line {line}: the key is twice in its mapping, and one value would be lost; correct it"
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}," if mark is not None else ""
        raise invalid(
            f"{where}{place} is not supported YAML, which has plain lists and mappings without aliases (*) and tags (!!); "
            "correct it"
        ) from error
    if not isinstance(content, dict):
        raise invalid(f"{where} is not a mapping; Yolo expects names, train, val and test")
    found: dict[Any, Any] = {}
    for key, value in content.items():
        plain = key.strip().lower() if isinstance(key, str) else key
        if plain in found:
            known = plain in {"names", "path", "nc", "kpt_shape", "download"} or split_of(str(plain)) is not None
            raise invalid(
                f"{where}: {f'the key {plain}' if known else 'a key'} is there twice, in different case; keep one of them"
            )
        found[plain] = value
    if "download" in found:
        raise invalid(f"{where} has the key download, which may contain a program; it is never executed: remove it")
    return found


def _written(where: str, content: Mapping[Any, Any]) -> list[Any]:
    """The class names in the order of their ids, unchecked."""
    names = content.get("names")
    if isinstance(names, dict):
        is_text = {key: isinstance(key, str) and _ID.fullmatch(key) is not None for key in names}
        numbered = {int(key) if is_text[key] else key: name for key, name in names.items()}
        gap = next((index for index in range(len(numbered)) if index not in numbered), None)
        if len(numbered) < len(names) or gap is not None:
            raise invalid(
                f"{where}: names must be a list, or a mapping from 0, 1, 2, ... to class names, without gaps; it has"
                f" {len(names)} entries, but {'one id twice' if gap is None else f'none for {gap}'}: correct it"
            )
        names = [numbered[index] for index in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise invalid(f"{where}: names must be a list, or a mapping from 0, 1, 2, ... to class names: correct it")
    if len(names) > MAX_CLASSES:
        raise invalid(f"{where}: names declares more than {MAX_CLASSES} classes; remove unused ones")
    return names


def _points(where: str, shape: object) -> list[int] | None:
    """The number of key points per object, and of numbers per key point; None without kpt_shape."""
    if shape is None:
        return None
    if isinstance(shape, list) and len(shape) == 2 and all(type(one) is int for one in shape):
        count, numbers = shape
        if 1 <= count <= MAX_POINTS and numbers in {2, 3}:
            return [count, numbers]
    raise invalid(
        f"{where}: kpt_shape must be the number of key points and 2 or 3, the numbers of each, as in [17, 3]: correct it"
    )


# --- lines


def lines(where: str, content: bytes) -> list[tuple[int, str]]:
    """The non-empty lines, with their numbers."""
    listed = enumerate(lines_of(text_of(where, content)), start=1)
    return [(number, line.strip()) for number, line in listed if line.strip()]


# --- labels


@dataclass
class Rows:
    """The rows of label files, one file after the other.

    ``classes`` is the number of classes, ``unnamed`` are those without a name; ``points`` is kpt_shape.
    """

    classes: int
    unnamed: frozenset[int]
    points: tuple[int, int] | None
    most: int
    faults: Faults = field(default_factory=Faults)
    counts: array[int] = field(default_factory=lambda: array("i"))
    outlined: array[int] = field(default_factory=lambda: array("i"))
    """Number of polygons in each file."""
    alike: tuple[array[int], ...] = field(default_factory=lambda: (array("i"), array("i"), array("i")))
    """Number of polygons in each file that look like a box with key points, as counted by keypoints.Likeness."""
    widths: array[int] = field(default_factory=lambda: array("i"))
    """Number of columns of each file's polygons; -1 when they differ."""
    outlines: list[list[list[float]]] | None = None
    """If requested, for each file the rows with their class and their numbers, without key points."""
    ids: array[int] = field(default_factory=lambda: array("i"))
    sides: array[float] = field(default_factory=lambda: array("d"))

    def __post_init__(self) -> None:
        self._last: Sequence[float] = ()

    def read(self, where: str, content: bytes) -> None:
        """Read one file; its faults are noted."""
        before = len(self.ids)
        for part in (self.outlined, *self.alike, self.widths):
            part.append(0)
        if self.outlines is not None:
            self.outlines.append([])
        with self.faults.noting():
            for number, line in enumerate(lines_of(text_of(where, content)), start=1):
                columns = line.split()
                if not columns:
                    continue
                place = f"{where}, line {number}"
                try:
                    row = self._class_of(columns[0], place), self._sides(columns, place)
                except RefusedError as fault:
                    self.faults.add(fault)
                    continue
                self.ids.append(row[0])
                self.sides.extend(row[1])
                if self.outlines is not None:
                    self.outlines[-1].append([row[0], *self._last])
                if len(self.ids) > self.most:
                    break
        self.counts.append(len(self.ids) - before)
        if len(self.ids) > self.most:
            raise too_many(where, self.most)

    def answer(self) -> Answer:
        """The answer in the form of parsers.labels."""
        numbers = (self.counts, self.outlined, *self.alike, self.widths, self.ids)
        outlines = b"" if self.outlines is None else orjson.dumps(self.outlines)
        document = {"rows": len(self.ids), "outlines": len(outlines), "faults": self.faults.document()}
        parts = (*(part.tobytes() for part in numbers), self.sides.tobytes(), outlines)
        return Answer(document, b"".join(parts))

    def _class_of(self, text: str, where: str) -> int:
        number = _whole(text)
        if number is None:
            raise invalid(
                f"{where}: the row is not 'class x y width height' with the class as a whole number; correct it"
            )
        if not 0 <= number < self.classes:
            raise _unknown(
                f"{where}: class {number} is not declared in names, which has {self.classes} (0 to {self.classes - 1})"
            )
        if number in self.unnamed:
            raise _unknown(f"{where}: class {number} has no name: its line, {number + 1}, is empty in classes.txt")
        return number

    def _sides(self, columns: list[str], where: str) -> Sequence[float]:
        """Left, top, width and height as fractions; for a polygon those of its bounding box."""
        polygon = self._is_polygon(len(columns), where)
        try:
            values = [_number(column) for column in columns[1:]]
        except ValueError as error:
            raise invalid(f"{where}: the row is not 'class x y width height' in numbers; correct it") from error
        shape = values if polygon else values[: _BOX_COLUMNS - 1]
        if not all(map(math.isfinite, shape)):
            raise invalid(f"{where}: a value is not a finite number; correct the row")
        far = next((value for value in shape if not -_FARTHEST <= value <= 1 + _FARTHEST), None)
        if far is not None:
            hint = " (rows with key points need kpt_shape in data.yaml)" if polygon else ""
            raise invalid(
                f"{where}: {far:g} is not a fraction of the image, from 0 to 1, as all values of a row must be{hint}; divide "
                "pixels by the image's width or height"
            )
        if polygon:
            sides = outlines.around(shape[::2], shape[1::2])
        else:
            x, y, width, height = shape
            sides = (x - width / 2, y - height / 2, width, height)
        self._last = shape
        if sides[2] <= 0 or sides[3] <= 0:
            raise RefusedError(
                Reason.ANNOTATION_OUTSIDE_IMAGE,
                f"{where}: width {sides[2]:g} and height {sides[3]:g}: a box without area; correct or remove the row",
                "source",
            )
        if polygon:  # only all rows of the source together show whether they are outlines or key points
            self.outlined[-1] += 1
            self.widths[-1] = len(columns) if self.widths[-1] in {0, len(columns)} else -1
            found = keypoints.likeness(values)
            for part, count in zip(self.alike, (found.fitting, found.visible, found.apart), strict=True):
                part[-1] += count
        return sides

    def _is_polygon(self, columns: int, where: str) -> bool:
        if columns == _BOX_COLUMNS:
            return False
        if self.points is not None:
            count, numbers = self.points
            wanted = _BOX_COLUMNS + count * numbers
            if columns != wanted:
                raise invalid(
                    f"{where}: {columns} columns; by kpt_shape, [{count}, {numbers}], a row has {wanted}, or {_BOX_COLUMNS}"
                    " without key points: correct one of them"
                )
            return False
        if columns > _BOX_COLUMNS + 1 and columns % 2:
            return True
        raise invalid(
            f"{where}: {columns} columns; a row has {_BOX_COLUMNS}, or an odd number from 7 for a polygon; rows with key points"
            " need kpt_shape in data.yaml"
        )


def _unknown(words: str) -> RefusedError:
    return RefusedError(Reason.UNKNOWN_CLASS, f"{words}: add its name, or remove the row", "source")


def _whole(text: str) -> int | None:
    """An integer, also written like other columns as ``1.0`` or ``1.000e+00``; None for anything else."""
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        return int(text) if len(digits) <= _LONGEST_ID else None
    try:
        value = _number(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) < 10**_LONGEST_ID else None


def _number(text: str) -> float:
    """A decimal number, without Python's extensions: float() also accepts ``1_0`` and digits of other scripts."""
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)
