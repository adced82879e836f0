"""The annotation model that all formats are read into and written from: images with class, boxes or shapes, group and split.

Readers produce it, preparation cleans and splits it, versions store it, writers make ready-to-train views of it. It is
independent of formats, sources and frameworks.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias, overload

from typing_extensions import override

from pelagos_contract.beneath import Folder, NoFileError, Opened
from pelagos_contract.dataset import Change, ClassFolder, Corrections
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.formats import FormatDescription
from pelagos_contract.splits import Split
from pelagos_contract.suggestions import Suggested
from pelagos_contract.tasks import Task
from pelagos_contract.taxonomy import TaxonomyRecord
from pelagos_pipelines.annotations import kinds
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.shapes import Kind, Shape, rectangle
from pelagos_pipelines.annotations.untrusted_input import closed, invalid, printable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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
"""Folder and file names that tools use for splits; COCO and Roboflow add a year, as in ``train2017``."""
_NAMED = re.compile(r"[a-z0-9 _.()-]+")
FILLERS = frozenset({"set", "data", "dataset", "images", "image", "imgs", "img", "split", "folder", "samples"})
"""Words in names of splits without a meaning of their own, as in ``training_set``."""

Sizes: TypeAlias = Callable[[str], tuple[int, int] | None]
"""Returns width and height of the upright image of the source in pixels; None for a file that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Box:
    """A bounding box of the class ``label``: left, top, width and height in pixels of the original, upright image."""

    label: str
    x: float
    y: float
    width: float
    height: float


Row: TypeAlias = tuple[str, float, float, float, float]
"""A box as class, left, top, width and height."""


class Boxes(Sequence[Box]):
    """A compact sequence of boxes: 36 bytes each, a fifth of what objects would need, since sources have millions.

    The boxes of all images of a file share two arrays, of which each image has a range.
    """

    __slots__ = ("_classes", "_end", "_names", "_sides", "_start")

    def __init__(
        self, names: Sequence[str], classes: array[int], sides: array[float], start: int = 0, end: int | None = None
    ) -> None:
        """``classes`` are indices of ``names``, int32; ``sides`` has left, top, width and height of each box.

        The range is from ``start`` to before ``end``. The arrays must not be changed any more, since they are shared.
        """
        self._names = names
        self._classes = classes
        self._sides = sides
        self._start = start
        self._end = len(classes) if end is None else end

    @classmethod
    def of(cls, boxes: Iterable[Box], numbers: Mapping[str, int], names: Sequence[str]) -> Boxes:
        """Pack boxes of the classes ``names``, whose indices are ``numbers``."""
        classes, sides = array("i"), array("d")
        for box in boxes:
            classes.append(numbers[box.label])
            sides.extend((box.x, box.y, box.width, box.height))
        return cls(names, classes, sides)

    @classmethod
    def packed(cls, names: Sequence[str], classes: npt.NDArray[np.int32], sides: npt.NDArray[np.float64]) -> Boxes:
        """From numpy arrays, ``classes`` int32 and ``sides`` float64."""
        return cls(names, array("i", classes.tobytes()), array("d", sides.tobytes()))

    def divided(self, ends: Sequence[int]) -> list[Boxes]:
        """Split at the positions ``ends``, without copies."""
        names, classes, sides, first = self._names, self._classes, self._sides, self._start
        return [
            Boxes(names, classes, sides, first + start, first + end)
            for start, end in zip((0, *ends), ends, strict=False)
        ]

    @overload
    def __getitem__(self, index: int) -> Box: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Box, ...]: ...
    @override
    def __getitem__(self, index: int | slice) -> Box | tuple[Box, ...]:
        """A box as a new object, or a tuple of boxes."""
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        number = range(self._start, self._end)[index]
        return Box(self._names[self._classes[number]], *self._sides[4 * number : 4 * number + 4])

    @override
    def __len__(self) -> int:
        """The number of boxes."""
        return self._end - self._start

    @override
    def __eq__(self, other: object) -> bool:
        """As a tuple of the same boxes."""
        return isinstance(other, Boxes | tuple) and tuple(self) == tuple(other)

    @override
    def __hash__(self) -> int:
        """As a tuple of the same boxes."""
        return hash(tuple(self))

    @override
    def __repr__(self) -> str:
        """As a tuple of the same boxes."""
        return repr(tuple(self))

    @property
    def names(self) -> Sequence[str]:
        """The class names that the class numbers refer to; not all of them need to occur."""
        return self._names

    @property
    def classes(self) -> array[int]:
        """The class number of each box."""
        return self._classes[self._start : self._end]

    @property
    def sides(self) -> array[float]:
        """Left, top, width and height of each box, in one array."""
        return self._sides[4 * self._start : 4 * self._end]

    def numbered(self, table: Sequence[int], names: Sequence[str]) -> Boxes:
        """Renumber the classes: ``table`` maps present numbers to indices of ``names``; boxes with a negative one are dropped."""
        classes, sides = array("i", [table[one] for one in self.classes]), self.sides
        if not classes or min(classes) >= 0:
            return Boxes(names, classes, sides)
        kept = [place for place, one in enumerate(classes) if one >= 0]
        sides = array("d", [side for place in kept for side in sides[4 * place : 4 * place + 4]])
        return Boxes(names, array("i", [classes[place] for place in kept]), sides)

    @property
    def labels(self) -> frozenset[str]:
        """The classes that occur."""
        return frozenset(map(self._names.__getitem__, set(self.classes)))

    @staticmethod
    def together(many: Sequence[Boxes], numbers: Mapping[str, int]) -> tuple[array[int], array[float]]:
        """The concatenated classes, numbered by ``numbers``, and sides of several sequences."""
        classes, sides, place = array("i"), array("d"), 0
        while place < len(many):
            first = many[place]
            end = first._start
            # Adjacent ranges of the same arrays are copied as one piece.
            while place < len(many) and many[place]._classes is first._classes and many[place]._start == end:
                end, place = many[place]._end, place + 1
            names = first._names
            classes.extend([numbers[names[number]] for number in first._classes[first._start : end]])
            sides.extend(first._sides[4 * first._start : 4 * end])
        return classes, sides

    def rows(self) -> Iterator[Row]:
        """Class and sides of each box, without creating objects."""
        sides = self.sides
        labels = map(self._names.__getitem__, self.classes)
        return zip(labels, sides[::4], sides[1::4], sides[2::4], sides[3::4], strict=True)


@dataclass(frozen=True, slots=True)
class Part:
    """The origin of a tile: the path of the source image, and the tile's upper left corner in it, in pixels."""

    of: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image. ``path`` is relative to the source, with forward slashes.

    ``width`` and ``height`` are the size that the annotations refer to; None where the format does not have it. ``label`` is the
    class for classification; ``boxes`` are for detection, ``shapes`` for tasks that need more than a box. ``group`` names what a
    split keeps whole, such as a station. ``part`` is set for a tile, whose ``path`` is not a file of the source. ``capture`` is
    set as far as the Dataset asks for it and it is known. ``crowds`` are regions with objects of a class that were not drawn one
    by one: predictions of that class there are not evaluated, and trainings ignore the regions.
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
        """The file of the source that the image is, or is a tile of."""
        return self.path if self.part is None else self.part.of

    @property
    def labels(self) -> frozenset[str]:
        """The classes in the image."""
        if self.label is not None:
            return frozenset({self.label})
        if self.shapes:
            return frozenset(shape.label for shape in self.shapes)
        return self.boxes.labels if isinstance(self.boxes, Boxes) else frozenset(box.label for box in self.boxes)

    @property
    def marks(self) -> Iterator[Shape]:
        """All annotations as shapes."""
        if self.label is not None:
            yield Shape(self.label, Kind.TAG)
        for box in self.boxes:
            yield rectangle(box.label, box.x, box.y, box.width, box.height)
        yield from self.shapes


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A file of the source that is not in the version. ``repeats`` is the image that a duplicate repeats, ``measured`` the value
    that exceeds a threshold.
    """

    path: str
    reason: ExclusionReason
    repeats: str | None = None
    measured: float | None = None

    @classmethod
    def of(cls, paths: Iterable[str], reason: ExclusionReason) -> Iterator[Exclusion]:
        """Exclusions of several files for one reason."""
        return (cls(path, reason) for path in paths)


@dataclass(frozen=True)
class Collection:
    """All images of a source or of a version. The order of ``classes`` gives the class ids.

    ``overlapping`` are images in more than one split of the source, which count as in none. ``excluded`` are the files that the
    reader left out, ``annotation_files`` those that it read; it does not account for other files that are not images. ``altered``
    counts annotations that the task cannot hold as they were drawn, ``corrections`` the outcomes of models' suggestions.
    ``unused`` are declared classes without annotations. ``taxonomy`` has the taxa of classes, where requested.
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
    """An image that was pushed to a tool: its suggestion, if known, and whether a person has reviewed it since."""

    suggested: Suggested | None
    is_reviewed: bool


@dataclass(frozen=True)
class SourceFiles:
    """The regular files below an open folder: sorted relative paths with forward slashes, without hidden files or ways out.

    ``links`` maps names that are links within the source to the files they lead to. ``excluded`` are other entries, which readers
    do not see, with ``warnings`` about them. ``disguised`` are images whose suffix does not show it. ``named_by`` is the field of
    the request that names the folder. ``pushed`` are images that were pushed with suggestions to a tool that does not return
    these, by their names in the tool.
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
        """The files at the top level, where most formats have their settings."""
        return tuple(path for path in self.files if "/" not in path)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """All images of any kind; cleaning excludes those that cannot be read."""
        return tuple(sorted((*self.readable, *self.unreadable)))

    @cached_property
    def readable(self) -> tuple[str, ...]:
        """The images that can be decoded, by their suffix, in upper or lower case."""
        return tuple(path for path in self.files if suffix(path) in kinds.READABLE)

    @cached_property
    def unreadable(self) -> tuple[str, ...]:
        """The images of unreadable kinds, and disguised ones."""
        return tuple(path for path in self.files if suffix(path) in kinds.OTHER or path in self.disguised)

    def read(self, path: str, limit: int) -> bytes:
        """The content of a file of the tree, which is opened below the folder and never through a link.

        Raises:
            TooLargeError: it has more than ``limit`` bytes.
            RefusedError: FORMAT_INVALID when it has become a link, SOURCE_NOT_READABLE without permission.
            ChangedError: it was changed or removed while it was read.
        """
        with self.refusing(path):
            return self.folder.read(self.links.get(path, path), limit)

    def pour(self, path: str, descriptor: int) -> str:
        """Copy a file of the tree into an open file; returns the SHA-256 of the written bytes. Raises as ``open`` does."""
        with self.refusing(path):
            return self.folder.pour(self.links.get(path, path), descriptor)

    @contextmanager
    def open(self, path: str) -> Iterator[Opened]:
        """Open a file of the tree. Raises as ``read`` does."""
        with self.refusing(path), self.folder.open(self.links.get(path, path)) as opened:
            yield opened

    @contextmanager
    def refusing(self, path: str) -> Iterator[None]:
        """Turn errors about the file ``path`` into refusals for people."""
        try:
            yield
        except NoFileError as error:
            raise invalid(
                f"{printable(path)} was replaced by a link or something other than a regular file while the source was read; put "
                "the file itself there, and do not change the source while it is read"
            ) from error
        except PermissionError as error:
            raise closed([path]) from error


@dataclass(frozen=True)
class Asked:
    """The options of a request about annotations, beside their format."""

    task: Task
    class_folder: ClassFolder | None = None
    level: int | str | None = None
    """labels.level; all other fields of labels apply to the classes of any format."""

    @property
    def options(self) -> Mapping[str, str]:
        """The set fields of the request that only some formats support."""
        return {} if self.class_folder is None else {"classFolder": self.class_folder}


def _silent(tree: SourceFiles) -> None:
    """The default of functions without an answer: None."""


@dataclass(frozen=True)
class Format:
    """Reads and writes one format. A new one is a module with a `Format`, and a line in registry.FORMATS.

    ``recognises`` decides for Auto whether files look like the format, and reads little. ``read`` returns the annotations, or
    refuses files that contradict the format, by their names. ``write`` creates a view in an empty folder; its last argument maps
    source paths to image files, and it returns counts of what the format cannot hold. Without it the format is read-only. If
    several formats recognise the files, ``evidence`` says by what this one does. If none does, ``obstacle`` says what is in the
    way of a format that files nearly always resemble, and ``hint`` what may be meant.
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
        """The name in ``spec.format``."""
        return self.description.name

    def carries(self, task: Task) -> bool:
        """Whether the format has annotations for the task."""
        return task in self.description.tasks

    @property
    def tasks(self) -> str:
        """The format's tasks, in words."""
        return " or ".join(task.value for task in self.description.tasks)


def boxes_of(image: ImageRecord) -> Iterator[Row]:
    """Class and sides of each box, without creating objects for compact boxes, since sources have millions."""
    if isinstance(image.boxes, Boxes):
        return image.boxes.rows()
    return ((box.label, box.x, box.y, box.width, box.height) for box in image.boxes)


def judgeable(images: Sequence[ImageRecord], classes: Iterable[str], altered: Altered) -> tuple[ImageRecord, ...]:
    """The images without crowds of classes other than these, which no model knows and no evaluation can use."""
    known, found = frozenset(classes), list[ImageRecord]()
    for image in images:
        left = [crowd for crowd in image.crowds if crowd.label not in known]
        for crowd in left:
            altered.add(crowd, Change.CROWD)
        found.append(replace(image, crowds=tuple(one for one in image.crowds if one not in left)) if left else image)
    return tuple(found)


def suffix(path: str) -> str:
    """The suffix in lower case, like that of pathlib, but without creating a Path, which is slow for many files."""
    return stem_and_suffix(path)[1].lower()


def stem_and_suffix(path: str) -> tuple[str, str]:
    """The file name without folders, divided into the part before the suffix, and the suffix with its dot."""
    name = path.rpartition("/")[2]
    if name in {"", "."}:
        name = PurePosixPath(path).name
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")


def split_of(name: str) -> Split | None:
    """The split that the name of a folder or file means, as in ``val``, ``Valid``, ``train2017`` or ``01_test_set``; or None."""
    return SPLIT_NAMES.get(plain_words(name))


def splits_above(path: str) -> frozenset[Split]:
    """The splits that the folders of a file mean; several are ambiguous."""
    return _splits_in(path.rpartition("/")[0])


def only_split(splits: Set[Split]) -> Split | None:
    """The split of an image; None when it is in no split, or in several, which is ambiguous."""
    return next(iter(splits)) if len(splits) == 1 else None


@lru_cache(maxsize=4096)
def _splits_in(folders: str) -> frozenset[Split]:
    return frozenset(split for folder in folders.split("/") if (split := split_of(folder)) is not None)


@lru_cache(maxsize=4096)
def plain_words(name: str) -> str:
    """A name without numbers, separators and words such as "set": ``holdout`` for ``Hold-out images 2``."""
    lower = name.lower()
    if not _NAMED.fullmatch(lower):
        return lower
    words = [word for word in re.findall("[a-z]+", lower) if word not in FILLERS]
    joined = "".join(words)
    if len(words) != 1:
        return joined
    # A word may be compound: traindata means train. From other words only "set" is removed, since classes may end in fillers.
    split = next((rest for filler in FILLERS if (rest := joined.removesuffix(filler)) in SPLIT_NAMES), None)
    return joined.removesuffix("set") if split is None else split


def declared(names: Sequence[str], images: Sequence[ImageRecord]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The used classes in declared order, and the unused ones.

    Exports often declare classes without annotations (Roboflow's category 0 is named after the project). A model would get an
    output that cannot be trained, so they are left out. Whether names are distinct is checked later (labelling).
    """
    ordered = tuple(dict.fromkeys(names))
    unused = set(ordered)
    for image in images:
        unused -= image.labels
        if not unused:
            break
    return tuple(name for name in ordered if name not in unused), tuple(name for name in ordered if name in unused)
