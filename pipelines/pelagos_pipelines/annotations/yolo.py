"""YOLO detection: data.yaml with the class names, images/ and labels/ with one text file per image. Layouts of ultralytics,
Roboflow and Label Studio (which writes classes.txt instead).

A row is ``class x y width height``: centre and size as fractions of the upright image. Polygons become their bounding box.
data.yaml is parsed by us and never handed to a framework: ultralytics executes its key ``download``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import yaml

from pelagos_pipelines.annotations import hostile, linking, reading
from pelagos_pipelines.annotations.model import (
    SPLIT_NAMES,
    Box,
    Boxes,
    Collection,
    ImageRecord,
    Sizes,
    Tree,
    declared,
    suffix,
)
from pelagos_pipelines.contract import SPLITS, RefusedError, Split, Task

NAME = "Yolo"
VIEW = "yolo"
TASK = Task.DETECTION
LAYOUT = "data.yaml (names, train, val, test) or classes.txt, with images/ and labels/"
_KEYS: Mapping[Split, str] = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class _Settings:
    """What data.yaml says. ``splits`` holds the entries of train, val and test by split."""

    where: str
    names: tuple[str, ...]
    splits: Mapping[Split, tuple[str, ...]]
    base: PurePosixPath
    warnings: tuple[str, ...] = ()


def recognises(tree: Tree) -> bool:
    """Whether there is a data.yaml, or class names with label files."""
    if _yaml_files(tree):
        return True
    return "classes.txt" in tree.known and any("labels" in PurePosixPath(path).parts for path in tree.files)


def read(tree: Tree, sizes: Sizes) -> Collection:
    """Boxes in pixels. An image without a label file is a background; without a size it is left to the integrity check."""
    settings = _settings(tree)
    splits, overlapping = _splits(tree, settings)
    labels = {_label_path(path): path for path in tree.images}
    orphans = [path for path in _label_files(tree) if path not in labels]
    if orphans:
        raise hostile.missing_images(orphans)
    images = list(_labelled(tree, splits, settings.names, sizes))
    classes, unused = declared(settings.names, images)
    if not classes and any(map(sizes, tree.images)):
        raise hostile.unannotated(LAYOUT)
    warnings = [*settings.warnings]
    if overlapping:
        warnings.append(
            f"{len(overlapping)} images stand in more than one split of {settings.where}, which counts as in none"
        )
    if unused:
        warnings.append(f"classes that no annotation uses are left out: {hostile.few(unused)}")
    return Collection(TASK, classes, tuple(images), tuple(warnings))


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


def _yaml_files(tree: Tree) -> list[str]:
    """The settings at the root: data.yaml, or the only YAML file that is there."""
    found = [path for path in tree.files if "/" not in path and suffix(path) in {".yaml", ".yml"}]
    named = [path for path in found if PurePosixPath(path).stem.lower() in {"data", "dataset"}]
    return named or (found if len(found) == 1 else [])


def _settings(tree: Tree) -> _Settings:
    files = _yaml_files(tree)
    if len(files) > 1:
        raise hostile.invalid(f"there is more than one settings file: {hostile.few(files)}; keep one")
    if files:
        return _from_yaml(tree, files[0])
    if "classes.txt" not in tree.known:
        raise hostile.invalid(f"there is neither data.yaml nor classes.txt; Yolo expects {LAYOUT}")
    lines = reading.lines(tree, "classes.txt", reading.MAX_SETTINGS)
    names = tuple(hostile.class_name(line, f"classes.txt, line {number}") for number, line in lines)
    if len(names) > hostile.MAX_CLASSES:
        raise hostile.invalid(f"classes.txt declares more than {hostile.MAX_CLASSES} classes; remove unused ones")
    return _Settings("classes.txt", names, {}, PurePosixPath())


def _from_yaml(tree: Tree, path: str) -> _Settings:
    where = hostile.printable(path)
    found = reading.settings(tree, path)
    splits = {SPLIT_NAMES[key]: tuple(entries) for key, entries in found.splits.items()}
    base, warnings = _base(where, found.path)
    return _Settings(where, found.names, splits, base, warnings)


def _base(where: str, value: str | None) -> tuple[PurePosixPath, tuple[str, ...]]:
    """The folder that entries are relative to. One outside is where the files lay on their author's machine: not opened."""
    if value is None:
        return PurePosixPath(), ()
    try:
        return hostile.relative(value, f"{where}: path") if value != "." else PurePosixPath(), ()
    except RefusedError:
        ignored = f"{where}: path lies outside of the source; the files beside {where} are read"
        return PurePosixPath(), (ignored,)


# --- splits


def _splits(tree: Tree, settings: _Settings) -> tuple[dict[str, Split], list[str]]:
    """The split of every image that stands in exactly one, and the images that stand in several."""
    found: dict[str, set[Split]] = {}
    for split, entries in settings.splits.items():
        for number, entry in enumerate(entries):
            where = f"{settings.where}: {_KEYS[split]}" + (f"[{number}]" if len(entries) > 1 else "")
            for path in _images_of(tree, settings, entry, where):
                found.setdefault(path, set()).add(split)
    overlapping = sorted(path for path, splits in found.items() if len(splits) > 1)
    return {path: next(iter(splits)) for path, splits in found.items() if len(splits) == 1}, overlapping


def _images_of(tree: Tree, settings: _Settings, entry: str, where: str) -> Iterable[str]:
    """The images below a folder, or listed in a text file."""
    plain = entry.replace("\\", "/")
    while plain.startswith("../"):  # Roboflow writes ../train/images for train/images
        plain = plain[3:]
    if plain in {".", "./"}:
        return tree.images
    inner = hostile.relative(plain, where)
    for candidate in (settings.base / inner, inner):
        if str(candidate) in tree.known:
            return _listed(tree, settings, str(candidate))
        below = [path for path in tree.images if path.startswith(f"{candidate}/")]
        if below:
            return below
    raise hostile.invalid(f"{where} names a place where there are no images; correct the path")


def _listed(tree: Tree, settings: _Settings, path: str) -> list[str]:
    images = []
    for number, line in reading.lines(tree, path, reading.MAX_LABELS):
        where = f"{hostile.printable(path)}, line {number}"
        inner = hostile.relative(line, where)
        known = [str(base / inner) for base in (settings.base, PurePosixPath()) if str(base / inner) in tree.known]
        if not known:
            raise hostile.missing_images([where])
        images.append(known[0])
    return images


# --- labels


def _label_path(image: str) -> str:
    """Where ultralytics looks for the labels: the last folder ``images`` becomes ``labels``."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return "/".join(parts)


def _label_files(tree: Tree) -> list[str]:
    """All of them; labelling tools leave their class names beside the labels."""
    files = [PurePosixPath(path) for path in tree.files if suffix(path) == ".txt"]
    return [str(file) for file in files if "labels" in file.parts[:-1] and file.name != "classes.txt"]


def _labelled(tree: Tree, splits: Mapping[str, Split], names: Sequence[str], sizes: Sizes) -> Iterator[ImageRecord]:
    """All images with their boxes, in pixels."""
    files = [_label_path(path) for path in tree.images]
    found = reading.labels(tree, (file for file in files if file in tree.known), len(names))
    for path, file in zip(tree.images, files, strict=True):
        record = ImageRecord(path=path, split=splits.get(path), group=hostile.original_of(path))
        if file in tree.known:
            labels, size = next(found), sizes(path)
            if size is not None:
                record = replace(record, boxes=_boxes(names, labels, size))
        yield record


def _boxes(names: Sequence[str], labels: reading.Labels, size: tuple[int, int]) -> Boxes:
    width, height = size
    pixels = labels.sides * (width, height, width, height)
    return Boxes(names, array("i", labels.classes.tobytes()), array("d", pixels.tobytes()))
