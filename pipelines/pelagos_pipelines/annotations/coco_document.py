"""Parses a COCO file in a child of the sandbox: its categories, images and annotations, and all faults in it.

Called by the task ``coco`` in parsers.py. The file is read in pieces, list by list: by json_lists.py if it has the usual layout,
else token by token, which takes four times as long and locates faults. An annotation takes 40 bytes. A fault names its place and,
if that is a number, the value; text of the file is never repeated.
"""

from __future__ import annotations

import contextlib
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NoReturn, Protocol, TypeVar

import ijson
from ijson.backends import yajl2_c
from typing_extensions import override

from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import coco_tables, fitting, json_lists, lenient_json, outlines
from pelagos_pipelines.annotations.acyclic import uncollected
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.untrusted_input import (
    MAX_CLASSES,
    MAX_NAMED,
    class_name,
    encoded,
    format_names,
    invalid,
    is_composed,
    too_many,
)
from pelagos_pipelines.sandbox import Answer

_LISTS = ("categories", "images", "annotations")
_OTHER_BOMS = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,39})", re.ASCII)
"""An id that may be shown in messages; some tools use hashes of up to 128 bits."""
_DECIMAL = re.compile(r"([0-9]{1,40})(?:\.0*)?", re.ASCII)
_LARGEST = 10**18
_NO_BOX = [0, 0, 0, 0]
"""A box that some tools write beside an outline instead of none."""
MOST_CROWDS = 200_000
"""Most crowds in a file, twenty times as many as COCO itself has. Unlike boxes, each is an object in memory."""
_FIRST_PIXEL = 1.05
"""Upper bound of sides that are taken for fractions of an image, with a margin."""
_FIRST_START = -0.5
"""Lower bound of starts that are taken for fractions; some tools let the first pixel begin here, which is not a fraction."""


class Document(Protocol):
    """A file with a parser. It refuses what is not JSON, or leaves the file to another parser."""

    def entries(self, member: str, /) -> Iterator[list[Any]]:
        """The entries of an existing list, one part after the other."""

    def prove(self) -> None:
        """Verify, after all lists were read, that they are what the file contains."""


def read(where: str, file: BinaryIO, most: int, most_images: int, *, above: bool = False) -> Answer:
    """The content of the file in the form of parsers.coco. ``above``: classes are the supercategories.

    Raises:
        RefusedError: it is not JSON, lacks a list, or has more entries than allowed.
    """

    def once(document: Document) -> Answer:
        reading = _Boxes(where, above)
        fill(reading, document, most, most_images)
        return reading.answer()

    with uncollected():
        return patiently(where, file, once)


Found = TypeVar("Found")


def patiently(where: str, file: BinaryIO, read_it: Callable[[Document], Found]) -> Found:
    """Read a file with the fast parser, else with the other one. Extensions of JSON are only translated where they occur, since
    that takes time.
    """
    # JSON begins with two ASCII characters. In UTF-16 and UTF-32 they take four bytes or more, with a zero among them.
    file.seek(0)
    first = file.read(4)
    if first.startswith(_OTHER_BOMS) or b"\0" in first:
        raise invalid(f"{where} is UTF-16 or UTF-32 text; save it as UTF-8, as JSON is")
    with contextlib.suppress(json_lists.UnevenError):
        return read_it(json_lists.Lists(file, _LISTS))
    # A number that is too long is only found while reading.
    try:
        return read_it(_Tokens(where, file, lenient_json.has_words(file)))
    except _LongNumberError:
        return read_it(_Tokens(where, file, True))


def fill(reading: Coco, document: Document, most: int, most_images: int) -> None:
    """Pass the entries of all lists to ``reading``. Raises as ``read`` does."""
    # The lists may be in any order, but annotations need the other two.
    takes = zip(_LISTS, (reading.category, reading.image, reading.mark), (most, most_images, most), strict=True)
    for member, take, limit in takes:
        count = 0
        for entries in document.entries(member):
            if count + len(entries) > limit:
                raise too_many(reading.where, limit)
            if not reading.take_together(member, entries):
                for number, entry in enumerate(entries, start=count):
                    reading.take(member, number, entry, take)
            count += len(entries)
    document.prove()


@dataclass
class Coco:
    """The content read to this point."""

    where: str
    above: bool = False
    """Whether classes are the supercategories; ``topmost`` are ids of categories without one."""
    topmost: set[int] = field(default_factory=set)
    faults: Faults = field(default_factory=Faults)
    names: dict[int, str] = field(default_factory=dict)
    recomposed: list[str] = field(default_factory=list)
    """Class names that were not written in NFC."""
    images: list[tuple[object, ...]] = field(default_factory=list)
    indices: dict[str, int] = field(default_factory=dict)
    """Indices of images by their id as text, since tools write the same id as a number in one place and as text in another."""
    numbers: dict[int, int] = field(default_factory=dict)
    """The same by ids that are numbers, as most are."""
    meant: dict[str, int | None] = field(default_factory=dict)
    """The same by normalized ids; None where several images share one. Built on demand."""
    file_names: frozenset[object] | None = None
    respelt: int = 0
    """Annotations whose image was found by a normalized id."""
    columns: dict[int, int] = field(default_factory=dict)
    whose: array[int] = field(default_factory=lambda: array("i"))
    classes: array[int] = field(default_factory=lambda: array("i"))
    sides: array[float] = field(default_factory=lambda: array("d"))
    crowds: int = 0
    boxless: int = 0
    outlined: int = 0
    shaped: int = 0
    """Boxes with key points or an outline beside them."""
    rotated: int = 0
    slight: int = 0
    """Boxes of less than a pixel in width or height."""
    fitting: fitting.Fitting = field(default_factory=fitting.Fitting)
    passed: array[int] = field(default_factory=lambda: array("i"))
    """Indices of the images of crowds and of annotations without a box."""
    crowded: array[int] = field(default_factory=lambda: array("i"))
    """Image and class of each crowd; its box is in ``surrounding``."""
    surrounding: array[float] = field(default_factory=lambda: array("d"))
    orphans: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    """Places of annotations whose category has no supercategory."""
    many: dict[str, int] = field(default_factory=lambda: {"orphans": 0, "unknown": 0, "topmost": 0})

    def take(self, member: str, number: int, entry: object, how: Callable[[int, dict[str, Any]], None]) -> None:
        """Read an entry, or note its fault."""
        try:
            if not isinstance(entry, dict):
                _refuse(f"{self.where}: {member}[{number}] must be an object")
            how(number, entry)
        except RefusedError as fault:
            self.faults.add(fault)

    def take_together(self, member: str, entries: list[Any]) -> bool:
        """Take all entries at once if that is possible; returns whether it was."""
        found = coco_tables.images(entries) if member == "images" else None
        if found is None:
            return False
        keys = [*map(str, found[0])]
        places = range(len(self.images), len(self.images) + len(keys))
        if len({*keys}) < len(keys) or not self.indices.keys().isdisjoint(keys):
            return False
        self.images += found[1]
        self.indices.update(zip(keys, places, strict=True))
        self.numbers.update(zip(found[0], places, strict=True))
        return True

    def category(self, number: int, entry: dict[str, Any]) -> None:
        place = f"{self.where}: categories[{number}]"
        key = whole(entry.get("id"), f"{place}.id")
        if key in self.names:
            raise invalid(f"{place}.id is {key}, the id of another category; ids must be unique: export it again")
        self.names[key] = ""  # if its name is a fault, its annotations are not further faults
        member = "supercategory" if self.above else "name"
        if self.above and entry.get(member) in (None, ""):  # only a fault if an annotation needs it
            self.topmost.add(key)
            return
        self.names[key] = class_name(entry.get(member), f"{place}.{member}")
        if not is_composed(entry[member]) and len(self.recomposed) < MAX_CLASSES:
            self.recomposed.append(self.names[key])

    def image(self, number: int, entry: dict[str, Any]) -> None:
        place = f"{self.where}: images[{number}]"
        index = len(self.images)
        self.images.append((None, None, None, None, None))  # if it is a fault, references to it are not further faults
        key = identity(entry.get("id"), f"{place}.id")
        if key in self.indices:
            value = f" {key}" if _WHOLE.fullmatch(key) else ""
            raise invalid(
                f"{place}.id{value} is the id of images[{self.indices[key]}] as well; ids must be unique, even if one is text "
                "and one a number: export it again"
            )
        self.indices[key] = index
        if type(entry["id"]) is int:
            self.numbers[entry["id"]] = index
        file_name, group, split = (_words(entry, name, place) for name in ("file_name", "group", "split"))
        if file_name is None:
            raise invalid(f"{place}.file_name is missing; export it again")
        self.images[index] = (file_name, _size(entry, "width", place), _size(entry, "height", place), group, split)

    def mark(self, number: int, entry: dict[str, Any]) -> None:
        """Process an annotation by what it references; those whose images must not become backgrounds are counted."""
        place = f"annotations[{number}]"
        if not self.columns:
            self.number()
        image = identity(entry.get("image_id"), f"{self.where}: {place}.image_id")
        category = whole(entry.get("category_id"), f"{self.where}: {place}.category_id")
        crowd = entry.get("iscrowd") or 0
        if type(crowd) not in {int, bool, float}:
            _refuse(f"{self.where}: {place}.iscrowd must be 0 or 1")
        index = self.index(image)
        if index is None:
            if self.file_names is None:
                self.file_names = frozenset(image[0] for image in self.images)
            named = " (a file_name of images[])" if image in self.file_names else ""
            self.note("orphans", self.orphans, f"{place}.image_id", image, named)
        elif category in self.topmost:
            self.note("topmost", self.lacking, f"{place}.category_id", str(category))
        elif category not in self.columns:
            self.note("unknown", self.unknown, f"{place}.category_id", str(category))
        elif crowd:
            self.crowds += 1  # not an object: COCO's own evaluation ignores detections there
            self.passed.append(index)
            self._surround(entry, f"{self.where}: {place}", index, self.columns[category])
        else:
            self._place(entry, f"{self.where}: {place}", index, self.columns[category])

    def number(self) -> None:
        """Give each category a column; categories of one class share it, so that repeated boxes are found."""
        keys = sorted(self.names)
        first = {self.names[key]: index for index, key in reversed([*enumerate(keys)])}
        self.columns = {key: first[self.names[key]] if self.above else index for index, key in enumerate(keys)}

    def index(self, key: str) -> int | None:
        """The index of the image with an id, or of the only one whose id differs only in notation; None without either."""
        index = self.indices.get(key)
        if index is None:
            if not self.meant:
                for one, place in self.indices.items():
                    plain = _plain(one)
                    self.meant[plain] = None if plain in self.meant else place
            index = self.meant.get(_plain(key))
            self.respelt += index is not None
        return index

    @property
    def ordered(self) -> list[str]:
        """The classes, each once, in the order of their ids."""
        return [*dict.fromkeys(filter(None, (self.names[key] for key in sorted(self.names))))]

    def judge(self) -> None:
        """Note faults of the file as a whole."""
        if self.many["orphans"]:
            self.faults.add(self._undeclared())
        if many := self.many["topmost"]:
            shown = format_names(self.lacking, of=many)
            words = f"{self.where} has {many} annotations of categories without a supercategory ({shown}), which labels.level"
            words += " asks for; add it, or leave labels.level out"
            self.faults.add(RefusedError(Reason.LABELS_INVALID, words, "labels.level"))

    def _undeclared(self) -> RefusedError:
        """The refusal of annotations without an image. It shows ids of both lists, so that a person sees which was renumbered."""
        keys = self.indices
        numbers = sorted(int(key) for key in keys if _NUMBER.fullmatch(key))
        if not numbers or len(numbers) < len(keys):
            told = (
                f"{len(keys)}, {len(keys) - len(numbers)} of which are text, or numbers of more than 18 digits"
                if keys
                else "none"
            )
        else:
            told = f"{len(numbers)}, from {numbers[0]} to {numbers[-1]}"
        many = self.many["orphans"]
        return RefusedError(
            Reason.LABEL_WITHOUT_IMAGE,
            f"{self.where} has {many} annotations with an image_id that is the id of no entry of images[] "
            f"({format_names(self.orphans, of=many)}); the declared ids are {told}: correct image_id, declare the images, or "
            "remove the annotations",
            "source",
        )

    def _place(self, entry: dict[str, Any], place: str, image: int, column: int) -> None:
        """Add the box of an annotation: its own, or the one around its outline."""
        box, attributes = entry.get("bbox"), entry.get("attributes")
        # CVAT writes the box before rotation, with the angle as an attribute.
        turned = attributes.get("rotation") if isinstance(attributes, dict) else None
        rotated = outlines.is_finite(turned) and bool(turned % 360)  # type: ignore[operator]
        if box is None or box == [] or (box == _NO_BOX and entry.get("segmentation")):
            if not entry.get("segmentation"):
                self.boxless += 1  # only key points, or a label of the whole image
                self.passed.append(image)
                return
            sides = self._around(entry, place, image)
            self.outlined += 1
        else:
            sides = _sides(box, f"{place}.bbox")
            self.shaped += bool(entry.get("segmentation") or entry.get("keypoints"))
            if not rotated:
                self.fitting.take(sides, entry, f"{place}.bbox")
        self.rotated += rotated
        _require_pixels(sides, place)
        self.slight += sides[2] < 1 or sides[3] < 1
        self.sides.extend(sides)
        self.whose.append(image)
        self.classes.append(column)

    def _surround(self, entry: dict[str, Any], place: str, image: int, column: int) -> None:
        """Add the box of a crowd: its own, or the one around its outline."""
        box, outline = entry.get("bbox"), entry.get("segmentation")
        if box is None or box == [] or (box == _NO_BOX and outline):
            if not outline:
                self.boxless += 1
                return
            sides = self._around(entry, place, image)
        else:
            sides = _sides(box, f"{place}.bbox")
        _require_pixels(sides, place)
        self.crowded.extend((image, column))
        self.surrounding.extend(sides)

    def _around(self, entry: dict[str, Any], place: str, image: int) -> tuple[float, float, float, float]:
        _, width, height, _, _ = self.images[image]
        size = (width, height) if isinstance(width, int) and isinstance(height, int) else None
        return outlines.box_of(entry["segmentation"], f"{place}.segmentation", size)

    def answer(self) -> Answer:
        if len(self.names) > MAX_CLASSES:
            raise invalid(f"{self.where} declares more than {MAX_CLASSES} categories; remove unused ones")
        if len(self.crowded) > 2 * MOST_CROWDS:
            raise invalid(
                f"{self.where} has {len(self.crowded) // 2} annotations of crowds (iscrowd), and at most {MOST_CROWDS} are kept: "
                "set iscrowd to 0 where an annotation shows one object, as many tools mark every mask as a crowd; or remove them"
            )
        self.judge()
        if fault := self.fitting.fault(len(self.whose)):
            self.faults.add(fault)
        images = encoded(self.where, self.images)
        ordered = sorted(self.names)
        names = encoded(self.where, [ordered, [self.names[key] for key in ordered], self.recomposed])
        document = {
            "names": len(names),
            "images": len(images),
            "boxes": len(self.whose),
            "passed": len(self.passed),
            "crowded": len(self.crowded) // 2,
            "crowds": self.crowds,
            "boxless": self.boxless,
            "outlined": self.outlined,
            "shaped": self.shaped,
            "rotated": self.rotated,
            "slight": self.slight,
            "misfits": self.fitting.misfits,
            "respelt": self.respelt,
            "unknown": [self.many["unknown"], self.unknown],
            "faults": self.faults.document(),
        }
        numbers = (self.whose, self.classes, self.passed, self.sides, self.crowded, self.surrounding)
        return Answer(document, b"".join((names, images, *(part.tobytes() for part in numbers))))

    def note(self, what: str, places: list[str], place: str, value: str = "", words: str = "") -> None:
        """Count an annotation without an image or category, and keep the first places."""
        self.many[what] += 1
        if len(places) < MAX_NAMED:
            places.append((f"{place} {value}" if _WHOLE.fullmatch(value) else place) + words)


@dataclass
class _Boxes(Coco):
    """Takes many boxes at once where none of them needs special treatment."""

    @override
    def take_together(self, member: str, entries: list[Any]) -> bool:
        if member != "annotations":
            return super().take_together(member, entries)
        if not self.columns:
            self.number()
        if self.topmost:
            return False
        found = coco_tables.boxes(entries, self.numbers, self.columns, _FIRST_PIXEL, fitting.AS_GOOD_AS)
        if found is None:
            return False
        self.whose.extend(found.images)
        self.classes.extend(found.classes)
        self.sides.extend(found.sides)
        self.slight += found.slight
        self.fitting.told += found.told
        return True


# --- JSON


class _LongNumberError(Exception):
    """The parser found an integer that it cannot hold."""


class _Tokens:
    """A parser for any file. It reads the file once per list, so that even gigabytes need no more memory than their numbers."""

    def __init__(self, where: str, file: BinaryIO, translated: bool) -> None:
        self._where = where
        self._file = file
        self._translated = translated

    def entries(self, member: str) -> Iterator[list[Any]]:
        number = -1
        file = lenient_json.opened(self._file, self._translated)
        try:
            found = yajl2_c.items(file, f"{member}.item", use_float=True, buf_size=lenient_json.PIECE)
            for number, entry in enumerate(found):  # noqa: B007 - the number says where it failed
                yield [entry]
        except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
            words = str(error)  # all but the first words quote the file, and are never shown
            if words.startswith(lenient_json.TOO_LONG) and not self._translated:
                raise _LongNumberError from error
            if words.startswith((lenient_json.TOO_LONG, "parse error: numeric (floating point) overflow")):
                why = "has a number that is too large"
            elif words.removeprefix("b'").startswith("lexical error: invalid bytes in UTF8"):
                why = "is not UTF-8 text (save it as UTF-8, as JSON is)"
            else:
                why = "is not JSON" if isinstance(error, ijson.IncompleteJSONError) else "is not JSON that is read here"
            raise invalid(f"{self._where} {why}, at or after {member}[{max(number, 0)}]; export it again") from error
        if number < 0:  # the list may be empty, but a file without it is not COCO
            events = yajl2_c.parse(
                lenient_json.opened(self._file, self._translated), use_float=True, buf_size=lenient_json.PIECE
            )
            if not any(place == member and event == "start_array" for place, event, _ in events):
                _refuse(f"{self._where} has no list {member}")

    def prove(self) -> None:
        """Nothing to verify: this parser makes no guesses."""


# --- values


def _refuse(words: str) -> NoReturn:
    raise invalid(f"{words}; export it again as COCO detection")


def whole(value: object, place: str) -> int:
    """An integer, also written as 3.0 or "3". Raises RefusedError for anything else."""
    text = _text_of(value)
    if text is None or not _NUMBER.fullmatch(text):
        _refuse(f"{place} must be a whole number of at most 18 digits")
    return int(text)


def identity(value: object, place: str) -> str:
    """An id as text. Raises RefusedError for what is neither an integer nor text."""
    text = _text_of(value)
    if text is None:
        _refuse(f"{place} must be a whole number or text")
    return text


def _plain(key: str) -> str:
    """A normalized id: without surrounding spaces, case, leading zeros and zero decimals."""
    bare = key.strip().casefold()
    number = _DECIMAL.fullmatch(bare)
    return str(int(number[1])) if number else bare


def _text_of(value: object) -> str | None:
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST:
        return str(int(value))
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _words(entry: dict[str, Any], name: str, place: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        _refuse(f"{place}.{name} must be text")
    return value


def _size(entry: dict[str, Any], name: str, place: str) -> int | None:
    value = entry.get(name)
    if value is None:
        return None
    text = _text_of(value)
    if isinstance(value, str) or text is None or not 0 <= int(text) < 1 << 31:
        _refuse(f"{place}.{name} must be a number of pixels")
    return int(text)


def _sides(box: object, place: str) -> tuple[float, float, float, float]:
    if not isinstance(box, list) or len(box) != 4:
        _refuse(f"{place} must be x, y, width and height")
    if not all(map(outlines.is_finite, box)):
        _refuse(f"{place} must hold four finite numbers")
    left, top, width, height = map(float, box)
    return left, top, width, height


def _require_pixels(sides: tuple[float, float, float, float], place: str) -> None:
    _, _, width, height = sides
    if width > _FIRST_PIXEL and height > 0:
        return
    told = f"x, y, width and height are {', '.join(f'{side:g}' for side in sides)}"
    if width <= 0 or height <= 0:
        raise RefusedError(
            Reason.ANNOTATION_OUTSIDE_IMAGE,
            f"{place}: {told}: a box without area; correct or remove it",
            "source",
        )
    if _is_in_fractions(sides):
        raise invalid(
            f"{place}: {told}: no value is much more than 1, as in fractions of the image; COCO's boxes are in pixels of the "
            "original image: export it again"
        )


def _is_in_fractions(sides: tuple[float, float, float, float]) -> bool:
    """Whether the sides are fractions of the image, also with a centre as in YOLO, or beyond the edge.

    A box of exactly one pixel is not, except the first pixel, which could also be the whole image in fractions.
    """
    left, top, width, height = sides
    if width == height == 1 and left in {0, 1} and top in {0, 1}:
        return (left, top) == (0, 0)
    return min(left, top) > _FIRST_START and max(sides) <= _FIRST_PIXEL
