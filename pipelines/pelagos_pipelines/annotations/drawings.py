"""What annotation files of a tool say, between the child of the sandbox that reads them and the process that asked.

In the child, a module of a format fills a `Drawings` with images and their shapes and makes it a task by `task`. What comes out
is checked once more on this side (`restored`), since a child that was taken over may answer anything.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from typing import Any, BinaryIO

import ijson
import orjson
from ijson.backends import yajl2_c

from pelagos_contract.dataset import SPLITS, Split
from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.many_shapes import Shapes, Written
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.annotations.untrusted_input import class_name, encoded, invalid, printable, too_many
from pelagos_pipelines.sandbox import Answer, TaskRefusedError

MAX_TEXT = 1000
"""Characters of an attribute, of who drew a shape, and of a shape's id."""
MAX_ATTRIBUTES = 100
MAX_NAME = 4096
"""Characters of the name of an image."""
_PIECE = 1 << 18
_LOOKED_AT = 4096
"""Bytes in which JSON begins."""
_BOM = b"\xef\xbb\xbf"


class OtherKindError(Exception):
    """Raised by a parser for a file that is none of its format, but of another kind; it is passed over, and named."""


@dataclass(frozen=True)
class Segment:
    """A part of a picture in which each pixel has the number of its segment."""

    number: int
    label: str
    is_thing: bool
    is_crowd: bool


@dataclass(slots=True)
class Drawn:
    """An image as a file names it: by any of ``names``, the best first, which are paths or the ends of paths.

    ``is_labelled``: whether somebody has looked at it, so that one without shapes shows nothing. ``place``: where it stands in
    the file.
    """

    names: tuple[str, ...]
    place: str
    width: int | None = None
    height: int | None = None
    split: Split | None = None
    group: str | None = None
    is_labelled: bool = True
    left: int = 0
    """Annotations that the parser counts and does not read: an image of these alone is no background."""
    shapes: Shapes = field(default_factory=Shapes)
    crowds: Shapes = field(default_factory=Shapes)
    """Regions with objects that nobody drew one by one."""
    model: str | None = None
    """The model of ours whose suggestions, ``predicted``, somebody went through to get to the shapes."""
    predicted: Shapes = field(default_factory=Shapes)
    picture: str | None = None
    """A picture of which ``segments`` are parts; whoever asked for the drawings makes shapes of them."""
    segments: list[Segment] = field(default_factory=list)


_SHAPES = ("shapes", "crowds", "predicted")
_PLAIN = tuple(each.name for each in fields(Drawn) if each.name not in {*_SHAPES, "segments"})


@dataclass
class Drawings:
    """What one file says: ``classes`` in the order in which it declares them, images, and numbers of what is not read of it.

    A parser makes one for the file ``where`` and calls ``image`` and ``shape``; ``limit`` is how many of both there may be.
    """

    where: str
    faults: Faults
    limit: int
    classes: list[str] = field(default_factory=list)
    images: list[Drawn] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    entries: int = 0

    def declare(self, name: object, place: str) -> None:
        """A class that the file declares, whether or not anything shows it. RefusedError for what cannot be one."""
        if (label := class_name(name, f"{self.where}: {place}")) not in self.classes:
            self.classes.append(label)

    def image(
        self,
        names: Sequence[object],
        place: str,
        size: tuple[object, object] = (None, None),
        *,
        split: Split | None = None,
        group: str | None = None,
        is_labelled: bool = True,
    ) -> Drawn:
        """Add an image; ``size`` is width and height in pixels, None or 0 where the file does not say.

        Raises:
            RefusedError: none of the names is one, or a side is no whole number of pixels.
        """
        self._count()
        known = tuple(name for name in names if isinstance(name, str) and 0 < len(name) <= MAX_NAME)
        if not known:
            raise invalid(f"{self.where}: {place} names no image: export it again")
        width, height = (self._side(side, place) for side in size)
        drawn = Drawn(known, place, width, height, split, group, is_labelled)
        self.images.append(drawn)
        return drawn

    def _side(self, side: object, place: str) -> int | None:
        if side is None:
            return None
        if (
            not isinstance(side, int | float)
            or isinstance(side, bool)
            or side != side
            or not 0 <= side < 2**31
            or side != int(side)
        ):
            raise invalid(f"{self.where}: {place} has a width or height that is no whole number of pixels: correct it")
        return int(side) or None

    def shape(
        self,
        image: Drawn,
        place: str,
        label: object,
        make: Callable[[str], Shape | None],
    ) -> None:
        """Add what ``make`` draws with the name of the class; what is wrong with it is noted, and reading goes on.

        ``make`` raises ValueError with words for numbers that are no such shape.
        """
        self._count()
        with self.faults.noting():
            name = class_name(label, f"{self.where}: {place}: class")
            try:
                found = make(name)
                if found is not None:
                    image.shapes.append(_bounded(found))
            except (ValueError, TypeError, LookupError, OverflowError) as error:
                raise invalid(f"{self.where}: {place}: {self._words(error)}; correct it, or remove it") from error

    def passed_over(self, image: Drawn, what: str) -> None:
        """Count an annotation that is no shape, for the sentence that ``said`` of the `Tool` has for ``what``."""
        self._count()
        self.counted[what] += 1
        image.left += 1

    def _words(self, error: Exception) -> str:
        # What stands in the file is not told: of our own words alone.
        told = str(error) if type(error) is ValueError else ""
        return told if told.startswith(("a ", "an ", "key points")) else "it has numbers that are no coordinates"

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self.limit:
            raise too_many(self.where, self.limit)

    def write(self, target: Written) -> None:
        """For the answer of the task: a line that tells of the file, and one of each image, which are gone after that."""
        labels = dict.fromkeys(self.classes)
        for image in self.images:
            labels |= image.shapes.labels | image.crowds.labels | image.predicted.labels
        told = {"labels": list(labels), "declared": len(self.classes), "counted": dict(self.counted)}
        target.add(encoded(self.where, told | {"images": len(self.images)}))
        self.images.reverse()
        while self.images:
            image = self.images.pop()
            document: dict[str, object] = {name: getattr(image, name) for name in _PLAIN}
            for name in _SHAPES:
                document[name] = orjson.Fragment(getattr(image, name).encoded())
            document["segments"] = [vars(segment) for segment in image.segments]
            target.add(encoded(self.where, document))

    @classmethod
    def restored(cls, found: Mapping[str, Any], lines: Iterator[bytes], where: str) -> Drawings:
        """From the lines of ``write``; ``found`` is the first. ValueError, TypeError, KeyError or IndexError for others."""
        # A second time, since the child may have been taken over meanwhile: no name is used that is none.
        try:
            labels = [class_name(label, where) for label in found["labels"]]
        except RefusedError as error:
            raise ValueError("labels") from error
        declared = found["declared"]
        if type(declared) is not int or not 0 <= declared <= len(labels):
            raise ValueError("declared")
        drawings = cls(where, Faults(), 0, labels[:declared])
        drawings.counted = Counter({str(name): int(count) for name, count in found["counted"].items()})
        known = frozenset(labels)
        drawings.images = [_restored(orjson.loads(line), known) for line in islice(lines, found["images"])]
        if len(drawings.images) != found["images"]:
            raise ValueError("images")
        return drawings


def _bounded(shape: Shape) -> Shape:
    """The same with texts that do not fill the memory of all who read them."""
    texts = (shape.annotator or "", shape.origin or "", *shape.attributes, *shape.attributes.values())
    if len(shape.attributes) <= MAX_ATTRIBUTES and max(map(len, texts)) <= MAX_TEXT:
        return shape
    attributes = dict(list(shape.attributes.items())[:MAX_ATTRIBUTES])
    cut = {name[:MAX_TEXT]: value[:MAX_TEXT] for name, value in attributes.items()}
    annotator, origin = shape.annotator and shape.annotator[:MAX_TEXT], shape.origin and shape.origin[:MAX_TEXT]
    return replace(shape, attributes=cut, annotator=annotator, origin=origin)


def _restored(found: Mapping[str, Any], labels: Set[str]) -> Drawn:
    names, split, group = found["names"], found["split"], found["group"]
    width, height = found["width"], found["height"]
    if not names or not all(isinstance(name, str) for name in names) or split not in {None, *SPLITS}:
        raise ValueError("image")
    if not all(side is None or (type(side) is int and 0 < side < 2**31) for side in (width, height)):
        raise ValueError("size")
    if not isinstance(group, str | None) or not isinstance(found["place"], str):
        raise ValueError("group")
    drawn = Drawn(tuple(names), found["place"], width, height, split, group, bool(found["is_labelled"]))
    drawn.left = int(found["left"])
    if not isinstance(found["picture"], str | None):
        raise ValueError("picture")
    drawn.picture = found["picture"]
    drawn.segments = [
        Segment(int(each["number"]), str(each["label"]), bool(each["is_thing"]), bool(each["is_crowd"]))
        for each in found["segments"]
    ]
    if any(segment.label not in labels for segment in drawn.segments):
        raise ValueError("segments")
    drawn.shapes, drawn.crowds, drawn.predicted = (
        Shapes(Shape.restored(each) for each in found[name]) for name in _SHAPES
    )
    if not (drawn.shapes.labels.keys() | drawn.crowds.labels.keys() | drawn.predicted.labels.keys()) <= labels:
        raise ValueError("class")
    if not isinstance(found["model"], str | None):
        raise ValueError("model")
    drawn.model = found["model"]
    return drawn


Parser = Callable[[Drawings, BinaryIO], None]
"""Reads a file, open at its beginning and as long as its content, into the drawings."""


def task(parse: Parser) -> Callable[[Mapping[str, Any], BinaryIO], Answer]:
    """The task of a format's module, for the sandbox: reads one file, or several that stand after each other behind a header.

    The document has the number of images and shapes, and what is wrong; raw has the lines of each file, False for one of
    another kind and None for one that was refused as a whole.
    """

    @functools.wraps(parse)
    def run(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
        faults, found, left = Faults(), Written(), int(arguments["annotations"])
        with refusals():
            for name, content in _files(arguments, file):
                drawings = Drawings(printable(name), faults, left)
                is_read = None
                with faults.noting():
                    try:
                        parse(drawings, content)
                        is_read = True
                    except OtherKindError:
                        is_read = False
                if is_read:
                    drawings.write(found)
                else:
                    found.add(orjson.dumps(is_read))
                left -= drawings.entries
            counts = {"entries": int(arguments["annotations"]) - left, "faults": faults.document()}
            return Answer(document=counts, raw=found.content())

    return run


def question(ask: Callable[[BinaryIO], bool]) -> Callable[[Mapping[str, Any], BinaryIO], Answer]:
    """The task by which a format's module says of a file whether it is one of its own."""

    @functools.wraps(ask)
    def run(arguments: Mapping[str, Any], file: BinaryIO) -> Answer:
        try:
            return Answer(raw=b"true" if ask(file) else b"false")
        except (ValueError, TypeError, KeyError, RefusedError, OtherKindError):
            return Answer(raw=b"false")

    return run


def _files(arguments: Mapping[str, Any], file: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    if "where" in arguments:
        yield arguments["where"], file
        return
    import io

    header = orjson.loads(file.read(arguments["header"]))
    for name, length in header:
        yield name, io.BytesIO(file.read(length))


@contextmanager
def refusals() -> Iterator[None]:
    """Hand refusals of the data plane to the process that asked."""
    try:
        yield
    except RefusedError as error:
        failure = error.failure
        raise TaskRefusedError(failure.message, {"reason": failure.reason.value, "field": failure.field}) from error


def json_of(drawings: Drawings, file: BinaryIO) -> Any:
    """A whole JSON file.

    Raises:
        RefusedError: FORMAT_INVALID when it is none.
    """
    try:
        return orjson.loads(file.read())
    except ValueError as error:
        raise invalid(f"{drawings.where} is no valid JSON: export it again") from error


def entries(drawings: Drawings, file: BinaryIO) -> Iterator[Any]:
    """What stands in the list that a JSON file is, one after the other; of a file with one object that object.

    Raises:
        RefusedError: FORMAT_INVALID when it is no JSON, or has numbers that are too large.
    """
    count = 0
    try:
        for entry in _entries(file):
            yield entry
            count += 1
    except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
        # The words of the parser quote the file.
        raise invalid(
            f"{drawings.where} is no valid JSON, at or after entry {count} (counted from 0): export it again"
        ) from error


def first_entry(file: BinaryIO) -> Any:
    """The first of ``entries``; None when there is none. ValueError for what is no JSON until there."""
    try:
        return next(_entries(file), None)
    except (ijson.JSONError, OverflowError, RecursionError) as error:
        raise ValueError("JSON") from error


def _entries(file: BinaryIO) -> Iterator[Any]:
    first = file.read(_LOOKED_AT).removeprefix(_BOM).lstrip()[:1]
    file.seek(0)
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    yield from yajl2_c.items(file, "item" if first == b"[" else "", use_float=True, buf_size=_PIECE)
