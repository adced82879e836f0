"""YOLO detection: data.yaml with the class names, images/ and labels/ with one text file per image. Layouts of ultralytics,
Roboflow and Label Studio (which writes classes.txt instead), and of darknet and CVAT (obj.names, with train.txt and the like).
Where none of these names splits, folders such as images/val do.

A row is ``class x y width height``: centre and size as fractions of the upright image. Polygons become their bounding box.
data.yaml is parsed by us and never handed to a framework: ultralytics executes its key ``download``.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import yaml

from pelagos_contract.dataset import SPLITS, Split
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import RefusedError
from pelagos_contract.formats import YOLO
from pelagos_pipelines.annotations import (
    class_lists,
    keypoints,
    kinds,
    linking,
    naming,
    pairing,
    placing,
    reading,
    untrusted_input,
)
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import (
    Box,
    Boxes,
    Collection,
    Exclusion,
    ImageRecord,
    Sizes,
    SourceFiles,
    declared,
    split_of,
    splits_above,
    suffix,
)
from pelagos_pipelines.annotations.untrusted_input import format_names

NAME, TASK, VIEW, LAYOUT = YOLO.name, YOLO.task, YOLO.view, YOLO.layout


@dataclass(frozen=True)
class _Settings:
    """What the file ``path``, in messages ``where``, says. ``splits`` holds the entries by key, a word for a split.

    ``others`` are texts under other keys, ``further`` other files that were read. ``points`` is kpt_shape. An id without a name,
    of an empty line of classes.txt, has the name "".
    """

    path: str
    where: str
    names: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    base: PurePosixPath
    warnings: tuple[str, ...] = ()
    points: tuple[int, int] | None = None
    others: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


@dataclass
class _Tally:
    """What the label files held that is worth a word.

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
        """Refuse rows that are key points, as far as that can be told: they would be read as polygons.

        Raises:
            RefusedError: FORMAT_INVALID.
        """
        if self.polygons and len(self.columns) == 1:
            (columns,) = self.columns
            if self.alike.is_certain(self.polygons, columns):
                raise untrusted_input.invalid(
                    f"rows of more than 5 columns, {self.polygons}, look like a box with key points, and {where} has no"
                    f" kpt_shape: add it, which would be {' or '.join(keypoints.shapes(columns))}; if they are outlines, write"
                    " the boxes around them"
                )

    def warnings(self, settings: _Settings) -> Iterator[str]:
        """What to say of them."""
        if settings.points is not None:
            yield f"{settings.where} has kpt_shape: of rows with key points the box is read, and the points are left out"
        if self.polygons:
            yield f"{self.polygons} rows are polygons; their bounding boxes are read, and the outlines are left out"
        if len(self.columns) == 1 and self.alike.is_possible(self.polygons):
            yield f"the polygons could as well be a box with key points each; if they are, add kpt_shape to {settings.where}"
        if self.mixed:
            yield (
                f"{len(self.mixed)} label files hold boxes and polygons; a row with 5 columns is read as a box:"
                f" {format_names(self.mixed)}"
            )
        if self.doubted:
            yield (
                f"{len(self.doubted)} label files give a box for two classes, or more; all are kept:"
                f" {format_names(self.doubted)};"
                " check them"
            )
        if self.repeats:
            yield (
                f"{self.repeats} rows repeat another of the same file, class and box; one of each is kept:"
                f" {format_names(self.repeated)}"
            )


@dataclass
class _Listed:
    """The images that data.yaml names, itself or in the files ``listings``; ``renamed`` are entries unlike the files.

    ``by_folder`` when it names none, so that the folders of the images say the splits.
    """

    faults: Faults
    images: frozenset[str]
    names: naming.Names
    by_folder: bool = False
    splits: dict[str, set[Split]] = field(default_factory=dict)
    listings: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)

    @property
    def overlapping(self) -> list[str]:
        """Images that stand in more than one split."""
        return sorted(path for path, splits in self.splits.items() if len(splits) > 1)


def recognises(tree: SourceFiles) -> bool:
    """Whether there is a data.yaml, or class names with label files. Any YAML may hold names, and most hold something else."""
    settings = _yaml_files(tree)
    if any(group != [class_lists.AT_ROOT] for group in class_lists.groups(tree)) or any(
        _is_named(path) for path in settings
    ):
        return True
    if settings and any(str(PurePosixPath(path).with_suffix(".txt")) in tree.known for path in tree.images):
        return True
    return bool(settings or "classes.txt" in tree.known) and any(
        "labels" in PurePosixPath(path).parts for path in tree.files
    )


def read(tree: SourceFiles, sizes: Sizes) -> Collection:
    """Boxes in pixels. An image with an empty label file is a background; without a size it is left to the integrity check.

    What data.yaml does not name is left out, and so is an image without a label file: a missing one does not say that the image
    shows nothing.
    """
    faults, tally = Faults(), _Tally()
    settings = _with_lists(tree, _settings(tree, faults))
    listed = _listed(tree, settings, faults)
    pairs = pairing.pair(tree, listed.listings, faults)
    unlisted = [path for path in tree.images if settings.splits and path not in listed.splits]
    bare = sorted(set(tree.images).difference(unlisted, pairs.labels))
    left = {*unlisted, *bare}
    images = [path for path in tree.images if path not in left]
    labels = _labels(tree, [pairs.labels[path] for path in images], settings, tally, faults)
    records = list(_labelled(images, labels, listed, settings.names, sizes))
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
        raise untrusted_input.unannotated(LAYOUT)
    owners = Counter(pairs.labels[path] for path in images)
    used = sorted(owners)
    return Collection(
        TASK,
        classes,
        tuple(records),
        (
            *settings.warnings,
            *tally.warnings(settings),
            *_of_several(owners),
            *_warnings(settings.where, listed, pairs, unlisted, bare, unused),
            *_of_other_keys(settings, unlisted),
        ),
        tuple(_excluded(tree, pairs, unlisted, bare, set(used))),
        (settings.path, *dict.fromkeys(listed.listings), *settings.further, *used),
        tuple(listed.overlapping),
    )


def _excluded(
    tree: SourceFiles, pairs: pairing.Pairs, unlisted: Sequence[str], bare: Sequence[str], used: set[str]
) -> Iterator[Exclusion]:
    yield from (Exclusion(path, ExclusionReason.UNLISTED) for path in unlisted)
    yield from (Exclusion(path, ExclusionReason.UNLABELLED) for path in bare)
    others = sorted({pairs.labels[path] for path in unlisted if path in pairs.labels} - used)
    yield from (Exclusion(path, ExclusionReason.UNLISTED) for path in others)
    yield from (Exclusion(path, ExclusionReason.LABEL_WITHOUT_IMAGE) for path in pairs.empty)


def _of_several(owners: Mapping[str, int]) -> Iterator[str]:
    if several := [path for path, count in sorted(owners.items()) if count > 1]:
        yield (
            f"{len(several)} label files have the name of more than one image, and each of these gets their boxes:"
            f" {format_names(several)}; check them"
        )


def _of_other_keys(settings: _Settings, unlisted: Sequence[str]) -> Iterator[str]:
    """Folders that data.yaml does name, but not as a split."""
    folders = {str(above) for path in unlisted for above in PurePosixPath(path).parents} if settings.others else set()
    if named := sorted({plain for one in settings.others if (plain := _plain(one).strip("/")) in folders}):
        yield (
            f"keys of {settings.where} that are no words for splits name {format_names(named)}: call them train, val or test if"
            " these images shall be used"
        )


def _warnings(
    where: str,
    listed: _Listed,
    pairs: pairing.Pairs,
    unlisted: Sequence[str],
    bare: Sequence[str],
    unused: Sequence[str],
) -> Iterator[str]:
    if listed.renamed:
        yield (
            f"{len(listed.renamed)} entries of {where} and its lists differ from the files in {naming.DIFFERENCES};"
            f" matched were {format_names(listed.renamed)}"
        )
    if pairs.renamed:
        yield (
            f"{len(pairs.renamed)} label files lie where ultralytics would not look, or differ from their image in"
            f" {naming.DIFFERENCES}; matched were {format_names(pairs.renamed)}"
        )
    if pairs.empty:
        yield f"{len(pairs.empty)} label files are empty and have no image: {format_names(pairs.empty)}"
    overlapping = listed.overlapping
    if overlapping and listed.by_folder:
        yield untrusted_input.torn(overlapping)
    elif overlapping:
        yield f"{len(overlapping)} images stand in more than one split of {where}, which counts as in none"
    if unlisted:
        yield f"{len(unlisted)} images are in no split of {where} and are left out: {format_names(unlisted)}"
    if bare:
        yield (
            f"{len(bare)} images have no label file and are left out: {format_names(bare)};"
            " a background, which shows nothing, needs an empty one"
        )
    if pairs.predicted:
        yield (
            f"{len(pairs.predicted)} label files lie where ultralytics writes predictions, and are not read:"
            f" {format_names(pairs.predicted)}; move them when they are labels"
        )
    if unused:
        yield f"classes that no annotation uses are left out: {format_names(unused)}"


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """``images/<split>/``, ``labels/<split>/`` and a data.yaml with path, train, val, test and names alone."""
    names = linking.numbered(collection.images)
    ids = {label: index for index, label in enumerate(collection.classes)}
    for split in SPLITS:
        (target / "images" / split).mkdir(parents=True)
        (target / "labels" / split).mkdir(parents=True)
    for image in collection.images:
        assert image.split is not None
        linking.link(blobs[image.path], target / "images" / image.split / names[image.path])
        rows = "".join(_row(box, image, ids) for box in image.boxes)
        label = target / "labels" / image.split / PurePosixPath(names[image.path]).with_suffix(".txt")
        label.write_text(rows, encoding="ascii")
    has_validation = any(image.split == "validation" for image in collection.images)
    content = {
        "path": str(target.resolve()),
        "train": "images/train",
        "val": "images/validation" if has_validation else "images/train",  # ultralytics refuses an empty val
        "test": "images/test",
        "names": dict(enumerate(collection.classes)),
    }
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    if not has_validation:
        text = f"# The version has no validation images: val repeats train, and its metrics say nothing.\n{text}"
    (target / "data.yaml").write_text(text, encoding="utf-8")


def _row(box: Box, image: ImageRecord, ids: Mapping[str, int]) -> str:
    assert image.width is not None
    assert image.height is not None
    x, y = (box.x + box.width / 2) / image.width, (box.y + box.height / 2) / image.height
    return f"{ids[box.label]} {x:.8f} {y:.8f} {box.width / image.width:.8f} {box.height / image.height:.8f}\n"


# --- data.yaml


def _yaml_files(tree: SourceFiles) -> list[str]:
    """The settings at the root: data.yaml, or the only YAML file that is there."""
    found = [path for path in tree.files if "/" not in path and suffix(path) in {".yaml", ".yml"}]
    named = [path for path in found if _is_named(path)]
    return named or (found if len(found) == 1 else [])


def _is_named(path: str) -> bool:
    return PurePosixPath(path).stem.lower() in {"data", "dataset"}


def _settings(tree: SourceFiles, faults: Faults) -> _Settings:
    files = _yaml_files(tree)
    if len(files) > 1:
        raise untrusted_input.invalid(f"there is more than one settings file: {format_names(files)}; keep one")
    if files:
        return _from_yaml(tree, files[0], faults)
    groups = class_lists.groups(tree)
    if not groups:
        raise untrusted_input.invalid(
            f"there is neither data.yaml nor classes.txt{class_lists.deeper(tree)}; Yolo expects {LAYOUT}"
        )
    path, *others = groups[0]
    with faults.noting():
        class_lists.require_same(tree, groups[0])
    settings = _from_lines(path, reading.lines(tree, path, reading.MAX_SETTINGS), faults)
    warnings = (*settings.warnings, *_of_other_names(tree, settings.where, settings.names, groups[1:]))
    return replace(settings, warnings=warnings, further=tuple(others))


def _with_lists(tree: SourceFiles, settings: _Settings) -> _Settings:
    """With the files in which darknet and CVAT list the images of a split, where the settings name no splits themselves."""
    if settings.splits:
        return settings
    darknet = suffix(settings.path) == ".names"
    stated = class_lists.stated(tree)
    texts = {path for path in tree.files if "/" not in path and suffix(path) == ".txt"} - {*stated.splits.values()}
    told = {split_of(key) for key in stated.splits}
    splits = {key: (path,) for key, path in stated.splits.items()}
    for path in sorted(texts):
        stem = PurePosixPath(path).stem
        if split_of(stem) is not None and split_of(stem) not in told and _is_list(tree, path, darknet):
            splits[stem] = (path,)
    warnings, further = settings.warnings, settings.further
    if stated.lost:
        warnings += (f"{stated.path} names files that are not there, or more than one: {format_names(stated.lost)}",)
    if stated.path is not None and (stated.names or splits):
        further += (stated.path,)
    return replace(settings, splits=splits, warnings=warnings, further=further)


def _is_list(tree: SourceFiles, path: str, darknet: bool) -> bool:
    """Whether its first line is the name of an image; beside obj.names, whether it is no row of a label file."""
    with suppress(RefusedError):  # where it is one, it is read again and refused
        lines = reading.lines(tree, path, reading.MAX_LABELS)
        first = lines[0][1] if lines else ""
        return not pairing.is_row(first) if darknet else _is_image(first)
    return darknet


def _from_lines(path: str, lines: Sequence[tuple[int, str]], faults: Faults) -> _Settings:
    """classes.txt: the number of its line is what names a class, also after an empty line."""
    where = untrusted_input.printable(path)
    lines = [(number, line) for number, line in lines if untrusted_input.is_seen(line)]
    if lines and lines[-1][0] > untrusted_input.MAX_CLASSES:
        raise untrusted_input.invalid(
            f"{where} declares more than {untrusted_input.MAX_CLASSES} classes; remove unused ones"
        )
    names = [""] * (lines[-1][0] if lines else 0)
    for number, line in lines:
        names[number - 1] = f"class {number - 1}"  # of one with a faulty name the rows are no further faults
        with faults.noting():
            names[number - 1] = untrusted_input.class_name(line, f"{where}, line {number}")
            if line.startswith("#"):
                raise untrusted_input.invalid(
                    f"{where}, line {number} begins with #: a comment would count as a class; remove the line, or the character"
                )
            if pairing.is_row(line):
                raise untrusted_input.invalid(
                    f"{where}, line {number} is a row of a label file, no class name: give {where} the class names, or add a"
                    " data.yaml with them"
                )
    empty = [f"line {number}" for number, name in enumerate(names, start=1) if not name]
    warnings = untrusted_input.recomposed(
        names[number - 1] for number, line in lines if not untrusted_input.is_composed(line)
    )
    if empty:
        warnings.append(
            f"{where} has {len(empty)} empty lines before its last name, which keep their number: {format_names(empty)}"
        )
    return _Settings(path, where, tuple(names), {}, PurePosixPath(), tuple(warnings))


def _from_yaml(tree: SourceFiles, path: str, faults: Faults) -> _Settings:
    where = untrusted_input.printable(path)
    found = reading.settings(tree, path, faults)
    splits = {key: tuple(entries) for key, entries in found.splits.items()}
    base, warnings = _base(where, found.path)
    warnings = (
        *warnings,
        *untrusted_input.recomposed(found.recomposed),
        *_of_other_names(tree, where, found.names, class_lists.groups(tree)),
    )
    return _Settings(path, where, found.names, splits, base, warnings, found.points, found.others)


def _of_other_names(
    tree: SourceFiles, where: str, names: Sequence[str], groups: Iterable[Sequence[str]]
) -> Iterator[str]:
    """Two files that number the classes differently cannot both be right."""
    for path in (path for group in groups for path in group):
        listed = class_lists.of(tree, path)
        if listed and listed != list(names):
            yield (
                f"{untrusted_input.printable(path)} has other class names than {where}, or another order;"
                f" {where} is what counts"
            )


def _base(where: str, value: str | None) -> tuple[PurePosixPath, tuple[str, ...]]:
    """The folder that entries are relative to. One outside is where the files lay on their author's machine: not opened."""
    if value is None:
        return PurePosixPath(), ()
    try:
        return untrusted_input.relative(value, f"{where}: path") if value.rstrip("/") != "." else PurePosixPath(), ()
    except RefusedError:
        ignored = f"{where}: path lies outside of the source; the files beside {where} are read"
        return PurePosixPath(), (ignored,)


# --- splits


def _listed(tree: SourceFiles, settings: _Settings, faults: Faults) -> _Listed:
    """The images that stand in splits."""
    found = _Listed(faults, frozenset(tree.images), naming.Names(tree.images), by_folder=not settings.splits)
    if found.by_folder:
        found.splits = {path: set(splits) for path in tree.images if (splits := splits_above(path))}
    for key, entries in settings.splits.items():
        split = split_of(key)
        assert split is not None
        for number, entry in enumerate(entries):
            where = f"{settings.where}: {key}" + (f"[{number}]" if len(entries) > 1 else "")
            with faults.noting():
                for path in _images_of(tree, settings, entry, where, found):
                    found.splits.setdefault(path, set()).add(split)
    return found


def _images_of(tree: SourceFiles, settings: _Settings, entry: str, where: str, found: _Listed) -> Iterable[str]:
    """An image, those below a folder, or those listed in a text file."""
    plain = _plain(entry)
    if plain in {".", "./"}:
        return tree.images
    try:
        inner = untrusted_input.relative(plain, where)
    except RefusedError:  # as on its author's machine
        meant = found.names.alike(plain) if _is_image(plain) else _meant(tree, plain) or _end_of(tree, plain)
        if len(meant) != 1:
            raise
    else:
        for candidate in (settings.base / inner, inner):
            if str(candidate) in found.images:
                return [str(candidate)]
            if str(candidate) in tree.known:
                return _in_list(tree, settings, str(candidate), where, found)
            below = [path for path in tree.images if path.startswith(f"{candidate}/")]
            if below:
                return below
        meant = found.names.alike(str(inner)) if _is_image(str(inner)) else _meant(tree, str(inner))
    if len(meant) == 1:
        found.renamed.append(where)
        return meant if _is_image(plain) else [path for path in tree.images if path.startswith(f"{meant[0]}/")]
    there = f"may be {format_names(meant)}" if meant else f"there are {format_names(_folders(tree))}"
    raise untrusted_input.invalid(f"{where} names a place where there are no images ({there}); correct the path")


def _is_image(entry: str) -> bool:
    return suffix(entry) in kinds.READABLE | kinds.OTHER


def _plain(entry: str) -> str:
    """Roboflow writes ../train/images for train/images."""
    return re.sub(r"^(?:\.\./)*", "", entry.replace("\\", "/"))


def _meant(tree: SourceFiles, entry: str) -> Sequence[str]:
    """The folders with images that an entry may mean, when none is named exactly so."""
    wanted = naming.folders_of(entry)
    named = {one: naming.folders_of(one) for one in _folders(tree)}
    same = naming.folded(entry)
    meant = [one for one, parts in named.items() if naming.folded(one) == same or (parts and parts == wanted)]
    if not meant:  # outer folders dropped
        fitting = [one for one, parts in named.items() if parts and wanted[-len(parts) :] == parts]
        most = max((len(named[one]) for one in fitting), default=0)
        meant = [one for one in fitting if len(named[one]) == most]
    return [one for one in meant if not any(one.startswith(f"{other}/") for other in meant)]


def _end_of(tree: SourceFiles, entry: str) -> Sequence[str]:
    """The folder with images that a path of another machine ends in, when none of those above it names a split."""
    parts = PurePosixPath(entry).parts
    folders = {naming.folded(one): one for one in _folders(tree)}
    ends = [naming.folded("/".join(parts[start:])) for start in range(1, len(parts))]
    found = [folders[end] for end in ends if end in folders][:1]
    return [] if any(split_of(part) for part in parts[: len(parts) - len(PurePosixPath(*found).parts)]) else found


def _folders(tree: SourceFiles) -> list[str]:
    return sorted({str(parent) for path in tree.images for parent in PurePosixPath(path).parents} - {"."})


def _in_list(tree: SourceFiles, settings: _Settings, path: str, where: str, found: _Listed) -> list[str]:
    if suffix(path) != ".txt":
        raise untrusted_input.invalid(
            f"{where} is no list of images, which is a text file (.txt), and no image or folder of them"
        )
    found.listings.append(path)
    known, names = found.images, found.names
    images: list[str] = []
    lost: list[str] = []
    many = 0
    for number, line in reading.lines(tree, path, reading.MAX_LABELS):
        where = f"{untrusted_input.printable(path)}, line {number}"
        exact = _exactly(known, settings, line)
        alike = [exact] if exact is not None else names.alike(line)
        if len(alike) == 1:
            images.append(alike[0])
            found.renamed += [] if exact is not None else [where]
        else:
            many += 1
            if len(lost) < untrusted_input.MAX_NAMED:
                lost.append(untrusted_input.with_nearest(where, alike, names.nearest(line)))
    if lost:
        found.faults.add(untrusted_input.missing_images(lost, many))
    return images


def _exactly(known: Set[str], settings: _Settings, line: str) -> str | None:
    try:
        inner = untrusted_input.relative(line, "")
    except RefusedError:  # as on its author's machine
        return None
    return next((path for base in (settings.base, PurePosixPath()) if (path := str(base / inner)) in known), None)


# --- labels


def _labels(
    tree: SourceFiles, files: Sequence[str], settings: _Settings, tally: _Tally, faults: Faults
) -> Iterator[reading.Labels]:
    """The rows of each file, counted."""
    unnamed = [number for number, name in enumerate(settings.names) if not name]
    by = reading.Declared(len(settings.names), unnamed, settings.points)
    for path, rows in zip(files, reading.labels(tree, files, by, faults), strict=True):
        tally.add(path, rows)
        yield rows


def _labelled(
    images: Sequence[str], labels: Iterable[reading.Labels], listed: _Listed, names: Sequence[str], sizes: Sizes
) -> Iterator[ImageRecord]:
    """The images with their boxes, in pixels."""
    for path, rows in zip(images, labels, strict=True):
        splits, size = listed.splits.get(path, ()), sizes(path)
        record = ImageRecord(
            path=path, split=next(iter(splits)) if len(splits) == 1 else None, group=untrusted_input.original_of(path)
        )
        yield record if size is None else replace(record, boxes=_boxes(names, rows, size))


def _boxes(names: Sequence[str], labels: reading.Labels, size: tuple[int, int]) -> Boxes:
    width, height = size
    pixels = labels.sides * (width, height, width, height)
    return Boxes(names, array("i", labels.classes.tobytes()), array("d", pixels.tobytes()))
