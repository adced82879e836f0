"""Reads the annotation files of tools: shapes of images, which are found by their names, converted to what the task needs.

A format is a `Tool`: it names its annotation files, and the module whose task ``parse`` reads one (see drawings). Everything else
is common to all and here: finding the file of an image, its split, what is left out, and the warnings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.formats import FormatDescription
from pelagos_contract.splits import Split
from pelagos_pipelines.annotations import label_paths, naming, placing, reading, untrusted_input
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.corrections import Corrected
from pelagos_pipelines.annotations.drawings import Drawings, Drawn
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.many_shapes import Shapes
from pelagos_pipelines.annotations.model import (
    Asked,
    Collection,
    Exclusion,
    ImageRecord,
    Sizes,
    SourceFiles,
    declared,
    only_split,
    splits_above,
)
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import class_name, format_names, invalid, printable

_LOOKED_AT = 3
"""Least number of files that are examined to recognise a format."""


def _none(tree: SourceFiles) -> Sequence[str]:
    """Default of ``pictures``: no picture is an annotation."""
    return ()


@dataclass(frozen=True)
class Tool:
    """A format of a tool. ``files`` are its annotation files in a source; ``parser`` is the module that reads one.

    ``said`` has the sentence for each count of things that the parser does not read. ``path`` is the attribute of a shape with
    the position of its label in a tree, which distinguishes labels of the same name. ``is_whole``: a file has all annotations of
    its images, so another file with the same images may be an older one. ``pictures`` are images of the source that are
    annotations themselves; ``fill`` adds their content, or other knowledge about the images, to the drawings of a file.
    """

    description: FormatDescription
    files: Callable[[SourceFiles], Sequence[str]]
    parser: str
    said: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    is_whole: bool = False
    pictures: Callable[[SourceFiles], Sequence[str]] = _none
    fill: Callable[[SourceFiles, str, Drawings, Faults], None] | None = None

    def recognised(self, tree: SourceFiles, paths: Sequence[str]) -> bool:
        """Whether one of a few evenly spread files is of the tool, by the task ``is_one`` of its parser."""
        return next(self._of_it(tree, paths), None) is not None

    def evidence(self, tree: SourceFiles) -> str | None:
        """A sentence that names the file by which the format was recognised; None without one."""
        path = next(self._of_it(tree, self.files(tree)), None)
        return None if path is None else f"{printable(path)} is written like the files of {self.description.name}"

    def _of_it(self, tree: SourceFiles, paths: Sequence[str]) -> Iterator[str]:
        return (path for path in paths[:: max(1, len(paths) // _LOOKED_AT)] if self._is_one(tree, path))

    def _is_one(self, tree: SourceFiles, path: str) -> bool:
        try:
            return reading.answered("is_one", tree, path, self.parser)
        except RefusedError:
            return False

    def read(self, tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
        """Read the annotations of all files of the tool; see model.Format."""
        files = self.files(tree)
        if not files:
            raise invalid(f"there is no annotation file; {self.description.name} expects {self.description.layout}")
        pictures = frozenset(self.pictures(tree))
        found = _Reading(replace(tree, files=tuple(path for path in tree.files if path not in pictures)))
        for path, drawings in reading.drawings(self.parser, tree, files, found.faults):
            if drawings is None:
                found.others.append(path)
                continue
            if self.fill is not None:
                self.fill(tree, path, drawings, found.faults)
            found.take(path, drawings)
        files = [path for path in files if path not in found.others]
        if not files and not found.faults.count:
            raise invalid(
                f"{format_names(found.others)} is not of {self.description.name}, which expects {self.description.layout}"
            )
        return found.collection(self, [*files, *sorted(pictures)], sizes, asked)


@dataclass
class _Reading:
    """The results of the files read to this point, by the path of an image."""

    tree: SourceFiles
    shapes: dict[str, Shapes] = field(default_factory=dict)
    entries: dict[str, Drawn] = field(default_factory=dict)
    """The first entry of each image, whose size the shapes refer to."""
    splits: dict[str, frozenset[Split]] = field(default_factory=dict)
    classes: dict[str, None] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    orphans: list[str] = field(default_factory=list)
    lost: int = 0
    renamed: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files of another kind."""
    corrected: Corrected = field(default_factory=Corrected)
    partly: set[str] = field(default_factory=set)
    """Images that also have annotations that the parser does not read."""
    files: dict[str, str] = field(default_factory=dict)
    """The first file that names an image."""
    several: set[str] = field(default_factory=set)
    """Images that more than one file names."""
    likened: set[str] = field(default_factory=set)
    """Images that were not found by the best of their names."""
    waiting: dict[str, None] = field(default_factory=dict)
    """Images that nobody has annotated yet, according to the tool."""
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self._names = naming.Names(self.tree.images)
        self._known = frozenset(self.tree.images)

    def take(self, path: str, drawings: Drawings) -> None:
        """Add the content of a file."""
        self.classes.update(dict.fromkeys(drawings.classes))
        self.counted.update(drawings.counted)
        for drawn in drawings.images:
            with self.faults.noting():
                self._take(path, drawn)

    def _take(self, path: str, drawn: Drawn) -> None:
        image, is_likened, meant = self._find(path, drawn)
        if image is None:
            # An image of a task that nobody has worked on may be missing, since that changes nothing.
            if not drawn.is_labelled and not drawn.shapes:
                self.counted[_UNSEEN] += 1
                return
            self.lost += 1
            if len(self.orphans) < untrusted_input.MAX_NAMED:
                place = f"{printable(path)}: {drawn.place}"
                self.orphans.append(untrusted_input.with_nearest(place, meant, self._names.nearest(drawn.names[0])))
            return
        self._enter(path, image, drawn, is_likened=is_likened)
        if drawn.split is not None:
            self.splits[image] = self.splits.get(image, frozenset()) | {drawn.split}
        if drawn.is_labelled or drawn.shapes:
            if image in self.shapes:
                self.shapes[image].extend(drawn.shapes)
            else:
                self.shapes[image] = drawn.shapes
            if drawn.left:
                self.partly.add(image)
            if drawn.model is not None:
                self.corrected.add(drawn.model, list(drawn.predicted), list(drawn.shapes))
        else:
            self.waiting[image] = None

    def _enter(self, path: str, image: str, drawn: Drawn, *, is_likened: bool) -> None:
        """Record the size in which an image is annotated. Raises RefusedError when it differs from an earlier one."""
        first = self.entries.setdefault(image, drawn)
        before = self.files.setdefault(image, path)
        if before != path:
            self.several.add(image)
        self.likened |= {image} if is_likened else set()
        if first.names[0] != drawn.names[0] and image in self.likened:
            raise invalid(
                f"{printable(image)} is named by two annotated images, {printable(before)}: {first.place}, and "
                f"{printable(path)}: {drawn.place}: add the missing one, or remove its annotations"
            )
        if first.width is None:  # the file had no size, for example for a task without a region
            self.entries[image] = drawn
        elif drawn.width is not None and (first.width, first.height) != (drawn.width, drawn.height):
            raise invalid(
                f"{printable(image)} is annotated as {first.width} x {first.height} and as {drawn.width} x {drawn.height} pixels"
                f" ({printable(path)}: {drawn.place}): annotate it in one size"
            )

    def _find(self, path: str, drawn: Drawn) -> tuple[str | None, bool, Sequence[str]]:
        """The only image that a name fits, or None; whether it was not the best name; and the candidates if there is none."""
        here = PurePosixPath(path).parent
        meant: Sequence[str] = ()
        for name in drawn.names:
            plain = name.replace("\\", "/").lstrip("/")
            for exact in (str(here / plain), plain):
                if exact in self._known:
                    return exact, name != drawn.names[0], ()
        for name in drawn.names:
            alike = self._names.alike(name)
            if len(alike) == 1:
                self.renamed.append(alike[0])
                return alike[0], True, ()
            meant = meant or alike
        return None, False, meant

    def collection(self, tool: Tool, files: Sequence[str], sizes: Sizes, asked: Asked) -> Collection:
        """The collection for the task.

        Raises:
            RefusedError: the files have faults, or nothing in them is for the task.
        """
        if self.lost:
            self.faults.add(untrusted_input.missing_images(self.orphans, self.lost))
        strategy, left = TASKS.named(asked.task), _Left()
        renamed = self._tell_apart(tool.path) if tool.path else []
        images: dict[str, ImageRecord] = {}
        for path in sorted(self.shapes):
            with self.faults.noting():
                found = list(self.shapes[path])
                taken = (
                    strategy.drawn(self._record(path), found, left.altered)
                    if found or path not in self.partly
                    else None
                )
                if taken is None:
                    left.useless.append(path)
                else:
                    images[path] = taken
        records = tuple(images.values())
        placing.refuse_any(self.faults, records, sizes)
        labels = {label for record in records for label in record.labels}
        classes, left.unused = declared([*self.classes, *sorted(labels - self.classes.keys())], records)
        if not classes:
            raise _nothing(tool, asked, [*left.altered.warnings, *self._counted(tool)])
        left.waiting = [path for path in self.waiting if path not in self.shapes]
        mentioned = {*self.shapes, *left.waiting}
        left.unlisted = [path for path in self.tree.images if path not in mentioned]
        left.overlapping = [path for path in images if len(self._splits(path)) > 1]
        return Collection(
            asked.task,
            classes,
            records,
            (
                *untrusted_input.matched(self.renamed, "names in annotation files differ from those of the images"),
                *(self._others() if self.others else ()),
                *_told_apart(renamed),
                *(_exported_twice(sorted(self.several)) if self.several and tool.is_whole else ()),
                *self._counted(tool),
                *left.warnings,
            ),
            (
                *Exclusion.of(left.unlisted, ExclusionReason.UNLISTED),
                *Exclusion.of(sorted({*left.waiting, *left.useless}), ExclusionReason.UNLABELLED),
            ),
            tuple(files),
            tuple(left.overlapping),
            left.altered,
            tuple(self.corrected),
            unused=tuple(left.unused),
        )

    def _tell_apart(self, attribute: str) -> list[str]:
        """Rename labels of one name at several positions of a tree, so that they differ; returns the new names."""
        paths: dict[str, set[str]] = {}
        for shape in (shape for shapes in self.shapes.values() for shape in shapes):
            paths.setdefault(shape.label, set()).add(shape.attributes.get(attribute, ""))
        names = label_paths.names(paths)
        if names:
            for path, shapes in self.shapes.items():
                keys = ((shape.label, shape.attributes.get(attribute, "")) for shape in shapes)
                self.shapes[path] = Shapes(
                    replace(shape, label=class_name(names[key], printable(path))) if key in names else shape
                    for shape, key in zip(shapes, keys, strict=True)
                )
        return sorted(set(names.values()))

    def _others(self) -> Iterator[str]:
        yield f"{len(self.others)} files are of another kind and are not read: {format_names(self.others)}"

    def _record(self, path: str) -> ImageRecord:
        entry = self.entries[path]
        return ImageRecord(
            path,
            entry.width,
            entry.height,
            entry.group or untrusted_input.original_of(path),
            only_split(self._splits(path)),
        )

    def _splits(self, path: str) -> frozenset[Split]:
        return self.splits.get(path) or splits_above(path)

    def _counted(self, tool: Tool) -> Iterator[str]:
        said = {**_SAID, **tool.said}
        return (f"{self.counted[what]} {words}" for what, words in said.items() if self.counted[what])


@dataclass
class _Left:
    """What is left out of the collection or changed. ``useless`` are images none of whose shapes the task accepts."""

    altered: Altered = field(default_factory=Altered)
    unlisted: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    useless: list[str] = field(default_factory=list)
    overlapping: list[str] = field(default_factory=list)
    unused: Sequence[str] = ()

    @property
    def warnings(self) -> Iterator[str]:
        if self.unlisted:
            yield f"{len(self.unlisted)} images are in no annotation file and are left out: {format_names(self.unlisted)}"
        if self.waiting:
            yield (
                f"{len(self.waiting)} images are not annotated yet, and are left out: {format_names(self.waiting)}; submit them "
                "without a shape if they show nothing"
            )
        yield from self.altered.warnings
        if self.useless:
            yield (
                f"{len(self.useless)} images have only annotations that are left out, and are left out themselves, as they are "
                f"not backgrounds: {format_names(self.useless)}"
            )
        if self.overlapping:
            torn = format_names(self.overlapping)
            yield f"{len(self.overlapping)} images are in more than one split, and count as in none: {torn}"
        yield from untrusted_input.unused_classes(self.unused)


def _exported_twice(images: Sequence[str]) -> Iterator[str]:
    yield (
        f"{len(images)} images are annotated in more than one file: {format_names(images)}; the annotations of all files count: "
        "if a file is an older export of another, remove it"
    )


def _told_apart(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield (
            f"{len(names)} labels share their name with another one in the tree, and are distinguished by what is above them: "
            f"{format_names(names)}"
        )


_UNSEEN = "unseen"
_SAID: Mapping[str, str] = {_UNSEEN: "images that are not annotated yet are not in the source"}


def _nothing(tool: Tool, asked: Asked, found: Sequence[str]) -> RefusedError:
    there = f" ({'; '.join(found)})" if found else ""
    return RefusedError(
        Reason.TASK_MISMATCH,
        f"no image has an annotation that {asked.task.value} can be learned from{there}; expected is"
        f" {tool.description.layout}: annotate for that task, or set task to what the source is annotated for",
        "task",
    )
