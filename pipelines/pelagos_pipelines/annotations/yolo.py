"""YOLO detection: data.yaml with the class names, images/, and labels/ with one text file per image. Layouts of ultralytics,
Roboflow and Label Studio (which writes classes.txt instead), and of darknet and CVAT (obj.names, with train.txt and the like).

If none of these files names splits, folders such as images/val do. A row is ``class x y width height`` with centre and size as
fractions of the upright image, or ``class x y x y ...`` with the points of an outline or the corners of a turned box. For
detection, polygons become their bounding box. data.yaml is parsed here and never passed to a framework, since ultralytics
executes its key ``download``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.formats import YOLO
from pelagos_contract.splits import SPLITS
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import (
    class_lists,
    keypoints,
    linking,
    pairing,
    placing,
    reading,
    untrusted_input,
    yolo_boxes,
    yolo_settings,
    yolo_shapes,
    yolo_splits,
)
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import (
    Asked,
    Boxes,
    Collection,
    Exclusion,
    Format,
    ImageRecord,
    Sizes,
    SourceFiles,
    declared,
    only_split,
)
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.annotations.yolo_settings import Settings
from pelagos_pipelines.annotations.yolo_splits import Listed

_AT_ONCE = 1_000
"""Number of images whose labels are written together, which bounds memory."""


@dataclass
class _Tally:
    """Counts over the label files, for warnings.

    ``used`` are class ids, ``mixed`` files with both boxes and polygons, ``doubted`` those with a box of two classes.
    """

    used: set[int] = field(default_factory=set)
    polygons: int = 0
    alike: keypoints.Likeness = field(default_factory=keypoints.Likeness)
    columns: set[int] = field(default_factory=set)
    mixed: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    repeats: int = 0
    doubted: list[str] = field(default_factory=list)

    def add(self, path: str, labels: reading.Labels) -> None:
        """Count the rows of a file."""
        self.used.update(labels.classes.tolist())
        self.polygons += labels.polygons
        self.repeats += labels.repeated
        self.alike += labels.alike
        self.columns |= {labels.columns} - {0}
        if labels.polygons and labels.boxes:
            self.mixed.append(path)
        if labels.repeated:
            self.repeated.append(path)
        if labels.doubted:
            self.doubted.append(path)

    def require_outlines(self, where: str) -> None:
        """Refuse rows that look like key points, since they would be read as polygons.

        Raises:
            RefusedError: FORMAT_INVALID.
        """
        if self.polygons and len(self.columns) == 1:
            (columns,) = self.columns
            if self.alike.is_certain(self.polygons, columns):
                raise untrusted_input.invalid(
                    f"rows of more than 5 columns, {self.polygons}, look like a box with key points, and {where} has no "
                    f"kpt_shape: add it, which would be {' or '.join(keypoints.shapes(columns))}; if they are outlines, write "
                    "their bounding boxes"
                )

    def warnings(self, settings: Settings, task: Task) -> Iterator[str]:
        """The warnings about the label files."""
        if settings.points is not None:
            yield f"{settings.where} has kpt_shape: in rows with key points the box is read, and the points are left out"
        if self.polygons and task is Task.DETECTION:
            yield f"{self.polygons} rows are polygons; their bounding boxes are read, and the outlines are left out"
        if len(self.columns) == 1 and self.alike.is_possible(self.polygons):
            yield f"each polygon could also be a box with key points; if so, add kpt_shape to {settings.where}"
        if self.mixed:
            yield (
                f"{len(self.mixed)} label files contain boxes and polygons; a row with 5 columns is read as a box: "
                f"{format_names(self.mixed)}"
            )
        if self.doubted:
            yield (
                f"{len(self.doubted)} label files give a box for two or more classes; all are kept: "
                f"{format_names(self.doubted)}; check them"
            )
        if self.repeats:
            yield (
                f"{self.repeats} rows repeat another with the same file, class and box; one of each is kept: "
                f"{format_names(self.repeated)}"
            )


def recognises(tree: SourceFiles) -> bool:
    """Whether there is a data.yaml, or class names with label files. Other YAML files usually hold something else."""
    settings = yolo_settings.files_of(tree)
    if any(group != [class_lists.AT_ROOT] for group in class_lists.groups(tree)) or any(
        yolo_settings.is_named(path) for path in settings
    ):
        return True
    if settings and any(str(PurePosixPath(path).with_suffix(".txt")) in tree.known for path in tree.images):
        return True
    return bool(settings or "classes.txt" in tree.known) and any(
        "labels" in PurePosixPath(path).parts for path in tree.files
    )


def read(tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """Read the boxes in pixels. An image with an empty label file is a background; one without a size is left to the integrity
    check.

    Images that data.yaml does not name, and images without a label file, are left out: a missing file does not mean that the
    image is empty.
    """
    faults, tally = Faults(), _Tally()
    settings = yolo_settings.with_lists(tree, yolo_settings.read(tree, faults))
    listed = yolo_splits.find(tree, settings, faults)
    pairs = pairing.pair(tree, listed.listings, faults)
    unlisted = [path for path in tree.images if settings.splits and path not in listed.splits]
    bare = sorted(set(tree.images).difference(unlisted, pairs.labels))
    left = {*unlisted, *bare}
    images = [path for path in tree.images if path not in left]
    files = [pairs.labels[path] for path in images]
    unnamed = [number for number, name in enumerate(settings.names) if not name]
    by = reading.Declared(len(settings.names), unnamed, settings.points, outlines=asked.task is not Task.DETECTION)
    records, altered, useless = list[ImageRecord](), Altered(), list[str]()
    for path, file, rows in zip(images, files, reading.labels(tree, files, by, faults), strict=True):
        tally.add(file, rows)
        split, group = only_split(listed.splits.get(path, set())), untrusted_input.original_of(path)
        record = ImageRecord(path=path, split=split, group=group)
        shown = _shown(record, rows, sizes(path), settings.names, asked.task, altered)
        if shown is None:
            useless.append(path)
        else:
            records.append(shown)
    with faults.noting():
        tally.require_outlines(settings.where)
    with faults.noting():
        used_names = {f"class {number}": settings.names[number] for number in sorted(tally.used)}
        untrusted_input.require_distinct(used_names, settings.where)
    placing.refuse_any(faults, records, sizes)
    if bare and not images:
        raise untrusted_input.unlabelled(bare, {path: pairing.label_path(path) for path in bare[:2]}, pairs.predicted)
    classes, unused = declared([name for name in settings.names if name], records)
    if not classes and any(map(sizes, tree.images)):
        raise untrusted_input.unannotated(YOLO.layout)
    used = sorted(set(files))
    # Every file of the source must be an image in a record, an annotation file that was read, or excluded with a reason. Label
    # files of omitted images are excluded, unless a kept image has the same one.
    idle = {pairs.labels[path] for path in unlisted if path in pairs.labels}.difference(used)
    return Collection(
        asked.task,
        classes,
        tuple(records),
        (
            *settings.warnings,
            *tally.warnings(settings, asked.task),
            *altered.warnings,
            *_of_matching(settings.where, listed, pairs, files),
            *_of_left_out(settings, listed, pairs, unlisted, bare, unused),
        ),
        (
            *Exclusion.of(unlisted, ExclusionReason.UNLISTED),
            *Exclusion.of((*bare, *useless), ExclusionReason.UNLABELLED),
            *Exclusion.of(sorted(idle), ExclusionReason.UNLISTED),
            *Exclusion.of(pairs.empty, ExclusionReason.LABEL_WITHOUT_IMAGE),
        ),
        (settings.path, *dict.fromkeys(listed.listings), *settings.further, *used),
        tuple(listed.overlapping),
        altered,
        unused=tuple(unused),
    )


def _shown(
    record: ImageRecord,
    rows: reading.Labels,
    size: tuple[int, int] | None,
    names: Sequence[str],
    task: Task,
    altered: Altered,
) -> ImageRecord | None:
    """The image with the annotations of its rows; unchanged without a size. None when the task can use none of them."""
    if size is None:
        return record
    if task is Task.DETECTION:
        return replace(record, boxes=Boxes.packed(names, rows.classes, rows.sides * (*size, *size)))
    return TASKS.named(task).drawn(record, [yolo_shapes.of_row(row, names, size) for row in rows.outlines], altered)


def _of_matching(where: str, listed: Listed, pairs: pairing.Pairs, files: Sequence[str]) -> Iterator[str]:
    """Warnings about inexact matches; ``files`` has the label file of each image."""
    if several := [path for path, count in sorted(Counter(files).items()) if count > 1]:
        yield (
            f"{len(several)} label files match the name of more than one image, and each of these gets their boxes: "
            f"{format_names(several)}; check them"
        )
    yield from untrusted_input.matched(listed.renamed, f"entries of {where} and its lists differ from the files")
    elsewhere = "label files lie where ultralytics would not look, or differ in name from their image"
    yield from untrusted_input.matched(pairs.renamed, elsewhere)
    if pairs.empty:
        yield f"{len(pairs.empty)} label files are empty and have no image: {format_names(pairs.empty)}"


def _of_left_out(
    settings: Settings,
    listed: Listed,
    pairs: pairing.Pairs,
    unlisted: Sequence[str],
    bare: Sequence[str],
    unused: Sequence[str],
) -> Iterator[str]:
    """Warnings about images, label files and classes that are left out."""
    overlapping = listed.overlapping
    if overlapping and listed.by_folder:
        yield untrusted_input.torn(overlapping)
    elif overlapping:
        yield f"{len(overlapping)} images are in more than one split of {settings.where}, and count as in none"
    if unlisted:
        yield f"{len(unlisted)} images are in no split of {settings.where} and are left out: {format_names(unlisted)}"
    if bare:
        yield (
            f"{len(bare)} images have no label file and are left out: {format_names(bare)};"
            " a background, which shows nothing, needs an empty one"
        )
    if pairs.predicted:
        yield (
            f"{len(pairs.predicted)} label files lie where ultralytics writes predictions, and are not read: "
            f"{format_names(pairs.predicted)}; move them if they are labels"
        )
    yield from untrusted_input.unused_classes(unused)
    # data.yaml may name the folders of images without a split under a key that its author meant as one.
    folders = {str(above) for path in unlisted for above in PurePosixPath(path).parents} if settings.others else set()
    if named := sorted({plain for one in settings.others if (plain := yolo_splits.plain(one).strip("/")) in folders}):
        yield (
            f"keys of {settings.where} that are not words for splits name {format_names(named)}: rename them to train, val or "
            "test to use these images"
        )


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """Write ``images/<split>/``, ``labels/<split>/`` and a data.yaml with only train, val, test and names.

    Without ``path`` its entries are relative to its own folder, so the view can be moved.
    """
    names = linking.numbered(collection.images)
    ids = {label: index for index, label in enumerate(collection.classes)}
    for split in SPLITS:
        (target / "images" / split).mkdir(parents=True)
        (target / "labels" / split).mkdir(parents=True)
    with linking.Into(target, blobs) as view:
        for start in range(0, len(collection.images), _AT_ONCE):
            images = collection.images[start : start + _AT_ONCE]
            for image, rows in zip(images, _rows(images, ids), strict=True):
                assert image.split is not None
                name = names[image.path]
                view.show(image.path, f"images/{image.split}/{name}")
                view.write(f"labels/{image.split}/{name.rpartition('.')[0]}.txt", rows)
    has_validation = any(image.split == "validation" for image in collection.images)
    content = {
        "train": "images/train",
        "val": "images/validation" if has_validation else "images/train",  # ultralytics refuses an empty val
        "test": "images/test",
        "names": dict(enumerate(collection.classes)),
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    if not has_validation:
        text = f"# The version has no validation images: val repeats train, and its metrics say nothing.\n{text}"
    (target / "data.yaml").write_text(text, encoding="utf-8")


def fractions(images: Sequence[ImageRecord], ids: Mapping[str, int]) -> tuple[Any, Any, list[int]]:
    """The boxes of images of known size: classes, int32 [n]; centre and size as fractions of their image, float64 [n, 4]; and the
    offsets at which the boxes of each image begin, with the total at the end.
    """
    import numpy as np

    names = tuple(ids)
    packed = [image.boxes if isinstance(image.boxes, Boxes) else Boxes.of(image.boxes, ids, names) for image in images]
    classes, sides = Boxes.together(packed, ids)
    counts = [0, *accumulate(map(len, packed))]
    lengths: Any = np.array([(image.width, image.height) for image in images], float).reshape(-1, 2)
    each = lengths.repeat(np.diff(np.array(counts)), axis=0)
    starts, extents = np.frombuffer(sides).reshape(-1, 2, 2).transpose(1, 0, 2)
    return np.frombuffer(classes, np.int32), np.column_stack(((starts + extents / 2) / each, extents / each)), counts


def _rows(images: Sequence[ImageRecord], ids: Mapping[str, int]) -> Iterator[bytes]:
    """The content of each image's label file."""
    classes, numbers, counts = fractions(images, ids)
    text, ends = yolo_boxes.rows(classes, numbers)
    ends.insert(0, 0)
    for image, start, end in zip(images, counts, counts[1:], strict=False):
        boxed = text[ends[start] : ends[end]]
        yield _shapes(image, ids) + boxed if image.shapes else boxed


def _shapes(image: ImageRecord, ids: Mapping[str, int]) -> bytes:
    assert image.width is not None
    assert image.height is not None
    size = image.width, image.height
    return "".join(f"{ids[shape.label]} {yolo_shapes.row(shape, size)}\n" for shape in image.shapes).encode("ascii")


def _hint(tree: SourceFiles) -> str | None:
    """A hint about settings in a subfolder of the source."""
    settings = [path for path in tree.files if PurePosixPath(path).name in {"data.yaml", "classes.txt", "obj.names"}]
    return f"{format_names(settings)} may be {YOLO.name}: let {tree.named_by} name its folder." if settings else None


def _evidence(tree: SourceFiles) -> str:
    files = dict.fromkeys(
        [*yolo_settings.files_of(tree), *(path for group in class_lists.groups(tree) for path in group)]
    )
    return f"{format_names(files, 2)} may name the classes of label files"


FORMAT = Format(YOLO, recognises, read, write, hint=_hint, evidence=_evidence)
