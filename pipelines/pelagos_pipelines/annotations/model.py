"""What every format is read into and written from: images, their class or their boxes, their group and split.

Readers make it, preparation cleans and divides it, versions store it, writers make ready-to-train views of it.
It knows no format, no place and no framework.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, overload

from pelagos_contract.beneath import Folder, NoFileError, Opened
from pelagos_contract.dataset import Change, ClassFolder, Corrections, Split
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.formats import FormatDescription
from pelagos_contract.suggestions import Suggested
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import TaxonomyRecord
from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.shapes import Kind, Shape, rectangle
from pelagos_pipelines.annotations.untrusted_input import closed, invalid, printable

SPLIT_NAMES: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "validate": "validation",
    "dev": "validation",
    "devel": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "testdev": "test",
    "holdout": "test",
    "heldout": "test",
}
"""Folder and file names by which tools mark splits; COCO and Roboflow add a year, as in ``train2017``."""
_NAMED = re.compile(r"[a-z0-9 _.()-]+")
FILLERS = frozenset({"set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "samples"})
"""Words that say nothing about which split it is, as in ``training_set``."""

Sizes: TypeAlias = Callable[[str], tuple[int, int] | None]
"""Width and height of an image of the source in pixels, upright; None for a file that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box of the class ``label``: left, top, width and height in pixels of the original, upright image."""

    label: str
    x: float
    y: float
    width: float
    height: float


Row: TypeAlias = tuple[str, float, float, float, float]
"""A box as a class, left, top, width and height."""


class Boxes(Sequence[Box]):
    """Boxes in 36 bytes each, where an object for each would need five times as many: sources have millions.

    Those of all images of a file share two arrays, of which each has a range.
    """

    __slots__ = ("_classes", "_end", "_names", "_sides", "_start")

    def __init__(
        self, names: Sequence[str], classes: array[int], sides: array[float], start: int = 0, end: int | None = None
    ) -> None:
        """``classes`` are indices of ``names``, int32; ``sides`` has left, top, width and height of one box after the other.

        They begin with number ``start``, and end before ``end``. Nobody changes the arrays any more.
        """
        self._names = names
        self._classes = classes
        self._sides = sides
        self._start = start
        self._end = len(classes) if end is None else end

    @classmethod
    def of(cls, boxes: Iterable[Box], numbers: Mapping[str, int], names: Sequence[str]) -> Boxes:
        """The same boxes, of the classes ``names``, which ``numbers`` numbers."""
        classes, sides = array("i"), array("d")
        for box in boxes:
            classes.append(numbers[box.label])
            sides.extend((box.x, box.y, box.width, box.height))
        return cls(names, classes, sides)

    @classmethod
    def packed(cls, names: Sequence[str], classes: Any, sides: Any) -> Boxes:
        """The same from arrays of numpy, ``classes`` of int32 and ``sides`` of float64, as annotation files are read."""
        return cls(names, array("i", classes.tobytes()), array("d", sides.tobytes()))

    def divided(self, ends: Sequence[int]) -> list[Boxes]:
        """Those before the first of ``ends``, those from there to the next one, and so on; without copies."""
        names, classes, sides, first = self._names, self._classes, self._sides, self._start
        return [
            Boxes(names, classes, sides, first + start, first + end)
            for start, end in zip((0, *ends), ends, strict=False)
        ]

    @overload
    def __getitem__(self, index: int) -> Box: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Box, ...]: ...
    def __getitem__(self, index: int | slice) -> Box | tuple[Box, ...]:
        """A box, made anew."""
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        number = range(self._start, self._end)[index]
        return Box(self._names[self._classes[number]], *self._sides[4 * number : 4 * number + 4])

    def __len__(self) -> int:
        """How many there are."""
        return self._end - self._start

    def __eq__(self, other: object) -> bool:
        """As a tuple of the same boxes."""
        return isinstance(other, Boxes | tuple) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        """As a tuple of the same boxes."""
        return hash(tuple(self))

    def __repr__(self) -> str:
        """As a tuple of the same boxes."""
        return repr(tuple(self))

    @property
    def names(self) -> Sequence[str]:
        """Those that the numbers of classes stand for; not all need appear."""
        return self._names

    @property
    def classes(self) -> array[int]:
        """The number of the class of each."""
        return self._classes[self._start : self._end]

    @property
    def sides(self) -> array[float]:
        """Left, top, width and height of one after the other."""
        return self._sides[4 * self._start : 4 * self._end]

    def numbered(self, table: Sequence[int], names: Sequence[str]) -> Boxes:
        """With the classes ``names``, of which ``table`` has a number for each of now; boxes of those below zero are left out."""
        classes, sides = array("i", [table[one] for one in self.classes]), self.sides
        if not classes or min(classes) >= 0:
            return Boxes(names, classes, sides)
        kept = [place for place, one in enumerate(classes) if one >= 0]
        sides = array("d", [side for place in kept for side in sides[4 * place : 4 * place + 4]])
        return Boxes(names, array("i", [classes[place] for place in kept]), sides)

    @property
    def labels(self) -> frozenset[str]:
        """The classes that appear."""
        return frozenset(map(self._names.__getitem__, set(self.classes)))

    @staticmethod
    def together(many: Sequence[Boxes], numbers: Mapping[str, int]) -> tuple[array[int], array[float]]:
        """Classes, as ``numbers`` has them, and sides of several, one after the other."""
        classes, sides, place = array("i"), array("d"), 0
        while place < len(many):
            first = many[place]
            end = first._start
            # Those of a file that stand there in this order are one piece of its arrays.
            while place < len(many) and many[place]._classes is first._classes and many[place]._start == end:
                end, place = many[place]._end, place + 1
            names = first._names
            classes.extend([numbers[names[number]] for number in first._classes[first._start : end]])
            sides.extend(first._sides[4 * first._start : 4 * end])
        return classes, sides

    def rows(self) -> Iterator[Row]:
        """Class and sides of each, without an object for it."""
        sides = self.sides
        labels = map(self._names.__getitem__, self.classes)
        return zip(labels, sides[::4], sides[1::4], sides[2::4], sides[3::4], strict=True)


@dataclass(frozen=True, slots=True)
class Part:
    """Where a tile lies: the path of the image of the source that it was cut from, and its left upper corner there, in pixels."""

    of: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image. ``path`` is relative to the source, with forward slashes.

    ``width`` and ``height`` are what the annotations were drawn on; None where the format does not say. ``label`` is the class
    of a classified image; ``boxes`` belong to detection, ``shapes`` to the tasks that need more than a box. ``group`` names what
    must not be cut by a split, such as a station. ``part`` is there of a tile; its ``path`` is no file of the source. ``capture``
    says when and where it was taken, as far as the Dataset asks for that and it is known. ``crowds`` are regions with objects of
    a class that nobody drew one by one: nothing that a model finds of it there is judged, and nothing is learned of them.
    """

    path: str
    width: int | None = None
    height: int | None = None
    group: str | None = None
    split: Split | None = None
    label: str | None = None
    boxes: Sequence[Box] = ()
    shapes: Sequence[Shape] = ()
    part: Part | None = None
    capture: Capture | None = None
    crowds: Sequence[Shape] = ()

    @property
    def file(self) -> str:
        """The file of the source that it is, or is a tile of."""
        return self.path if self.part is None else self.part.of

    @property
    def labels(self) -> frozenset[str]:
        """The classes that the image shows."""
        if self.label is not None:
            return frozenset({self.label})
        if self.shapes:
            return frozenset(shape.label for shape in self.shapes)
        return self.boxes.labels if isinstance(self.boxes, Boxes) else frozenset(box.label for box in self.boxes)

    @property
    def marks(self) -> Iterator[Shape]:
        """All that is said of it, as shapes."""
        if self.label is not None:
            yield Shape(self.label, Kind.TAG)
        for box in self.boxes:
            yield rectangle(box.label, box.x, box.y, box.width, box.height)
        yield from self.shapes


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A file of the source that is not in the version. ``repeats`` is the image that a duplicate shows again, ``measured`` what
    an image has that is beyond a threshold.
    """

    path: str
    reason: ExclusionReason
    repeats: str | None = None
    measured: float | None = None

    @classmethod
    def of(cls, paths: Iterable[str], reason: ExclusionReason) -> Iterator[Exclusion]:
        """Several files that are left out for one reason."""
        return (cls(path, reason) for path in paths)


@dataclass(frozen=True)
class Collection:
    """All images of a source or of a version. The order of ``classes`` gives the class ids.

    ``overlapping`` are images that stand in more than one split of the source, which counts as in none.

    ``excluded`` are the files that the reader left out, ``annotation_files`` those that it read. Files that are neither, and no
    images, are not for it to account for. ``altered`` counts annotations that the task cannot hold as they were drawn,
    ``corrections`` what people made of the suggestions of models. ``unused`` are classes that the source declares and no
    annotation is of. ``taxonomy`` says which taxa classes are, where somebody asked for that.
    """

    task: Task
    classes: tuple[str, ...]
    images: tuple[ImageRecord, ...]
    warnings: tuple[str, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    annotation_files: tuple[str, ...] = ()
    overlapping: tuple[str, ...] = ()
    altered: Altered = field(default_factory=Altered)
    corrections: tuple[Corrections, ...] = ()
    unused: tuple[str, ...] = ()
    taxonomy: TaxonomyRecord | None = None


@dataclass(frozen=True)
class Pushed:
    """An image that a tool was given: what was suggested for it, if known, and whether a person has gone through it since."""

    suggested: Suggested | None
    is_reviewed: bool


@dataclass(frozen=True)
class SourceFiles:
    """The regular files below an open folder: sorted paths relative to it, with forward slashes. Nothing hidden, no way out.

    ``links`` holds, for a name that is a link to a file of the source, the path of that file; ``excluded`` what is there beside
    them and no reader sees, ``warnings`` what should be said of it. ``disguised`` are images whose suffix does not say so.
    ``named_by`` is the field of a request that names the folder. ``pushed`` are images that a tool was given with suggestions and
    does not tell these of, by their names in the tool.
    """

    folder: Folder
    files: tuple[str, ...]
    links: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    excluded: tuple[Exclusion, ...] = ()
    disguised: frozenset[str] = frozenset()
    named_by: str = "source"
    pushed: Mapping[str, Pushed] = field(default_factory=dict)
    known: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", frozenset(self.files))

    @cached_property
    def at_root(self) -> tuple[str, ...]:
        """The files that lie in no folder, where most formats have their settings."""
        return tuple(path for path in self.files if "/" not in path)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """All images, of whatever kind; those that are not read are left to cleaning."""
        return tuple(sorted((*self.readable, *self.unreadable)))

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """The images that can be decoded, by their suffix in any case."""
        return tuple(path for path in self.files if suffix(path) in kinds.READABLE)

    @cached_property
    def unreadable(self) -> tuple[str, ...]:
        """The images of kinds that are not read, and those that are called otherwise."""
        return tuple(path for path in self.files if suffix(path) in kinds.OTHER or path in self.disguised)

    def read(self, path: str, limit: int) -> bytes:
        """The content of a file of the tree, which is opened below the folder and never through a link.

        Raises:
            TooLargeError: it has more than ``limit`` bytes.
            RefusedError: FORMAT_INVALID when it is a link by now, SOURCE_NOT_READABLE when it may not be read.
            ChangedError: it changed, or went, while it was read.
        """
        with self.refusing(path):
            return self.folder.read(self.links.get(path, path), limit)

    def pour(self, path: str, descriptor: int) -> str:
        """Copy a file of the tree into an open one; the sha256 of the bytes that were written. Raises as ``open`` does."""
        with self.refusing(path):
            return self.folder.pour(self.links.get(path, path), descriptor)

    @contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        """A file of the tree, opened. Raises as ``read`` does."""
        with self.refusing(path), self.folder.open(self.links.get(path, path)) as opened:
            yield opened

    @contextmanager
    def refusing(self, path: str) -> Iterator[None]:
        """Say for the reader of ``path`` what is wrong with the file."""
        try:
            yield
        except NoFileError as error:
            raise invalid(
                f"{printable(path)} became a link, or no regular file, while the source was read;"
                " put the file itself there, and let nobody change the source meanwhile"
            ) from error
        except PermissionError as error:
            raise closed([path]) from error


@dataclass(frozen=True)
class Asked:
    """What a request wants of the annotations, beside their format."""

    task: Task
    class_folder: ClassFolder | None = None
    level: int | str | None = None
    """labels.level; what else labels says is for the classes of any format."""

    @property
    def options(self) -> Mapping[str, str]:
        """Fields of the request that are set, and that not every format heeds."""
        return {} if self.class_folder is None else {"classFolder": self.class_folder}


def _silent(tree: SourceFiles) -> None:
    """Nothing to say."""


@dataclass(frozen=True)
class Format:
    """What reads and writes one layout. A new one is a module that makes one, and a line in registry.FORMATS.

    ``recognises`` says for Auto whether files look like the layout; it reads little. ``read`` gives the annotations, or refuses
    files that contradict the layout, by their names. ``write`` makes a view in an empty folder; its last argument holds the bytes
    of every image by its path in the source, and it says what of the annotations the format cannot hold, if there is any.
    Without it the format is read alone. Of files that several recognise, ``evidence`` says what of them is of this one; of those
    that none does, ``obstacle`` what keeps them from being of one that they nearly always resemble, and ``hint`` what may be
    meant.
    """

    description: FormatDescription
    recognises: Callable[[SourceFiles], bool]
    read: Callable[[SourceFiles, Sizes, Asked], Collection]
    write: Callable[[Path, Collection, Mapping[str, Path]], Altered | None] | None = None
    obstacle: Callable[[SourceFiles], str | None] = _silent
    hint: Callable[[SourceFiles], str | None] = _silent
    evidence: Callable[[SourceFiles], str | None] = _silent

    @property
    def name(self) -> str:
        """As in ``spec.format``."""
        return self.description.name

    def carries(self, task: Task) -> bool:
        """Whether its annotations are for the task."""
        return task in self.description.tasks

    @property
    def tasks(self) -> str:
        """The tasks, in words."""
        return " or ".join(task.value for task in self.description.tasks)


def boxes_of(image: ImageRecord) -> Iterator[Row]:
    """Class and sides of each box, without an object for it where there is none: sources have millions."""
    if isinstance(image.boxes, Boxes):
        return image.boxes.rows()
    return ((box.label, box.x, box.y, box.width, box.height) for box in image.boxes)


def judgeable(images: Sequence[ImageRecord], classes: Iterable[str], altered: Altered) -> tuple[ImageRecord, ...]:
    """The images without crowds of other classes than these: no model knows them, and nothing of them can be judged."""
    known, found = frozenset(classes), list[ImageRecord]()
    for image in images:
        left = [crowd for crowd in image.crowds if crowd.label not in known]
        for crowd in left:
            altered.add(crowd, Change.CROWD)
        found.append(replace(image, crowds=tuple(one for one in image.crowds if one not in left)) if left else image)
    return tuple(found)


def suffix(path: str) -> str:
    """The file's suffix in lower case, as pathlib has it, without making a path: that takes longer, and sources have many."""
    return stem_and_suffix(path)[1].lower()


def stem_and_suffix(path: str) -> tuple[str, str]:
    """What a file is called before its suffix, and the suffix with its dot; without folders."""
    name = path.rpartition("/")[2]
    if name in {"", "."}:
        name = PurePosixPath(path).name
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def split_of(name: str) -> Split | None:
    """The split that the name of a folder or file stands for, as in ``val``, ``Valid``, ``train2017`` or ``01_test_set``."""
    return SPLIT_NAMES.get(plain_words(name))


def splits_above(path: str) -> frozenset[Split]:
    """The splits that the folders of a file stand for: none, one, or several, which leaves open which."""
    return _splits_in(path.rpartition("/")[0])


def only_split(splits: Set[Split]) -> Split | None:
    """The split of an image; None when it stands in none, or in several, of which nobody can say which is meant."""
    return next(iter(splits)) if len(splits) == 1 else None


@lru_cache(maxsize=4096)
def _splits_in(folders: str) -> frozenset[Split]:
    return frozenset(split for folder in folders.split("/") if (split := split_of(folder)) is not None)


@lru_cache(maxsize=4096)
def plain_words(name: str) -> str:
    """What a name says without numbers, separators and words such as "set": ``holdout`` for ``Hold-out images 2``."""
    lower = name.lower()
    if not _NAMED.fullmatch(lower):
        return lower
    words = [word for word in re.findall("[a-z]+", lower) if word not in FILLERS]
    joined = "".join(words)
    if len(words) != 1:
        return joined
    # One word may be made of two: traindata is train. Others keep all but "set", because classes may end so, too.
    split = next((rest for filler in FILLERS if (rest := joined.removesuffix(filler)) in SPLIT_NAMES), None)
    return joined.removesuffix("set") if split is None else split


def declared(names: Sequence[str], images: Sequence[ImageRecord]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that are used, in their declared order, and the ones that are not.

    Exports often declare classes that nothing shows (Roboflow's category 0 is named after the project). A model would get
    an output that nothing can teach, so they are left out. Whether names can be told apart is judged later (labelling).
    """
    ordered = tuple(dict.fromkeys(names))
    unused = set(ordered)
    for image in images:
        unused -= image.labels
        if not unused:
            break
    return tuple(name for name in ordered if name not in unused), tuple(name for name in ordered if name in unused)
