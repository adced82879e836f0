"""The tasks that read annotation files in a child of the sandbox: bytes of strangers in, short documents and plain numbers out.

Run by reading.py, one task at a time. A file of any size is read in pieces; what is kept of an annotation is 40 bytes. Refusals
name a place in the file, and never what stands there.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn

import ijson
import orjson
import yaml
from ijson.backends import yajl2_c

from pelagos_pipelines.annotations import hostile
from pelagos_pipelines.contract import Reason, RefusedError
from pelagos_pipelines.sandbox import Answer, TaskRefusedError

MAX_DEPTH = 16
"""Of data.yaml, which has 2 levels."""
MAX_NODES = 50_000
"""Keys and values in data.yaml."""
_PIECE = 1 << 18
_BOX_COLUMNS = 5
_LONGEST_ID = 9
_SPLITS = ("train", "val", "test")
_INTEGER = r"^[-+]?(?:0|[1-9][0-9]{0,17})$"


def coco(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The categories, images and boxes of a COCO file.

    The document has ``categories``, the names in the order of their ids, and counts; raw holds, one after the other, ``images``
    as JSON, then for each box the index of its image and of its category (int32), then its sides (float64).
    """
    with _refusals():
        reading = _Coco(arguments["where"], arguments["annotations"], arguments["images"])
        for member, take in (
            ("categories", reading.category),
            ("images", reading.image),
            ("annotations", reading.mark),
        ):
            _each(reading.where, member, file, take)
        return reading.answer()


def settings(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """What data.yaml says, as JSON in raw: ``names``, the entries of each split, and ``path``."""
    with _refusals():
        where = arguments["where"]
        content = _yaml(where, _text(where, file.read()))
        found = {
            "names": _names(where, content),
            "splits": {key: _entries(where, key, content[key]) for key in _SPLITS if content.get(key)},
            "path": None if content.get("path") is None else str(content["path"]),
        }
        return Answer(raw=_encoded(where, found))


def lines(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The lines of a text file that are not empty, with their numbers, as JSON in raw."""
    with _refusals():
        where = arguments["where"]
        found = [
            (number, line.strip())
            for number, line in enumerate(_text(where, file.read()).splitlines(), start=1)
            if line.strip()
        ]
        return Answer(raw=_encoded(where, found))


def labels(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
    """The rows of several label files of YOLO, which stand in ``file`` one after the other.

    Before them stand ``header`` bytes of JSON: names and lengths of the files. The document has the number of rows; raw holds how
    many are in each file (int32), then the class of each row (int32), then left, top, width and height as fractions (float64).
    """
    with _refusals():
        header = orjson.loads(file.read(arguments["header"]))
        counts, classes, sides = array("i"), array("i"), array("d")
        for name, length in header:
            where = hostile.printable(name)
            found = 0
            for number, line in enumerate(_text(where, file.read(length)).splitlines(), start=1):
                columns = line.split()
                if columns:
                    classes.append(_class_of(columns, f"{where}, line {number}", arguments["classes"]))
                    sides.extend(_sides(columns, f"{where}, line {number}"))
                    found += 1
                    _require_few(len(classes), arguments["annotations"], where)
            counts.append(found)
        return Answer({"rows": len(classes)}, b"".join((counts.tobytes(), classes.tobytes(), sides.tobytes())))


class _refusals:  # noqa: N801 - used like a function
    """Hand refusals of the data plane to the process that asked."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RefusedError):
            failure = error.failure
            raise TaskRefusedError(failure.message, {"reason": failure.reason.value, "field": failure.field}) from error


def _text(where: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise hostile.invalid(f"{where} is not UTF-8 text; save it as UTF-8") from error


def _encoded(where: str, document: object) -> bytes:
    try:
        content: bytes = orjson.dumps(document)
    except (orjson.JSONEncodeError, RecursionError) as error:  # half a character, for one
        raise hostile.invalid(f"{where} holds text that is not Unicode; save it as UTF-8") from error
    return content


def _require_few(count: int, limit: int, where: str) -> None:
    if count > limit:
        raise hostile.too_many(where, limit)


# --- COCO


@dataclass
class _Coco:
    """What has been read of one file. ``unknown`` and ``orphans`` are the first places, ``many`` how many there are."""

    where: str
    most: int
    most_images: int
    names: dict[int, str] = field(default_factory=dict)
    images: list[tuple[object, ...]] = field(default_factory=list)
    indices: dict[int | str, int] = field(default_factory=dict)
    columns: dict[int, int] = field(default_factory=dict)
    whose: array[int] = field(default_factory=lambda: array("i"))
    classes: array[int] = field(default_factory=lambda: array("i"))
    sides: array[float] = field(default_factory=lambda: array("d"))
    count: int = 0
    crowds: int = 0
    boxless: int = 0
    orphans: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    many: dict[str, int] = field(default_factory=lambda: {"orphans": 0, "unknown": 0})

    def category(self, number: int, entry: dict[str, Any]) -> None:
        place = f"{self.where}: categories[{number}]"
        key = _whole(entry.get("id"), f"{place}.id")
        if key in self.names:
            raise hostile.invalid(f"{place}.id is the id of another category; ids must be unique: export it again")
        self.names[key] = hostile.class_name(entry.get("name"), f"{place}.name")

    def image(self, number: int, entry: dict[str, Any]) -> None:
        place = f"{self.where}: images[{number}]"
        key = _identity(entry.get("id"), f"{place}.id")
        if key in self.indices:
            raise hostile.invalid(f"{place}.id is the id of another image; ids must be unique: export it again")
        _require_few(number + 1, self.most_images, self.where)
        self.indices[key] = number
        texts = [_words(entry.get(name), f"{place}.{name}") for name in ("file_name", "group", "split")]
        if texts[0] is None:
            raise hostile.invalid(f"{place}.file_name is missing; export it again")
        sizes = (_size(entry.get(name), f"{place}.{name}") for name in ("width", "height"))
        self.images.append((texts[0], *sizes, texts[1], texts[2]))

    def mark(self, number: int, entry: dict[str, Any]) -> None:
        place = f"annotations[{number}]"
        if not self.columns:
            self.columns = {key: index for index, key in enumerate(sorted(self.names))}
        self.count += 1
        _require_few(self.count, self.most, self.where)
        image, category = entry.get("image_id"), entry.get("category_id")
        crowd, box = entry.get("iscrowd", 0), entry.get("bbox", [])
        if type(image) not in {int, str} or type(category) is not int or type(crowd) not in {int, bool}:
            _refuse(f"{self.where}: {place}: image_id must be a number or text, category_id and iscrowd whole numbers")
        if not isinstance(box, list) or len(box) not in {0, 4}:
            _refuse(f"{self.where}: {place}.bbox must be x, y, width and height")
        if image not in self.indices:
            self._note("orphans", self.orphans, place)
        elif category not in self.columns:
            self._note("unknown", self.unknown, place)
        elif crowd:
            self.crowds += 1  # the box around a crowd is no object: COCO's own evaluation ignores it
        elif not box:
            self.boxless += 1  # a mask or key points alone
        else:
            self.sides.extend(_finite(box, f"{self.where}: {place}.bbox"))
            self.whose.append(self.indices[image])
            self.classes.append(self.columns[category])

    def answer(self) -> Answer:
        images = _encoded(self.where, self.images)
        document = {
            "categories": [self.names[key] for key in sorted(self.names)][: hostile.MAX_CLASSES],
            "images": len(images),
            "boxes": len(self.whose),
            "crowds": self.crowds,
            "boxless": self.boxless,
            "orphans": [self.many["orphans"], self.orphans],
            "unknown": [self.many["unknown"], self.unknown],
        }
        if len(self.names) > hostile.MAX_CLASSES:
            raise hostile.invalid(
                f"{self.where} declares more than {hostile.MAX_CLASSES} categories; remove unused ones"
            )
        names = _encoded(self.where, document.pop("categories"))
        document["names"] = len(names)
        return Answer(
            document, b"".join((names, images, self.whose.tobytes(), self.classes.tobytes(), self.sides.tobytes()))
        )

    def _note(self, what: str, places: list[str], place: str) -> None:
        self.many[what] += 1
        if len(places) < hostile.MAX_NAMED:
            places.append(place)


def _each(where: str, member: str, file: BinaryIO, take: Callable[[int, dict[str, Any]], None]) -> None:
    """Hand on each object of the list that is the member of the file's object."""
    file.seek(0)
    number = -1
    try:
        for number, entry in enumerate(_entries_of(member, file)):
            if not isinstance(entry, dict):
                _refuse(f"{where}: {member}[{number}] must be an object")
            take(number, entry)
    except ijson.IncompleteJSONError as error:
        raise hostile.invalid(
            f"{where} is not JSON, at or after {member}[{max(number, 0)}]; export it again"
        ) from error
    except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
        raise hostile.invalid(
            f"{where} is not JSON that is read here, at {member}[{number + 1}]; export it again"
        ) from error
    if number < 0:
        _require_list(where, member, file)


def _entries_of(member: str, file: BinaryIO) -> Iterator[Any]:
    entries: Iterator[Any] = yajl2_c.items(file, f"{member}.item", use_float=True, buf_size=_PIECE)
    return entries


def _require_list(where: str, member: str, file: BinaryIO) -> None:
    """A list without entries is one; that there is none is not the same."""
    file.seek(0)
    for place, event, _ in yajl2_c.parse(file, use_float=True, buf_size=_PIECE):
        if place == member and event == "start_array":
            return
    _refuse(f"{where} has no list {member}")


def _refuse(words: str) -> NoReturn:
    raise hostile.invalid(f"{words}; export it again as COCO detection")


def _whole(value: object, place: str) -> int:
    if type(value) is not int:
        _refuse(f"{place} must be a whole number")
    return value


def _identity(value: object, place: str) -> int | str:
    if not isinstance(value, int | str) or isinstance(value, bool):
        _refuse(f"{place} must be a whole number or text")
    return value


def _words(value: object, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        _refuse(f"{place} must be text")
    return value


def _size(value: object, place: str) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value < 1 << 31):
        _refuse(f"{place} must be a number of pixels")
    return value


def _finite(values: list[Any], place: str) -> list[float]:
    for value in values:
        if type(value) not in {int, float} or not math.isfinite(value):
            _refuse(f"{place} must hold four finite numbers")
    return [float(value) for value in values]


# --- YOLO


class _Loader(yaml.SafeLoader):
    """Plain mappings, lists and scalars: no aliases (a few lines of them expand to gigabytes), no tags, no depth.

    Of the scalars that YAML 1.1 knows, only those that data.yaml has are told from text: ``59:59`` is no number here, nor is
    ``no`` a truth value.
    """

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - filled below, as in the base class
    depth = 0
    nodes = 0

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

    def flatten_mapping(self, node: Any) -> None:
        """``<<`` is a key like others."""


def _make_resolvers() -> None:
    import re

    _Loader.yaml_implicit_resolvers = {}
    for tag, expression, first in (
        ("null", r"^(?:~|null|)$", ["~", "n", ""]),
        ("bool", r"^(?:true|false)$", list("tf")),
        ("int", _INTEGER, list("-+0123456789")),
        ("float", r"^[-+]?[0-9]{1,18}\.[0-9]{0,18}$", list("-+0123456789")),
    ):
        _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(expression), first)


_make_resolvers()


def _yaml(where: str, text: str) -> dict[Any, Any]:
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}," if mark is not None else ""
        raise hostile.invalid(
            f"{where}{place} is not YAML that is read here, which is plain lists and mappings without aliases (*) and tags"
            " (!!); correct it"
        ) from error
    if not isinstance(content, dict):
        raise hostile.invalid(f"{where} is not a mapping; Yolo expects names, train, val and test")
    if "download" in content:
        raise hostile.invalid(
            f"{where} has the key download, which may hold a program; it is never executed: remove it"
        )
    return content


def _names(where: str, content: Mapping[Any, Any]) -> list[str]:
    names = content.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise hostile.invalid(
            f"{where}: names must be a list, or a mapping from 0, 1, 2, ... to class names: correct it"
        )
    if len(names) > hostile.MAX_CLASSES:
        raise hostile.invalid(f"{where}: names declares more than {hostile.MAX_CLASSES} classes; remove unused ones")
    if "nc" in content and content["nc"] != len(names):
        raise hostile.invalid(f"{where}: nc is not the number of names, {len(names)}: correct one of them")
    return [hostile.class_name(name, f"{where}: names[{index}]") for index, name in enumerate(names)]


def _entries(where: str, key: str, value: object) -> list[str]:
    listed: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry for entry in listed):
        raise hostile.invalid(f"{where}: {key} must be a path or a list of paths below the source: correct it")
    return listed


def _class_of(columns: list[str], where: str, classes: int) -> int:
    text = columns[0]
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_ID):
        raise hostile.invalid(f"{where}: the row is not 'class x y width height', the class a whole number; correct it")
    if not 0 <= int(text) < classes:
        raise RefusedError(
            Reason.UNKNOWN_CLASS,
            f"{where}: the class is none of those that names declares, {classes} (0 to {classes - 1}):"
            " add its name, or remove the row",
            "source",
        )
    return int(text)


def _number(text: str) -> float:
    """A decimal number; Python's own reading takes ``1_0``, and the digits of other scripts, too."""
    if "_" in text or not text.isascii():
        raise ValueError
    return float(text)


def _sides(columns: list[str], where: str) -> tuple[float, float, float, float]:
    """Left, top, width and height as fractions; of a polygon those of its bounding box."""
    polygon = len(columns) > _BOX_COLUMNS + 1 and len(columns) % 2 == 1
    if len(columns) != _BOX_COLUMNS and not polygon:
        raise hostile.invalid(
            f"{where}: {len(columns)} columns; a row has {_BOX_COLUMNS}, or an odd number from 7 for a polygon"
        )
    try:
        values = [_number(column) for column in columns[1:]]
    except ValueError as error:
        raise hostile.invalid(f"{where}: the row is not 'class x y width height' in numbers; correct it") from error
    if not all(map(math.isfinite, values)):
        raise hostile.invalid(f"{where}: a value is no finite number; correct the row")
    if not polygon:
        x, y, w, h = values
        return x - w / 2, y - h / 2, w, h
    xs, ys = values[::2], values[1::2]
    left, top = min(xs), min(ys)
    return left, top, max(xs) - left, max(ys) - top
