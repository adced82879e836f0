"""YOLO detection: data.yaml with the class names, images/ and labels/ with one text file per image. Layouts of ultralytics,
Roboflow and Label Studio (which writes classes.txt instead).

A row is ``class x y width height``: centre and size as fractions of the upright image. Polygons become their bounding box.
data.yaml is parsed by us and never handed to a framework: ultralytics executes its key ``download``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pelagos_pipelines.annotations import hostile, linking
from pelagos_pipelines.annotations.model import (
    SPLIT_NAMES,
    Box,
    Collection,
    ImageRecord,
    Sizes,
    Tree,
    declared,
    suffix,
)
from pelagos_pipelines.contract import SPLITS, Reason, RefusedError, Split, Task

NAME = "Yolo"
VIEW = "yolo"
TASK = Task.DETECTION
LAYOUT = "data.yaml (names, train, val, test) or classes.txt, with images/ and labels/"
MAX_YAML_BYTES = 1024**2
MAX_LABEL_BYTES = 16 * 1024**2
_BOX_COLUMNS = 5
_KEYS: Mapping[Split, str] = {"train": "train", "validation": "val", "test": "test"}


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases: a few lines of them expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.MarkedYAMLError(problem_mark=self.get_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


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
    images = []
    for path in tree.images:
        file = _label_path(path)
        rows = tree.text(file, MAX_LABEL_BYTES) if file in tree.known else ""
        record = ImageRecord(path=path, split=splits.get(path), group=hostile.original_of(path))
        images.append(_with_boxes(record, _rows(rows, file), settings.names, sizes(path)))
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
    lines = tree.text("classes.txt", MAX_YAML_BYTES).splitlines()
    names = tuple(
        hostile.class_name(line, f"classes.txt, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    return _Settings("classes.txt", names, {}, PurePosixPath())


def _from_yaml(tree: Tree, path: str) -> _Settings:
    where = hostile.printable(path)
    text = tree.text(path, MAX_YAML_BYTES)
    try:
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise hostile.invalid(f"{where}{_place(error)} is not YAML that is read here; correct it") from error
    if not isinstance(content, dict):
        raise hostile.invalid(f"{where} is not a mapping; Yolo expects {LAYOUT}")
    if "download" in content:
        raise hostile.invalid(
            f"{where} has the key download, which may hold a program; it is never executed: remove it"
        )
    names = _names(where, content)
    splits = {
        SPLIT_NAMES[key]: _entries(where, key, content[key]) for key in ("train", "val", "test") if content.get(key)
    }
    base, warnings = _base(where, content.get("path"))
    return _Settings(where, names, splits, base, warnings)


def _place(error: Exception) -> str:
    """Where in the file; the text of the exception would quote it."""
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}, column {mark.column + 1}," if mark is not None else ""


def _names(where: str, content: Mapping[Any, Any]) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise hostile.invalid(
            f"{where}: names must be a list, or a mapping from 0, 1, 2, ... to class names: correct it"
        )
    if "nc" in content and content["nc"] != len(names):
        raise hostile.invalid(f"{where}: nc is not the number of names, {len(names)}: correct one of them")
    return tuple(hostile.class_name(name, f"{where}: names[{index}]") for index, name in enumerate(names))


def _entries(where: str, key: str, value: object) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry for entry in listed):
        raise hostile.invalid(f"{where}: {key} must be a path or a list of paths below the source: correct it")
    return tuple(listed)


def _base(where: str, value: object) -> tuple[PurePosixPath, tuple[str, ...]]:
    """The folder that entries are relative to. One outside is where the files lay on their author's machine: not opened."""
    if value is None:
        return PurePosixPath(), ()
    try:
        return hostile.relative(str(value), f"{where}: path") if str(value) != "." else PurePosixPath(), ()
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
    for number, line in enumerate(tree.text(path, MAX_LABEL_BYTES).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{hostile.printable(path)}, line {number}"
        inner = hostile.relative(line.strip(), where)
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


@dataclass(frozen=True)
class _Row:
    where: str
    class_id: int
    values: tuple[float, ...]


def _rows(text: str, file: str) -> Iterator[_Row]:
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        where = f"{hostile.printable(file)}, line {number}"
        try:
            row = _Row(where, int(columns[0]), tuple(float(column) for column in columns[1:]))
        except ValueError as error:
            raise hostile.invalid(
                f"{where}: this is not 'class x y width height', five numbers; correct the row"
            ) from error
        if not all(map(math.isfinite, row.values)):
            raise hostile.invalid(f"{where}: a value is no finite number; correct the row")
        polygon = len(columns) > _BOX_COLUMNS + 1 and len(columns) % 2 == 1
        if len(columns) != _BOX_COLUMNS and not polygon:
            raise hostile.invalid(
                f"{where}: {len(columns)} columns; a row has {_BOX_COLUMNS}, or an odd number from 7 for a polygon"
            )
        yield row


def _with_boxes(
    image: ImageRecord, rows: Iterable[_Row], names: Sequence[str], size: tuple[int, int] | None
) -> ImageRecord:
    boxes = []
    for row in rows:
        if not 0 <= row.class_id < len(names):
            raise RefusedError(
                Reason.UNKNOWN_CLASS,
                f"{row.where}: the class is none of those that names declares, {len(names)} (0 to {len(names) - 1}):"
                " add its name, or remove the row",
                "source",
            )
        if size is not None:
            boxes.append(_box(names[row.class_id], row.values, size))
    return replace(image, boxes=tuple(boxes))


def _box(label: str, values: Sequence[float], size: tuple[int, int]) -> Box:
    width, height = size
    if len(values) == _BOX_COLUMNS - 1:
        x, y, w, h = values
        return Box(label, (x - w / 2) * width, (y - h / 2) * height, w * width, h * height)
    xs, ys = values[::2], values[1::2]
    left, top = min(xs), min(ys)
    return Box(label, left * width, top * height, (max(xs) - left) * width, (max(ys) - top) * height)
