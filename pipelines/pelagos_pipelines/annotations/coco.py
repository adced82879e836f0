"""COCO detection: JSON files with images, annotations and categories. The layouts of COCO itself, CVAT and Roboflow.

Boxes are x, y, width, height in pixels; category ids are any integers. ``images[].group`` (what a split must not cut) and
``images[].split`` are ours. Elsewhere the split comes from the name of the file (``instances_val2017.json``) or of its folder
(``valid/_annotations.coco.json``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from pelagos_pipelines.annotations import hostile, linking
from pelagos_pipelines.annotations.model import (
    SPLIT_NAMES,
    Box,
    Collection,
    ImageRecord,
    Sizes,
    Tree,
    declared,
    split_of,
    suffix,
)
from pelagos_pipelines.beneath import TooLargeError
from pelagos_pipelines.contract import SPLITS, Reason, RefusedError, Split, Task

NAME = "Coco"
VIEW = "coco"
TASK = Task.DETECTION
LAYOUT = "annotations*.json, instances_*.json or _annotations.coco.json with images, annotations and categories"
MAX_BYTES = 1024**3
_NAMES = re.compile(r"^(annotations.*|instances_.*|_annotations\.coco)\.json$", re.IGNORECASE)

_Number: TypeAlias = Annotated[float, Field(strict=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class _Image(_Part):
    id: StrictInt | StrictStr
    file_name: StrictStr
    width: StrictInt | None = None
    height: StrictInt | None = None
    group: StrictStr | None = None
    split: StrictStr | None = None


class _Annotation(_Part):
    image_id: StrictInt | StrictStr
    category_id: StrictInt
    bbox: tuple[_Number, _Number, _Number, _Number] | tuple[()] = ()
    iscrowd: StrictInt | StrictBool = 0


class _Category(_Part):
    id: StrictInt
    name: StrictStr


class _File(_Part):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


@dataclass
class _Reading:
    """What the files read so far have given."""

    names: list[str]
    images: dict[str, ImageRecord]
    orphans: list[str]
    crowds: int = 0
    boxless: int = 0


def recognises(tree: Tree) -> bool:
    """Whether a file is named as COCO's are."""
    return bool(tree.images) and bool(_files(tree))


def read(tree: Tree, sizes: Sizes) -> Collection:
    """The boxes of all annotation files together; their categories are joined by name."""
    files = _files(tree) or [path for path in tree.files if suffix(path) == ".json"]
    if not files:
        raise hostile.invalid(f"there is no annotation file; Coco expects {LAYOUT}")
    reading = _Reading(names=[], images={}, orphans=[])
    for path in files:
        _read_file(tree, path, _parse(tree, path), reading)
    if reading.orphans:
        raise hostile.missing_images(reading.orphans)
    images = tuple(reading.images[path] for path in sorted(reading.images))
    classes, unused = declared(reading.names, images)
    if not classes:
        raise hostile.unannotated(LAYOUT)
    return Collection(TASK, classes, images, tuple(_warnings(tree, reading, unused)))


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """``images/<split>/`` and ``annotations/instances_<split>.json``; category ids begin at 1, as in COCO."""
    names = linking.numbered(collection.images)
    categories = [{"id": index + 1, "name": label} for index, label in enumerate(collection.classes)]
    ids = {label: index + 1 for index, label in enumerate(collection.classes)}
    (target / "annotations").mkdir(parents=True)
    for split in SPLITS:
        folder = target / "images" / split
        folder.mkdir(parents=True)
        images = [image for image in collection.images if image.split == split]
        for image in images:
            linking.link(blobs[image.path], folder / names[image.path])
        content = {
            "images": [_image(index, image, names[image.path]) for index, image in enumerate(images)],
            "annotations": _annotations(images, ids),
            "categories": categories,
        }
        (target / "annotations" / f"instances_{split}.json").write_bytes(orjson.dumps(content))


def _image(index: int, image: ImageRecord, name: str) -> dict[str, object]:
    entry = {"id": index, "file_name": name, "width": image.width, "height": image.height, "source": image.path}
    return entry | ({} if image.group is None else {"group": image.group})


def _annotations(images: Sequence[ImageRecord], ids: Mapping[str, int]) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for index, image in enumerate(images):
        for box in image.boxes:
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": index,
                    "category_id": ids[box.label],
                    "bbox": [box.x, box.y, box.width, box.height],
                    "area": box.width * box.height,
                    "iscrowd": 0,
                }
            )
    return entries


def _files(tree: Tree) -> list[str]:
    return [path for path in tree.files if _NAMES.match(PurePosixPath(path).name)]


def _parse(tree: Tree, path: str) -> _File:
    try:
        content = tree.read(path, MAX_BYTES)
    except TooLargeError as error:
        raise hostile.too_large(path, error.size, MAX_BYTES) from error
    where = hostile.printable(path)
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise hostile.invalid(
            f"{where}, line {error.lineno}, column {error.colno}, is not JSON; export it again"
        ) from error
    try:
        return _File.model_validate(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        message = f"{where} is not COCO: {place or 'content'}: {first['msg']} ({error.error_count()} errors in all)"
        raise hostile.invalid(f"{message}; export it again as COCO detection, which is {LAYOUT}") from error


def _read_file(tree: Tree, path: str, content: _File, reading: _Reading) -> None:
    where = hostile.printable(path)
    categories = {
        entry.id: hostile.class_name(entry.name, f"{where}: categories[{number}].name")
        for number, entry in enumerate(content.categories)
    }
    if len(categories) < len(content.categories):
        raise hostile.invalid(f"{where} declares two categories with one id; ids must be unique: export it again")
    reading.names += [categories[key] for key in sorted(categories)]
    boxes = _boxes(where, content, categories, reading)
    for number, entry in enumerate(content.images):
        place = f"{where}: images[{number}]"
        found = _locate(tree, path, hostile.relative(entry.file_name, f"{place}.file_name"))
        if found is None:
            reading.orphans.append(place)
        elif found in reading.images:
            raise hostile.invalid(
                f"{where} lists {hostile.printable(found)}, which is listed before; list an image once"
            )
        else:
            reading.images[found] = ImageRecord(
                path=found,
                width=entry.width or None,
                height=entry.height or None,
                group=entry.group or hostile.original_of(found),
                split=_split(path) if entry.split is None else _stated(entry.split, place),
                boxes=tuple(boxes.get(entry.id, ())),
            )


def _boxes(where: str, content: _File, categories: Mapping[int, str], reading: _Reading) -> dict[int | str, list[Box]]:
    known = {entry.id for entry in content.images}
    if len(known) < len(content.images):
        raise hostile.invalid(f"{where} lists two images with one id; ids must be unique: export it again")
    boxes: dict[int | str, list[Box]] = defaultdict(list)
    unknown: list[str] = []
    for number, entry in enumerate(content.annotations):
        if entry.image_id not in known:
            reading.orphans.append(f"{where}: annotations[{number}]")
        elif entry.category_id not in categories:
            unknown.append(f"annotations[{number}]")
        elif entry.iscrowd:
            reading.crowds += 1  # the box around a crowd is no object: COCO's own evaluation ignores it
        elif not entry.bbox:
            reading.boxless += 1  # a mask or key points alone
        else:
            boxes[entry.image_id].append(Box(categories[entry.category_id], *entry.bbox))
    if unknown:
        raise RefusedError(
            Reason.UNKNOWN_CLASS,
            f"{where} has {len(unknown)} annotations of categories that it does not declare ({hostile.few(unknown)});"
            f" declared are {len(categories)}: declare the others, or remove the annotations",
            "source",
        )
    return boxes


def _locate(tree: Tree, annotations: str, name: PurePosixPath) -> str | None:
    """The image in the layouts that the field uses: beside the file, below images/, below a folder of the split."""
    here = PurePosixPath(annotations).parent
    subset = PurePosixPath(annotations).stem.removeprefix("instances_")
    bases = [here, here / "images"]
    if here.parts:
        above = here.parent
        bases += [above, above / "images", above / subset, above / "images" / subset]
    candidates = (str(base / name) for base in bases)
    return next((path for path in candidates if path in tree.known), None)


def _split(path: str) -> Split | None:
    file = PurePosixPath(path)
    words = re.split(r"[_.\- ]", file.stem)
    return next(filter(None, (split_of(word) for word in (*reversed(words), file.parent.name))), None)


def _stated(name: str, where: str) -> Split:
    split = split_of(name)
    if split is None:
        raise hostile.invalid(f"{where}.split is none of those that are allowed, {', '.join(SPLIT_NAMES)}: correct it")
    return split


def _warnings(tree: Tree, reading: _Reading, unused: Iterable[str]) -> Iterable[str]:
    unlisted = [path for path in tree.images if path not in reading.images]
    if unlisted:
        yield f"{len(unlisted)} images are in no annotation file and are left out: {hostile.few(unlisted)}"
    if reading.crowds:
        yield f"{reading.crowds} annotations of crowds (iscrowd) are left out"
    if reading.boxless:
        yield f"{reading.boxless} annotations without a bounding box are left out"
    if unused := list(unused):
        yield f"classes that no annotation uses are left out: {hostile.few(unused)}"
