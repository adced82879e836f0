"""The contents of annotation files on their way from the sandbox child that parses them to the process that asked.

In the child, a format's module fills a `Drawings` with images and shapes; `task` turns its parser into a task. The result is
checked again in this process (`restored`), since a compromised child may answer anything.
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

from pelagos_contract.failures import RefusedError
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.many_shapes import Shapes, Written
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.annotations.untrusted_input import class_name, encoded, invalid, printable, too_many
from pelagos_pipelines.sandbox import Answer, TaskRefusedError

MAX_TEXT = 1000
"""Most characters of an attribute, of an annotator, and of a shape's id."""
MAX_ATTRIBUTES = 100
MAX_NAME = 4096
"""Most characters of an image's name."""
_PIECE = 1 << 18
_LOOKED_AT = 4096
"""Bytes in which the start of JSON is looked for."""
_BOM = b"\xef\xbb\xbf"


class OtherKindError(Exception):
    """Raised by a parser for a file of another kind, which is skipped and reported by name."""


@dataclass(frozen=True)
class Segment:
    """A segment of a picture whose pixels are numbers of segments."""

    number: int
    label: str
    is_thing: bool
    is_crowd: bool


@dataclass(slots=True)
class Drawn:
    """An image in a file, by its possible ``names``, best first, which are paths or ends of paths.

    ``is_labelled``: somebody has looked at it, so that it is a background if it has no shapes. ``place``: its position in the
    file.
    """

    names: tuple[str, ...]
    place: str
    width: int | None = None
    height: int | None = None
    split: Split | None = None
    group: str | None = None
    is_labelled: bool = True
    left: int = 0
    """Annotations that the parser counts without reading them: an image with only such annotations is not a background."""
    shapes: Shapes = field(default_factory=Shapes)
    crowds: Shapes = field(default_factory=Shapes)
    """Regions with objects that were not drawn one by one."""
    model: str | None = None
    """The model of ours whose suggestions, ``predicted``, a person reviewed to produce the shapes."""
    predicted: Shapes = field(default_factory=Shapes)
    picture: str | None = None
    """The picture that contains ``segments``; the caller converts them to shapes."""
    segments: list[Segment] = field(default_factory=list)


_SHAPES = ("shapes", "crowds", "predicted")
_PLAIN = tuple(each.name for each in fields(Drawn) if each.name not in {*_SHAPES, "segments"})


@dataclass
class Drawings:
    """The content of one file: ``classes`` in order of declaration, images, and counts of what is not read.

    A parser creates one for the file ``where`` and calls ``image`` and ``shape``; ``limit`` is the most calls of both together.
    """

    where: str
    faults: Faults
    limit: int
    classes: list[str] = field(default_factory=list)
    images: list[Drawn] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    entries: int = 0

    def declare(self, name: object, place: str) -> None:
        """Add a class that the file declares, even if no shape has it. Raises RefusedError for an invalid name."""
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
        """Add an image; ``size`` is width and height in pixels, None or 0 where the file does not have them.

        Raises:
            RefusedError: none of the names is valid, or a side is not an integer.
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
            raise invalid(
                f"{self.where}: {place} has a width or height that is not a whole number of pixels: correct it"
            )
        return int(side) or None

    def shape(
        self,
        image: Drawn,
        place: str,
        label: object,
        make: Callable[[str], Shape | None],
    ) -> None:
        """Add the shape that ``make`` returns for the class; a fault is noted, and reading continues.

        ``make`` raises ValueError for numbers that are not such a shape. A message that begins with "a" or "an" is shown to
        people; others may quote the file, and are replaced.
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
        """Count an annotation that is not a shape, for the sentence under ``what`` in the `Tool`'s ``said``."""
        self._count()
        self.counted[what] += 1
        image.left += 1

    def _words(self, error: Exception) -> str:
        # Text of the file is never shown: only our own messages are passed on.
        told = str(error) if type(error) is ValueError else ""
        return told if told.startswith(("a ", "an ", "key points")) else "it has numbers that are not coordinates"

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self.limit:
            raise too_many(self.where, self.limit)

    def write(self, target: Written) -> None:
        """Write the task's answer: a line for the file and one for each image. The images are released."""
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
        """Parse the lines of ``write``; ``found`` is the first. Raises ValueError, TypeError, KeyError or IndexError
        otherwise."""
        # Checked again, since the child may be compromised: only valid names are used.
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
    """The shape, if its texts and attributes are within the limits that protect the readers' memory."""
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
"""Parses an open file, positioned at its start, into the drawings."""


def task(parse: Parser) -> Callable[[Mapping[str, Any], BinaryIO], Answer]:
    """Make a sandbox task of a format's parser, which reads one file, or several concatenated files after a header.

    The answer's document has the number of images and shapes, and the faults. Raw has the lines of each file, False for one of
    another kind, and None for one that was refused as a whole.
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
    """Make a sandbox task of a function that decides whether a file is of the format."""

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
    """Pass refusals on to the process that asked."""
    try:
        yield
    except RefusedError as error:
        failure = error.failure
        raise TaskRefusedError(failure.message, {"reason": failure.reason.value, "field": failure.field}) from error


def json_of(drawings: Drawings, file: BinaryIO) -> Any:
    """Parse a whole JSON file.

    Raises:
        RefusedError: FORMAT_INVALID when it is not JSON.
    """
    try:
        return orjson.loads(file.read())
    except ValueError as error:
        raise invalid(f"{drawings.where} is not valid JSON: export it again") from error


def entries(drawings: Drawings, file: BinaryIO) -> Iterator[Any]:
    """The entries of a JSON file with a list, one after the other, or its only object.

    Raises:
        RefusedError: FORMAT_INVALID when it is not JSON, or has numbers that are too large.
    """
    count = 0
    try:
        for entry in _entries(file):
            yield entry
            count += 1
    except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
        # The parser's own message would quote the file.
        raise invalid(
            f"{drawings.where} is not valid JSON, at or after entry {count} (counted from 0): export it again"
        ) from error


def first_entry(file: BinaryIO) -> Any:
    """The first of ``entries``; None when there is none. Raises ValueError if the file is not JSON up to there."""
    try:
        return next(_entries(file), None)
    except (ijson.JSONError, OverflowError, RecursionError) as error:
        raise ValueError("JSON") from error


def members(drawings: Drawings, file: BinaryIO, prefix: str) -> Iterator[tuple[str, Any]]:
    """The members of the object at ``prefix`` in a JSON file, one after the other. Raises as ``entries`` does."""
    count = 0
    try:
        for member in yajl2_c.kvitems(_at_start(file), prefix, use_float=True, buf_size=_PIECE):
            yield member
            count += 1
    except (ijson.JSONError, ValueError, OverflowError, RecursionError) as error:
        raise invalid(
            f"{drawings.where} is not valid JSON, at or after member {count} (counted from 0): export it again"
        ) from error


def events(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The parts of a JSON file, as ijson names them, without building values. Raises ValueError if it is not JSON up to there."""
    try:
        yield from yajl2_c.basic_parse(_at_start(file), use_float=True, buf_size=_LOOKED_AT)
    except (ijson.JSONError, OverflowError, RecursionError) as error:
        raise ValueError("JSON") from error


def _entries(file: BinaryIO) -> Iterator[Any]:
    first = file.read(_LOOKED_AT).removeprefix(_BOM).lstrip()[:1]
    yield from yajl2_c.items(_at_start(file), "item" if first == b"[" else "", use_float=True, buf_size=_PIECE)


def _at_start(file: BinaryIO) -> BinaryIO:
    """The file at its start, after a byte order mark."""
    file.seek(0)
    if file.read(len(_BOM)) != _BOM:
        file.seek(0)
    return file
