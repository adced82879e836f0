"""ImageFolder: one folder per class, optionally below one folder per split. The layout of torchvision and Keras.

Images below the class folder belong to the class however deep they lie; the folders between class and image, when there are any,
name the group (a station, a deployment).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pelagos_pipelines.annotations import hostile, linking
from pelagos_pipelines.annotations.model import Collection, ImageRecord, Sizes, Tree, declared, split_of, suffix
from pelagos_pipelines.contract import SPLITS, Task

NAME = "ImageFolder"
VIEW = "imagefolder"
TASK = Task.CLASSIFICATION
LAYOUT = "a folder per class with its images, or train, val and test with a folder per class each"
_LABEL_FILES = frozenset({".json", ".yaml", ".yml", ".xml"})
_LABEL_FOLDERS = frozenset({"images", "labels", "annotations"})


def recognises(tree: Tree) -> bool:
    """Whether every image lies in one of at least two class folders and nothing looks like a label file."""
    depth = _class_depth(tree)
    folders = {_part(path, depth) for path in tree.images}
    if len(folders) < 2 or None in folders or {str(folder).lower() for folder in folders} & _LABEL_FOLDERS:
        return False
    return not any(suffix(path) in _LABEL_FILES for path in tree.files)


def read(tree: Tree, sizes: Sizes) -> Collection:
    """The class of every image is the name of its folder."""
    depth = _class_depth(tree)
    stray = [path for path in tree.images if _part(path, depth) is None]
    if stray:
        raise hostile.invalid(
            f"{len(stray)} images lie in no class folder: {hostile.few(stray)}; an ImageFolder is {LAYOUT}: move them"
        )
    images = tuple(_record(path, depth) for path in tree.images)
    names = sorted({image.label for image in images if image.label is not None})
    return Collection(TASK, declared(names, images)[0], images)


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """``<split>/<class>/<image>``. Every split has all folders, because readers number classes by sorting them."""
    names = linking.numbered(collection.images)
    for split in SPLITS:
        for label in collection.classes:
            (target / split / label).mkdir(parents=True, exist_ok=True)
    for image in collection.images:
        assert image.split is not None
        assert image.label is not None
        linking.link(blobs[image.path], target / image.split / image.label / names[image.path])


def _class_depth(tree: Tree) -> int:
    """Depth of the class folders: 1 below folders of splits, else 0."""
    tops = {_part(path, 0) for path in tree.images}
    splits = {split_of(top) if top is not None else None for top in tops}
    return 1 if "train" in splits and None not in splits else 0


def _part(path: str, depth: int) -> str | None:
    folders = PurePosixPath(path).parts[:-1]
    return folders[depth] if len(folders) > depth else None


def _record(path: str, depth: int) -> ImageRecord:
    folders = PurePosixPath(path).parts[:-1]
    between = "/".join(folders[depth + 1 :])
    return ImageRecord(
        path=path,
        split=split_of(folders[0]) if depth else None,
        group=between or hostile.original_of(path),
        label=hostile.class_name(folders[depth], f"the folder name {hostile.printable(folders[depth])}"),
    )
