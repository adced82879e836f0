"""COCO detection: JSON files with images, annotations and categories, in the layouts of COCO itself, CVAT and Roboflow.

Boxes are x, y, width, height in pixels; category ids are any integers. ``images[].group`` (which a split keeps whole) and
``images[].split`` are our extensions. Otherwise the split comes from the name of the file (``instances_val2017.json``) or of its
folder (``valid/_annotations.coco.json``), else from the folders of the image.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import orjson

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.formats import COCO
from pelagos_contract.splits import SPLITS, Split
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import coco_panoptic, coco_writing, linking, naming, placing, untrusted_input, via
from pelagos_pipelines.annotations import reading as reading_
from pelagos_pipelines.annotations.acyclic import uncollected
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.drawings import Drawn
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import (
    SPLIT_NAMES,
    Asked,
    Box,
    Boxes,
    Collection,
    Exclusion,
    Format,
    ImageRecord,
    Sizes,
    SourceFiles,
    declared,
    judgeable,
    only_split,
    split_of,
    splits_above,
    suffix,
)
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.sandbox.ceilings import Ceilings

_SHAPES = "pelagos_pipelines.annotations.coco_shapes_document"
_NAMES = re.compile(r"^(annotations.*|instances_.*|_annotations\.coco)\.json$", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9]+")
_FIFTYONE = "labels.json"
"""FiftyOne's file name, at the root or beside a folder ``data`` with the images."""
_PLAIN = frozenset({"result.json", "dataset.json"})
"""File names of Label Studio and others that are too common to decide by: the content of the file decides."""
_LISTS = (b'"images"', b'"annotations"', b'"categories"')
_PIECE = 1 << 20
_SAID: Mapping[str, str] = {
    "unnumbered": "pixels of pictures have a number that no segment has, and belong to nothing",
    "absent": "segments have no pixel in their picture, and are left out",
    "crowds": "annotations mark crowds (iscrowd): regions in which detections of their class are not judged; for "
    "SemanticSegmentation, pixels of the class",
    "boxless": "annotations without a bounding box are left out",
    "outlined": "annotations have no bbox; the box around their polygons or mask is used",
    "shaped": "annotations have key points or outlines in addition to their box; only the box is read",
    "misfits": "boxes do not surround the polygon or mask given with them; the boxes are kept: check them",
    "rotated": "boxes are rotated (attributes.rotation); they are read without their rotation",
    "respelt": "annotations write the id of their image differently from images[] (spaces, case, zeros, decimals); the only "
    "image with that id is used",
    "slight": "boxes are less than one pixel wide or high: check them",
    "doubted": "boxes are given for two or more classes; all are kept: check them",
    "repeated": "annotations repeat another with the same image, category and box; one of each is kept",
}
"""The sentence that follows each count of a file in warnings."""
_SINGLE = "set iscrowd to 0 where an annotation shows one object: many tools mark every mask as a crowd"
_MOST_OTHERS = 20
"""Most JSON files of other names that are examined when images are in no annotation file."""


@dataclass
class _Reading:
    """The results of the files read to this point."""

    names: list[str]
    images: dict[str, ImageRecord]
    orphans: list[str]
    """Places of the first annotations without an image; ``lost`` is their total number."""
    files: naming.Names
    """Finds images for names that are not spelled exactly; ``renamed`` are the images found in that way."""
    known: frozenset[str]
    apart: frozenset[PurePosixPath] = frozenset()
    """The folder of all annotation files when it has no images: images need not be in a folder of the same name."""
    lost: int = 0
    renamed: list[str] = field(default_factory=list)
    looked: dict[str, None] = field(default_factory=dict)
    """The folders that were searched for missing images."""
    annotations: int = 0
    asked: Asked = field(default_factory=lambda: Asked(Task.DETECTION))
    altered: Altered = field(default_factory=Altered)
    counts: Counter[str] = field(default_factory=Counter)
    """The counts of reading.Coco."""
    unlabelled: dict[str, None] = field(default_factory=dict)
    """Images all of whose annotations were left out, which therefore do not count as backgrounds."""
    overlapping: list[str] = field(default_factory=list)
    """Images whose split comes from their folders only, which name several."""
    recomposed: list[str] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)


def recognises(tree: SourceFiles) -> bool:
    """Whether a file is named like those of COCO, and is not of VIA."""
    files = _files(tree) if tree.images else []
    if not files:
        return bool(tree.images) and bool(coco_panoptic.files(tree))
    if files != [_FIFTYONE]:
        # People also save what VIA exports as annotations.json.
        return any(not via.TOOL.recognised(tree, [path]) for path in files)
    # Other tools use the name labels.json too, so it must mention annotations. A file too large to check has no other purpose.
    try:
        lines = reading_.lines(tree, _FIFTYONE, reading_.MAX_SETTINGS)
    except RefusedError:
        return True
    return any('"annotations"' in line for _, line in lines)


@uncollected()
def read(tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """Read all annotation files into one collection; their categories are merged by name."""
    # If a source only has panoptic files they serve every task, and their pictures are not images of the source.
    is_panoptic = asked.task is Task.PANOPTIC_SEGMENTATION or not _files(tree)
    segments = coco_panoptic.files(tree) if is_panoptic else []
    pictures = coco_panoptic.pictures(tree, segments)
    whole, among = tree, set(pictures)
    if among:
        tree = replace(tree, files=tuple(path for path in tree.files if path not in among))
    files = segments or _files(tree) or [path for path in tree.files if suffix(path) == ".json"]
    if not files:
        raise untrusted_input.invalid(f"there is no annotation file; Coco expects {COCO.layout}")
    folders = frozenset(PurePosixPath(path).parent for path in files)
    among_images = any(path.startswith(f"{folder}/") for folder in folders for path in tree.images)
    apart = folders if len(folders) == 1 and not among_images else frozenset()
    reading = _Reading([], {}, [], naming.Names(tree.images), frozenset(tree.images), apart, asked=asked)
    for path in files:
        with reading.faults.noting():
            _read_file(whole if segments else tree, path, reading)
    if reading.lost:
        reading.faults.add(untrusted_input.missing_images(reading.orphans, reading.lost, reading.looked))
    images = tuple(reading.images[path] for path in sorted(reading.images))
    unlisted = [path for path in tree.images if path not in reading.images and path not in reading.unlabelled]
    others = [path for path in tree.files if suffix(path) == ".json" and path not in files] if unlisted else []
    if not reading.faults.count:
        _find_passed_over(tree, others, frozenset(unlisted), reading)
    placing.refuse_any(reading.faults, images, sizes)
    classes, unused = declared(reading.names, images)
    if not classes:
        raise untrusted_input.unannotated(
            COCO.layout, list(_counted(reading.counts)), _SINGLE if reading.counts["crowds"] else ""
        )
    images = judgeable(images, classes, reading.altered)
    warnings = tuple(_warnings(reading, unlisted, others, unused))
    # The counts of files must add up: an image without a record must be excluded with a reason.
    excluded = (
        *Exclusion.of(unlisted, ExclusionReason.UNLISTED),
        *Exclusion.of(reading.unlabelled, ExclusionReason.UNLABELLED),
    )
    torn = tuple(sorted(reading.overlapping))
    read_files = (*files, *pictures)
    return Collection(
        asked.task, classes, images, warnings, excluded, read_files, torn, reading.altered, unused=tuple(unused)
    )


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> Altered | None:
    """Write ``images/<split>/`` and ``annotations/instances_<split>.json``; category ids begin at 1, as in COCO."""
    if collection.task is Task.PANOPTIC_SEGMENTATION:
        return coco_panoptic.write(target, collection, blobs)
    names = linking.numbered(collection.images)
    taxa = coco_writing.taxa(collection)
    categories = [
        {"id": index + 1, "name": label, **taxa.get(label, {})} for index, label in enumerate(collection.classes)
    ]
    ids = {label: index + 1 for index, label in enumerate(collection.classes)}
    (target / "annotations").mkdir(parents=True)
    for split in SPLITS:
        (target / "images" / split).mkdir(parents=True)
        images = [image for image in collection.images if image.split == split]
        entries: list[dict[str, object]] = []
        with linking.Into(target, blobs) as view:
            for index, image in enumerate(images):
                name = names[image.path]
                view.show(image.path, f"images/{split}/{name}")
                size = {"width": image.width, "height": image.height}
                group = {} if image.group is None else {"group": image.group}
                entries.append({"id": index, "file_name": name, **size, "source": image.path, **group})
        annotations = [
            {"id": number, "image_id": index, "category_id": ids[label], **shown}
            for number, (index, label, shown) in enumerate(
                (
                    (index, label, shown)
                    for index, image in enumerate(images)
                    for label, shown in coco_writing.marks(image)
                ),
                start=1,
            )
        ]
        content = {"images": entries, "annotations": annotations, "categories": categories}
        (target / "annotations" / f"instances_{split}.json").write_bytes(orjson.dumps(content))
    return None


def _files(tree: SourceFiles) -> list[str]:
    """The files named like those of COCO, CVAT and Roboflow, else FiftyOne's, which only means COCO beside a folder data."""
    named = [path for path in tree.files if _NAMES.match(path.rpartition("/")[2])]
    if named:
        return named
    found = [path for path in tree.files if PurePosixPath(path).name.lower() == _FIFTYONE]
    data = {str(above).lower() for path in tree.images for above in PurePosixPath(path).parents} if found else set()
    found = [path for path in found if path == _FIFTYONE or str(PurePosixPath(path).parent / "data").lower() in data]
    plain = [path for path in tree.files if PurePosixPath(path).name.lower() in _PLAIN] if not found else []
    return found or [path for path in plain if _has_lists(tree, path)]


def _has_lists(tree: SourceFiles, path: str) -> bool:
    """Whether the names of all lists of a COCO file occur anywhere in it. Nothing is parsed."""
    left, before = set(_LISTS), b""
    with tree.open(path) as file, os.fdopen(os.dup(file.descriptor), "rb") as content:
        content.seek(0)
        while left and (piece := content.read(_PIECE)):
            left = {name for name in left if name not in before + piece}
            before = piece[-max(map(len, _LISTS)) :]
    return not left


def _read_file(tree: SourceFiles, path: str, reading: _Reading) -> None:
    """Add the images and boxes of one file; faults are noted, image by image."""
    where = untrusted_input.printable(path)
    split_of_file = _split(path)
    of_file = None if split_of_file is None else frozenset({split_of_file})
    for entry in _entries(tree, path, reading):
        try:
            place = f"{where}: {entry.place}"
            found = _locate(path, entry.name, reading, f"{place}.file_name")
            if found is None:
                reading.lost += 1
                continue
            if found in reading.images or found in reading.unlabelled:
                raise untrusted_input.invalid(
                    f"{place} is {untrusted_input.printable(found)}, which is listed earlier; list each image once, and keep one "
                    "of annotation files with the same content"
                )
            # The most specific source of the split counts: the image's entry, then its file, then the image's folders.
            if entry.split is not None:
                stated = split_of(entry.split)
                if stated is None:
                    raise untrusted_input.invalid(f"{place}.split must be one of {', '.join(SPLIT_NAMES)}: correct it")
                splits = frozenset({stated})
            else:
                splits = of_file or splits_above(found)
            record = ImageRecord(
                path=found,
                width=entry.width or None,
                height=entry.height or None,
                group=entry.group or untrusted_input.original_of(found),
                split=only_split(splits),
                boxes=entry.boxes,
                crowds=tuple(entry.crowds),
            )
            taken = record if entry.annotated is None else entry.annotated(record, reading.altered)
            if taken is None:
                reading.unlabelled[found] = None
                continue
            if len(splits) > 1:
                reading.overlapping.append(found)
            reading.images[found] = taken
        except RefusedError as fault:
            reading.faults.add(fault)


class _Entry(NamedTuple):
    """An image of a file. ``annotated`` adds the shapes to its record; it returns None when all annotations are left out."""

    place: str
    name: str
    width: int | None
    height: int | None
    group: str | None
    split: str | None
    boxes: Sequence[Box]
    annotated: Callable[[ImageRecord, Altered], ImageRecord | None] | None
    crowds: Sequence[Shape] = ()


def _entries(tree: SourceFiles, path: str, reading: _Reading) -> Iterator[_Entry]:
    """The images of a file; faulty ones are noted and left out."""
    if reading.asked.task is not Task.DETECTION:
        yield from _shaped(tree, path, reading)
        return
    content = reading_.coco(tree, path, reading.faults, above=reading.asked.level is not None)
    _judge(untrusted_input.printable(path), content, reading)
    reading.names += filter(None, content.names)
    boxes = _boxes(content)
    for number, (name, width, height, group, split) in enumerate(content.images):
        if name is not None:
            annotated = _left_out if number in content.passed and not boxes[number] else None
            of_image = (boxes[number], annotated, content.crowds.get(number, ()))
            yield _Entry(f"images[{number}]", name, width, height, group, split, *of_image)


def _left_out(record: ImageRecord, altered: Altered) -> None:
    """The record of an image none of whose annotations is kept."""


def _shaped(tree: SourceFiles, path: str, reading: _Reading) -> Iterator[_Entry]:
    """The same with shapes, for tasks that need more than boxes."""
    task = "parse" if reading.asked.level is None else "parse_above"
    if coco_panoptic.files(replace(tree, files=(path,))):
        for classes, drawn, counts in coco_panoptic.drawn(tree, path, reading.faults, task):
            reading.counts.update(counts)
            reading.names += [name for name in classes if name not in reading.names]
            yield _entry(drawn, reading)
        return
    for _, drawings in reading_.drawings(_SHAPES, tree, [path], reading.faults, task):
        assert drawings is not None
        reading.counts.update(drawings.counted)
        reading.names += drawings.classes
        for drawn in drawings.images:
            yield _entry(drawn, reading)


def _entry(drawn: Drawn, reading: _Reading) -> _Entry:
    annotated = functools.partial(_with_shapes, drawn=drawn, task=reading.asked.task)
    return _Entry(drawn.place, drawn.names[0], drawn.width, drawn.height, drawn.group, drawn.split, (), annotated)


def _with_shapes(record: ImageRecord, altered: Altered, *, drawn: Drawn, task: Task) -> ImageRecord | None:
    strategy = TASKS.named(task)
    shapes = [*drawn.shapes, *drawn.crowds] if strategy.draws_crowds else drawn.shapes
    if not shapes and (drawn.left or not drawn.is_labelled):
        return None
    return strategy.drawn(replace(record, crowds=strategy.crowded(drawn.crowds)), shapes, altered)


def _find_passed_over(tree: SourceFiles, others: Sequence[str], unlisted: frozenset[str], reading: _Reading) -> None:
    """Note files that are not read because of their names, although they have boxes for images that no other file lists."""
    for path in others[:_MOST_OTHERS]:
        try:
            content = reading_.coco(tree, path, Faults())
        except RefusedError:  # usually another kind of JSON
            continue
        if not len(content.classes):
            continue
        apart = _Reading([], {}, [], reading.files, reading.known)
        found = set()
        for name, *_ in content.images:
            with apart.faults.noting():
                found.add(_locate(path, name or ".", apart, ""))
        if meant := sorted(unlisted & found):
            reading.faults.add(
                untrusted_input.invalid(
                    f"{untrusted_input.printable(path)} has boxes and lists {len(meant)} images that no other annotation file "
                    f"does ({format_names(meant)}), but is not read because of its name: rename it to "
                    f"instances_{untrusted_input.printable(PurePosixPath(path).name)} to have it read, or move it out of the "
                    "source to leave these images out"
                )
            )


def _judge(where: str, content: reading_.Coco, reading: _Reading) -> None:
    """Count the contents of a file, and refuse or note faults of the file as a whole."""
    reading.counts.update(content.counts)
    reading.recomposed += content.recomposed
    reading.annotations += len(content.classes)
    limit = Ceilings.read().annotations
    if reading.annotations > limit:
        raise untrusted_input.too_many(where, limit)
    unknown, places = content.unknown
    if unknown:
        reading.faults.add(untrusted_input.unknown_categories(where, unknown, places, len(content.names)))
    with reading.faults.noting():
        used = sorted(set(content.classes.tolist()))
        named = {f"id {content.ids[column]}": name for column in used if (name := content.names[column])}
        untrusted_input.require_distinct(named, where)  # a missing name is a fault that was already noted


def _boxes(content: reading_.Coco) -> Sequence[Boxes]:
    """The boxes of each image, in the order of the file."""
    import numpy as np

    # Annotations are in any order, and a million of them are too many to be held twice as Python objects.
    order = np.argsort(content.whose, kind="stable")
    ends = np.cumsum(np.bincount(content.whose, minlength=len(content.images))).tolist()
    return Boxes.packed(content.names, content.classes[order], content.sides[order]).divided(ends)


def _locate(annotations: str, name: str, reading: _Reading, place: str) -> str | None:
    """Find the image in the usual layouts: beside the file, below images/, below a folder of the split.

    Else the only image that the name fits (see naming). None when there is none, which is noted among the orphans.
    Raises:
        RefusedError: FORMAT_INVALID for a path out of the source, such as one of its author's machine, that fits no image.
    """
    bases = _bases(annotations)
    try:
        inner = untrusted_input.below(name, place)
    except RefusedError:
        alike = _alike(annotations, name, reading)
        if len(alike) != 1:
            raise
    else:
        for base in bases:
            if (path := base + inner) in reading.known:
                return path
        here = PurePosixPath(annotations).parent
        alike = _alike(annotations, f"{here}/{name}", reading)
        if not alike and here in reading.apart:
            alike = [path for path in _alike(annotations, name, reading) if not _is_of_a_series(here, path)]
    if len(alike) == 1:
        reading.renamed.append(alike[0])
        return alike[0]
    if len(reading.orphans) < untrusted_input.MAX_NAMED:
        reading.looked |= dict.fromkeys(base or "./" for base in bases)
        reading.orphans.append(untrusted_input.with_nearest(place, alike, reading.files.nearest(name)))
    return None


@functools.lru_cache(maxsize=8)
def _bases(annotations: str) -> tuple[str, ...]:
    """The folders to which names in an annotation file may be relative, with a trailing slash; "" for the source itself."""
    here = PurePosixPath(annotations).parent
    bases = [here, here / "images"]
    if here.parts:
        subset = PurePosixPath(annotations).stem.removeprefix("instances_").removeprefix("panoptic_")
        bases += [above := here.parent, above / "images", above / subset, above / "images" / subset]
    return tuple(f"{base}/" if base.parts else "" for base in bases)


def _alike(annotations: str, name: str, reading: _Reading) -> list[str]:
    """The images that the name fits, without those whose folders contradict the annotations' split."""
    split, found = _split(annotations), reading.files.alike(name)
    return [path for path in found if split is None or split in (splits_above(path) or {split})]


def _is_of_a_series(here: PurePosixPath, image: str) -> bool:
    """Whether the image is in a numbered sibling of the folder, as ``dive2`` is of ``dive1``, so that it cannot be meant."""
    sides = zip(naming.folders_of(str(here)), naming.folders_of(str(PurePosixPath(image).parent)), strict=False)
    return any(one != other and _DIGITS.sub("", one) == _DIGITS.sub("", other) for one, other in sides)


def _split(path: str) -> Split | None:
    """The split by the last word of the name that means one, or by the folder. ``train_val`` means both and so neither."""
    file = PurePosixPath(path)
    words = re.split(r"[_.\- ]", file.stem)
    for number in range(len(words) - 1, -1, -1):
        split, before = split_of(words[number]), words[number - 1] if number else ""
        if split is None:
            continue
        if together := split_of(f"{before} {words[number]}"):  # test-dev
            return together
        other = split_of(before)
        return None if other is not None and SPLITS.index(other) < SPLITS.index(split) else split
    return split_of(file.parent.name)


def _counted(counts: Mapping[str, int]) -> Iterable[str]:
    return (f"{counts[what]} {words}" for what, words in _SAID.items() if counts[what])


def _warnings(
    reading: _Reading, unlisted: Sequence[str], others: Sequence[str], unused: Iterable[str]
) -> Iterable[str]:
    yield from untrusted_input.matched(reading.renamed, "names in annotation files differ from those of the images")
    if unlisted:
        passed_over = f"; not read were {format_names(others)}, because of their names" if others else ""
        yield f"{len(unlisted)} images are in no annotation file and are left out: {format_names(unlisted)}{passed_over}"
    yield from _counted(reading.counts)
    yield from reading.altered.warnings
    if reading.unlabelled:
        yield (
            f"{len(reading.unlabelled)} images have only those annotations and are left out, as they are not backgrounds: "
            f"{format_names(reading.unlabelled)}"
        )
    if reading.overlapping:
        yield untrusted_input.torn(reading.overlapping)
    yield from untrusted_input.recomposed(reading.recomposed)
    yield from untrusted_input.unused_classes(unused)


def _hint(tree: SourceFiles) -> str | None:
    """A hint about a few JSON files of other names, unless something suggests another format."""
    documents = [path for path in tree.files if suffix(path) == ".json"]
    if not 0 < len(documents) <= untrusted_input.MAX_NAMED or any(suffix(path) == ".xml" for path in tree.files):
        return None
    return f"If {format_names(documents)} is of {COCO.name}, set format to {COCO.name}."


def _evidence(tree: SourceFiles) -> str:
    return f"{format_names(_files(tree) or coco_panoptic.files(tree), 2)} is named like the files of {COCO.name}"


FORMAT = Format(COCO, recognises, read, write, hint=_hint, evidence=_evidence)
