"""ImageFolder: one folder per class, optionally below one folder per split. The layout of torchvision and Keras.

Images below the class folder belong to the class however deep they lie; the folders between class and image, when there are any,
name the group (a station, a deployment). ``classFolder`` Last turns that round, for taxa in a tree: the folder that an image lies
in is its class. What folders are called decides what they are, so that names which leave it open are refused with the choice.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pelagos_pipelines.annotations import hostile, linking
from pelagos_pipelines.annotations.hostile import few
from pelagos_pipelines.annotations.model import (
    Collection,
    Exclusion,
    ImageRecord,
    Sizes,
    Tree,
    declared,
    plain_words,
    split_of,
    suffix,
)
from pelagos_pipelines.contract import SPLITS, ClassFolder, ExclusionReason, Reason, RefusedError, Split, Task

NAME = "ImageFolder"
VIEW = "imagefolder"
TASK = Task.CLASSIFICATION
LAYOUT = "a folder per class with its images, or train, val and test with a folder per class each"
_LABEL_FILES = frozenset({".json", ".yaml", ".yml", ".xml"})
_LABEL_FOLDERS = frozenset({"images", "labels", "annotations"})
_UNLABELLED = frozenset(
    {
        *("unlabelled", "unlabeled", "unlabel", "unannotated", "nolabel", "nolabels", "withoutlabel", "withoutlabels"),
        *("notlabelled", "notlabeled", "notannotated", "tolabel", "tobelabelled", "tobelabeled", "toannotate"),
    }
)
_DOUBTFUL = frozenset(
    {
        *("eval", "evaluate", "evaluation", "predict", "prediction", "predictions", "inference", "infer"),
        *("trainval", "traintest", "trainvaltest", "valtest", "fold", "folds", "crossval", "subset"),
        *("labelled", "labeled", "annotated"),
    }
)
"""Names of parts of the data of which it is open which split they are."""
_CATCH_ALL = frozenset(
    {"unknown", "unsorted", "unclassified", "unidentified", "undetermined", "todo", "misc", "none", "null", "na"}
)


@dataclass(frozen=True)
class _Layout:
    """What the folders are. ``depth`` is that of the class folders, ``splits`` that of the folders of splits, if any."""

    images: tuple[str, ...]
    unlabelled: tuple[str, ...]
    depth: int
    splits: int | None
    problem: str | None


def recognises(tree: Tree) -> bool:
    """Whether every image lies in one of at least two class folders and nothing looks like a label file."""
    return obstacle(tree) is None


def obstacle(tree: Tree) -> str | None:
    """Why the files are not taken for an ImageFolder unless the person says so; None when they are."""
    layout = _layout(tree)
    if layout.problem is not None:
        return layout.problem
    folders = {_part(path, layout.depth) for path in layout.images}
    if reserved := sorted(str(folder) for folder in folders if str(folder).lower() in _LABEL_FOLDERS):
        return f"the folder {few(reserved)} is no class: move the class folders up, or name it as the source"
    if labels := [path for path in tree.files if suffix(path) in _LABEL_FILES]:
        return (
            f"{few(labels)} may hold annotations: set format to ImageFolder when the folders alone say what images show"
        )
    if len(folders) < 2:
        return (
            f"all images lie in the one folder {few(map(str, folders))}: name it as the source when the class folders are in it,"
            " or add the images of other classes"
        )
    return None


def read(tree: Tree, sizes: Sizes, class_folder: ClassFolder | None = None) -> Collection:
    """The class of every image is the name of its folder: of the first one below the splits, or of the last."""
    layout = _layout(tree)
    if layout.problem is not None:
        raise hostile.invalid(f"{layout.problem}. An ImageFolder is {LAYOUT}")
    if class_folder is None:
        _require_flat(layout)
    if class_folder == "Last" and layout.splits == 1:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            "classFolder is Last, but the folders that images lie in are splits: leave it out, or put the splits above",
            "classFolder",
        )
    images = _records(layout, class_folder)
    names = sorted({image.label for image in images if image.label is not None})
    return Collection(
        TASK,
        declared(names, images)[0],
        images,
        tuple(_warnings(tree, layout, images, class_folder)),
        tuple(Exclusion(path, ExclusionReason.UNLABELLED) for path in layout.unlabelled),
    )


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


# --- what folders are


def _layout(tree: Tree) -> _Layout:
    """Unlabelled images stand beside classes or splits; the others say by their first folders where classes begin."""
    begin = 1 if any(split_of(top) for top in _tops(tree.images)) else 0
    unlabelled = {path for path in tree.images if _is_unlabelled(path, begin)}
    images = tuple(path for path in tree.images if path not in unlabelled)
    tops = _tops(images)
    depth, splits = (1, 0) if tops and all(map(split_of, tops)) else (0, None)
    problem = _lying_loose(images, 0) or _mixed(tops) or _lying_loose(images, depth) or _nested_splits(images, depth)
    if problem is None and splits is None:
        splits, problem = _splits_below(images)
    return _Layout(images, tuple(sorted(unlabelled)), depth, splits, problem)


def _tops(images: Sequence[str]) -> list[str]:
    return sorted({top for path in images if (top := _part(path, 0)) is not None})


def _is_unlabelled(path: str, begin: int) -> bool:
    return any(plain_words(folder) in _UNLABELLED for folder in _folders(path)[: begin + 1])


def _lying_loose(images: Sequence[str], depth: int) -> str | None:
    if not images:
        return "no image lies in a class folder (a folder named unlabelled is none); add images"
    loose = [path for path in images if _part(path, depth) is None]
    if not loose:
        return None
    return (
        f"{len(loose)} images lie in no class folder: {few(loose)}; move them into the folder of their class,"
        " into a folder unlabelled, or out of the source"
    )


def _mixed(tops: Sequence[str]) -> str | None:
    """Folders named like splits beside others: either could be meant."""
    splits = [top for top in tops if split_of(top)]
    doubtful = [top for top in tops if plain_words(top) in _DOUBTFUL or (len(tops) > 1 and _says_nothing(top))]
    others = [top for top in tops if top not in {*splits, *doubtful}]
    if doubtful:
        beside = [top for top in tops if top not in doubtful]
        return (
            f"the folders {few(doubtful)} are named like parts of the data and not like classes"
            f"{f', beside {few(beside)}' if beside else ''}, and leave open which: name each train, val, test, or unlabelled"
            " (which leaves its images out), or move it out of the source; rename it when it is a class"
        )
    if splits and others:
        return (
            f"the folders {few(splits)} are named like splits and stand beside {few(others)}, which are not: name every folder"
            " train, val, test, or unlabelled (which leaves its images out), or move it out of the source;"
            f" when {few(others)} are classes, so that {few(splits)} should be one, too, rename that"
        )
    return None


def _says_nothing(name: str) -> bool:
    """Whether a name is made of words such as "set" and "images" alone, as in ``split1``. Numbers may be classes."""
    return not plain_words(name) and any(letter.isalpha() for letter in name)


def _nested_splits(images: Sequence[str], depth: int) -> str | None:
    """Folders named like splits below folders of splits, as archives leave them that are unpacked into folders of their name."""
    classes = sorted({str(_part(path, depth)) for path in images}) if depth else []
    found = [name for name in classes if split_of(name) or plain_words(name) in _DOUBTFUL]
    if not found:
        return None
    return (
        f"the folders {few(found)} below those of the splits are named like splits and would be classes: move what is in them"
        " up, or rename them when they are classes"
    )


def _splits_below(images: Sequence[str]) -> tuple[int | None, str | None]:
    """Whether each class has folders for its splits, as in ``cod/train``: the depth of these, or why that is not clear."""
    named = [path for path in images if (folder := _part(path, 1)) is not None and split_of(folder)]
    if not named:
        return None, None
    if len(named) == len(images):
        return 1, None
    others = sorted(set(images) - set(named))
    return None, (
        f"{len(named)} images lie in folders named like splits below their class ({few(named)}), and {len(others)} do not"
        f" ({few(others)}): put all into such folders, or rename these"
    )


def _require_flat(layout: _Layout) -> None:
    """Refuse folders below the class folders that may be the classes: all but numbered ones, as of stations or hauls."""
    below: dict[str, set[str]] = defaultdict(set)
    for path in layout.images:
        label, folder = _part(path, layout.depth), _part(path, _first_between(layout))
        if label is not None and folder is not None:
            below[label].add(folder)
    deep = dict(sorted(below.items()))
    of = Counter(name for names in deep.values() for name in names)
    numbered = sum(bool(re.search(r"\d", name)) for name in of)
    if len(deep) < 2 or 2 * numbered >= len(of):
        return
    shared = 2 * sum(count > 1 for count in of.values()) >= len(of)
    shown = "; ".join(f"{hostile.printable(label)}: {few(sorted(names), 3)}" for label, names in [*deep.items()][:3])
    said = "have the same names" if shared else "differ from one to the other"
    like = "as classes below years, cameras or splits do" if shared else "as taxa in a tree do"
    raise RefusedError(
        Reason.FORMAT_INVALID,
        f"the folders below {few(deep)} {said} ({shown}), {like}: set classFolder to Last"
        " when the folder in which an image lies is its class, or to First when the upper folders are the classes and those"
        " below them are groups, such as stations",
        "classFolder",
    )


# --- images


def _records(layout: _Layout, class_folder: ClassFolder | None) -> tuple[ImageRecord, ...]:
    if class_folder != "Last":
        return tuple(
            _record(path, layout, layout.depth, _between(path, _first_between(layout))) for path in layout.images
        )
    grouped = bool(_in_several_folders(layout))
    return tuple(_record(path, layout, -1, _above(path, layout) if grouped else "") for path in layout.images)


def _record(path: str, layout: _Layout, place: int, group: str) -> ImageRecord:
    folders = _folders(path)
    return ImageRecord(
        path=path,
        split=_split(path, layout),
        group=group or hostile.original_of(path),
        label=hostile.class_name(folders[place], f"the folder name {hostile.printable(folders[place])}"),
    )


def _split(path: str, layout: _Layout) -> Split | None:
    return None if layout.splits is None else split_of(path.split("/")[layout.splits])


def _first_between(layout: _Layout) -> int:
    """Depth of the first folder below the class folders that names no split."""
    return 2 if layout.splits is not None else 1


def _between(path: str, depth: int) -> str:
    return "/".join(_folders(path)[depth:])


def _above(path: str, layout: _Layout) -> str:
    """The folders above the last one, below those of the splits."""
    return "/".join(path.split("/")[layout.depth : -2])


def _in_several_folders(layout: _Layout) -> list[str]:
    """Last folders that lie in more than one: not taxa in a tree, but classes below a folder for each station."""
    above: dict[str, set[str]] = defaultdict(set)
    for path in layout.images:
        above[path.split("/")[-2]].add(_above(path, layout))
    return sorted(label for label, folders in above.items() if len(folders) > 1)


def _folders(path: str) -> list[str]:
    """Sources have a million images, of which each is asked several times."""
    return path.split("/")[:-1]


def _part(path: str, depth: int) -> str | None:
    folders = _folders(path)
    return folders[depth] if len(folders) > depth else None


# --- what should be said


def _warnings(
    tree: Tree, layout: _Layout, images: Sequence[ImageRecord], class_folder: ClassFolder | None
) -> Iterator[str]:
    if layout.unlabelled:
        yield f"{len(layout.unlabelled)} images in folders named unlabelled are left out: {few(layout.unlabelled)}"
    yield from _of_splits(layout)
    yield from _of_classes(images, -2 if class_folder == "Last" else layout.depth)
    yield from _of_groups(layout, images, class_folder)
    held = {_part(path, layout.depth) for path in tree.images}
    others = {folder for path in tree.files if (folder := _part(path, layout.depth)) is not None}
    if empty := sorted(others - held):
        yield f"{len(empty)} folders hold no image that can be read, and are no classes: {few(empty)}"


def _of_splits(layout: _Layout) -> Iterator[str]:
    named: dict[Split | None, set[str]] = defaultdict(set)
    for path in layout.images if layout.splits is not None else ():
        named[_split(path, layout)].add(path.split("/")[layout.splits or 0])
    for split, folders in sorted(named.items(), key=lambda item: str(item[0])):
        if len(folders) > 1:
            yield f"the folders {few(sorted(folders))} are all taken for {split}"


def _of_classes(images: Sequence[ImageRecord], place: int) -> Iterator[str]:
    spelt: dict[str, set[str]] = defaultdict(set)
    for image in images:
        spelt[image.label or ""].add(image.path.split("/")[place])
    if several := [few(sorted(folders)) for folders in spelt.values() if len(folders) > 1]:
        yield f"folders whose names differ in Unicode form or spaces only are one class: {'; '.join(several[:5])}"
    yield from hostile.recomposed(one for folders in spelt.values() for one in folders if not hostile.is_composed(one))
    if vague := [name for name in sorted(spelt) if plain_words(name) in _CATCH_ALL]:
        yield f"{few(vague)} is taken for a class like the others; a folder named unlabelled would be left out"


def _of_groups(layout: _Layout, images: Sequence[ImageRecord], class_folder: ClassFolder | None) -> Iterator[str]:
    groups = sorted({image.group for image in images if image.group and image.group != hostile.original_of(image.path)})
    if groups and class_folder is None:
        classes = sorted({image.label for image in images if image.label is not None})
        yield (
            f"the classes are the upper folders ({few(classes)}), and {len(groups)} folders below them are taken for groups:"
            f" {few(groups)}; set classFolder to First if that is right, to Last if these are the classes"
        )
    if class_folder == "Last" and (several := _in_several_folders(layout)):
        yield (
            f"{len(several)} classes lie below more than one folder: {few(several)}; therefore the folders above the classes"
            f" are taken for groups: {few(groups)}"
        )
