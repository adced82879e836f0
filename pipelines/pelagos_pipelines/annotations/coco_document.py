"""One COCO file, read in a child of the sandbox: its categories, images and annotations, and all that is wrong in it.

Called by the task ``coco`` in parsers.py. The file is read in pieces, list by list: by json_lists.py when it is laid out as
files mostly are, else from token to token, which takes four times as long and tells where a fault is. Kept of an annotation are
40 bytes. A fault names its place and, where that is a number, the value; text of the file is never repeated.
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
"""An id that may be shown: those of some tools are hashes of up to 128 bits."""
_DECIMAL = re.compile(r"([0-9]{1,40})(?:\.0*)?", re.ASCII)
_LARGEST = 10**18
_NO_BOX = [0, 0, 0, 0]
"""What some tools write beside an outline."""
MOST_CROWDS = 200_000
"""Of a file: twenty times as many as COCO itself has. Each is an object in memory, which boxes are not."""
_FIRST_PIXEL = 1.05
"""Fractions of an image, and a little more than all of it."""
_FIRST_START = -0.5
"""A fraction that begins farther out of the image is none; nor is the pixel that some tools let begin here."""


class Document(Protocol):
    """A file, by a parser. What it cannot read as JSON it refuses, or says to be for another parser."""

    def entries(self, member: str, /) -> Iterator[list[Any]]:
        """What stands in a list, which is there, one part after the other."""

    def prove(self) -> None:
        """That what was read is what the file says, all of whose lists have been read."""


def read(where: str, file: BinaryIO, most: int, most_images: int, *, above: bool = False) -> Answer:
    """The file's content, as parsers.coco hands it on. ``above``: classes are the supercategories.

    Raises:
        RefusedError: it is no JSON, has none of the lists, or has more entries than allowed.
    """

    def once(document: Document) -> Answer:
        reading = _Boxes(where, above)
        fill(reading, document, most, most_images)
        return reading.answer()

    with uncollected():
        return patiently(where, file, once)


Found = TypeVar("Found")


def patiently(where: str, file: BinaryIO, read_it: Callable[[Document], Found]) -> Found:
    """Read a file by the fast parser, else by the other one; with a translation of what JSON does not have only where it needs
    one, which costs time.
    """
    # JSON begins with two characters of ASCII, which are four bytes or more in other encodings, one of them zero.
    file.seek(0)
    first = file.read(4)
    if first.startswith(_OTHER_BOMS) or b"\0" in first:
        raise invalid(f"{where} is UTF-16 or UTF-32 text; save it as UTF-8, as JSON is")
    with contextlib.suppress(json_lists.UnevenError):
        return read_it(json_lists.Lists(file, _LISTS))
    # A number that is too long shows on the way only.
    try:
        return read_it(_Tokens(where, file, lenient_json.has_words(file)))
    except _LongNumberError:
        return read_it(_Tokens(where, file, True))


def fill(reading: Coco, document: Document, most: int, most_images: int) -> None:
    """Have ``reading`` take the entries of all lists. Raises as ``read`` does."""
    # The lists may stand in any order, and annotations need the others.
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
    """What has been read so far."""

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
    """Of images, by their id as text: tools write the same id as a number here and as text there."""
    numbers: dict[int, int] = field(default_factory=dict)
    """The same by those ids that are numbers, which most are."""
    meant: dict[str, int | None] = field(default_factory=dict)
    """The same by ids without what writers make of them; None where several images have one. Made when it is needed."""
    file_names: frozenset[object] | None = None
    respelt: int = 0
    """Annotations whose image was found so."""
    columns: dict[int, int] = field(default_factory=dict)
    whose: array[int] = field(default_factory=lambda: array("i"))
    classes: array[int] = field(default_factory=lambda: array("i"))
    sides: array[float] = field(default_factory=lambda: array("d"))
    crowds: int = 0
    boxless: int = 0
    outlined: int = 0
    shaped: int = 0
    """Boxes beside which there are key points or an outline."""
    rotated: int = 0
    slight: int = 0
    """Boxes of less than a pixel in width or height."""
    fitting: fitting.Fitting = field(default_factory=fitting.Fitting)
    passed: array[int] = field(default_factory=lambda: array("i"))
    """Images of the crowds and of the annotations without a box."""
    crowded: array[int] = field(default_factory=lambda: array("i"))
    """Image and class of each crowd, and in ``surrounding`` its box."""
    surrounding: array[float] = field(default_factory=lambda: array("d"))
    orphans: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    """Places of annotations whose category has no supercategory."""
    many: dict[str, int] = field(default_factory=lambda: {"orphans": 0, "unknown": 0, "topmost": 0})

    def take(self, member: str, number: int, entry: object, how: Callable[[int, dict[str, Any]], None]) -> None:
        """Read an entry, or note what is wrong with it."""
        try:
            if not isinstance(entry, dict):
                _refuse(f"{self.where}: {member}[{number}] must be an object")
            how(number, entry)
        except RefusedError as fault:
            self.faults.add(fault)

    def take_together(self, member: str, entries: list[Any]) -> bool:
        """Take all of them at once, if that is possible."""
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
        self.names[key] = ""  # its annotations are no further fault when its name is one
        member = "supercategory" if self.above else "name"
        if self.above and entry.get(member) in (None, ""):  # a fault once an annotation needs it
            self.topmost.add(key)
            return
        self.names[key] = class_name(entry.get(member), f"{place}.{member}")
        if not is_composed(entry[member]) and len(self.recomposed) < MAX_CLASSES:
            self.recomposed.append(self.names[key])

    def image(self, number: int, entry: dict[str, Any]) -> None:
        place = f"{self.where}: images[{number}]"
        index = len(self.images)
        self.images.append((None, None, None, None, None))  # what names it is no further fault when it is one itself
        key = identity(entry.get("id"), f"{place}.id")
        if key in self.indices:
            value = f" {key}" if _WHOLE.fullmatch(key) else ""
            raise invalid(
                f"{place}.id{value} is the id of images[{self.indices[key]}], too; ids must be unique, also when one is"
                " text and one a number: export it again"
            )
        self.indices[key] = index
        if type(entry["id"]) is int:
            self.numbers[entry["id"]] = index
        file_name, group, split = (_words(entry, name, place) for name in ("file_name", "group", "split"))
        if file_name is None:
            raise invalid(f"{place}.file_name is missing; export it again")
        self.images[index] = (file_name, _size(entry, "width", place), _size(entry, "height", place), group, split)

    def mark(self, number: int, entry: dict[str, Any]) -> None:
        """Judge an annotation by what it names; counted are those whose images the reader must not take for backgrounds."""
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
            self.crowds += 1  # no object: COCO's own evaluation ignores what is found there
            self.passed.append(index)
            self._surround(entry, f"{self.where}: {place}", index, self.columns[category])
        else:
            self._place(entry, f"{self.where}: {place}", index, self.columns[category])

    def number(self) -> None:
        """Give each category its column: of those that are one class the same, so that what repeats is seen."""
        keys = sorted(self.names)
        first = {self.names[key]: index for index, key in reversed([*enumerate(keys)])}
        self.columns = {key: first[self.names[key]] if self.above else index for index, key in enumerate(keys)}

    def index(self, key: str) -> int | None:
        """The image that is meant by an id: the one that has it, or the only one whose id differs in how it is written alone."""
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
        """Note what is wrong with the file as a whole."""
        if self.many["orphans"]:
            self.faults.add(self._undeclared())
        if many := self.many["topmost"]:
            shown = format_names(self.lacking, of=many)
            words = f"{self.where} has {many} annotations of categories without a supercategory ({shown}), which labels.level"
            words += " asks for; add it, or leave labels.level out"
            self.faults.add(RefusedError(Reason.LABELS_INVALID, words, "labels.level"))

    def _undeclared(self) -> RefusedError:
        """The refusal of annotations of no image; from what the ids are like, a person sees which list was numbered anew."""
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
            f"{self.where} has {many} annotations with an image_id that no entry of images[] has as its id"
            f" ({format_names(self.orphans, of=many)}); the ids that are declared are {told}: correct image_id, declare the"
            " images, or remove the annotations",
            "source",
        )

    def _place(self, entry: dict[str, Any], place: str, image: int, column: int) -> None:
        """Take the box of an annotation: its own, or the one around its outline."""
        box, attributes = entry.get("bbox"), entry.get("attributes")
        # CVAT writes the box as it lay before it was turned, and by how much.
        turned = attributes.get("rotation") if isinstance(attributes, dict) else None
        rotated = outlines.is_finite(turned) and bool(turned % 360)  # type: ignore[operator]
        if box is None or box == [] or (box == _NO_BOX and entry.get("segmentation")):
            if not entry.get("segmentation"):
                self.boxless += 1  # key points, or a word on the whole image
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
        """Take the box of a crowd: its own, or the one around its outline."""
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
                f"{self.where} has {len(self.crowded) // 2} annotations of crowds (iscrowd), and at most {MOST_CROWDS} are kept:"
                " set iscrowd to 0 where an annotation is of one object, as many tools mark every mask as a crowd; or remove them"
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
        """Count an annotation of no image or category, and keep the first places."""
        self.many[what] += 1
        if len(places) < MAX_NAMED:
            places.append((f"{place} {value}" if _WHOLE.fullmatch(value) else place) + words)


@dataclass
class _Boxes(Coco):
    """Takes boxes many at a time where nothing is to be said of any of them."""

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
    """The parser met a whole number that it cannot hold."""


class _Tokens:
    """Any file. It is gone through once for each list, so that one of gigabytes takes no more memory than its numbers do."""

    def __init__(self, where: str, file: BinaryIO, translated: bool) -> None:
        self._where = where
        self._file = file
        self._translated = translated

    def entries(self, member: str) -> Iterator[list[Any]]:
        number = -1
        file = lenient_json.opened(self._file, self._translated)
        try:
            found = yajl2_c.items(file, f"{member}.item", use_float=True, buf_size=lenient_json.PIECE)
            for number, entry in enumerate(found):  # noqa: B007 - the number tells where it fails
                yield [entry]
        except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
            words = str(error)  # those that follow the first ones quote the file, and are never shown
            if words.startswith(lenient_json.TOO_LONG) and not self._translated:
                raise _LongNumberError from error
            if words.startswith((lenient_json.TOO_LONG, "parse error: numeric (floating point) overflow")):
                why = "has a number that is too large"
            elif words.removeprefix("b'").startswith("lexical error: invalid bytes in UTF8"):
                why = "is not UTF-8 text (save it as UTF-8, as JSON is)"
            else:
                why = "is not JSON" if isinstance(error, ijson.IncompleteJSONError) else "is not JSON that is read here"
            raise invalid(f"{self._where} {why}, at or after {member}[{max(number, 0)}]; export it again") from error
        if number < 0:  # an empty list is one, and a file without the list is none of COCO
            events = yajl2_c.parse(
                lenient_json.opened(self._file, self._translated), use_float=True, buf_size=lenient_json.PIECE
            )
            if not any(place == member and event == "start_array" for place, event, _ in events):
                _refuse(f"{self._where} has no list {member}")

    def prove(self) -> None:
        """This parser reads what is there."""


# --- values


def _refuse(words: str) -> NoReturn:
    raise invalid(f"{words}; export it again as COCO detection")


def whole(value: object, place: str) -> int:
    """A whole number; 3.0 and "3" are one, too."""
    text = _text_of(value)
    if text is None or not _NUMBER.fullmatch(text):
        _refuse(f"{place} must be a whole number of at most 18 digits")
    return int(text)


def identity(value: object, place: str) -> str:
    """An id as text; RefusedError for what is neither a whole number nor text."""
    text = _text_of(value)
    if text is None:
        _refuse(f"{place} must be a whole number or text")
    return text


def _plain(key: str) -> str:
    """An id without spaces, case, leading zeros and decimals that are none."""
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
            f"{place}: {told}: none is more than 1, or hardly, as in fractions of the image; COCO's boxes are in pixels of the"
            " original image: export it again"
        )


def _is_in_fractions(sides: tuple[float, float, float, float]) -> bool:
    """Whether they are fractions, also when they are those of a centre as in YOLO, or reach over the edge.

    A box of one whole pixel is none, except of the first, which is as well the whole of an image.
    """
    left, top, width, height = sides
    if width == height == 1 and left in {0, 1} and top in {0, 1}:
        return (left, top) == (0, 0)
    return min(left, top) > _FIRST_START and max(sides) <= _FIRST_PIXEL
