"""ImageFolder: one folder per class, optionally below one folder per split. The layout of torchvision and Keras.

Images at any depth below a class folder belong to the class; folders between class and image name the group (a station, a
deployment). ``classFolder`` Last reverses that for trees of taxa: the innermost folder is the class. The role of a folder follows
from its name; ambiguous names are refused with the alternatives.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.formats import IMAGE_FOLDER
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations import linking, parts, reading
from pelagos_pipelines.annotations.model import (
    Asked,
    Collection,
    Exclusion,
    Format,
    ImageRecord,
    Sizes,
    SourceFiles,
    declared,
    split_of,
    suffix,
)
from pelagos_pipelines.annotations.untrusted_input import (
    class_name,
    format_names,
    invalid,
    is_composed,
    is_folder_name,
    original_of,
    printable,
    recomposed,
)

_LABEL_FILES = frozenset({".json", ".yaml", ".yml", ".xml", ".names"})
_TEXTS = re.compile(r'"([^"]*)"')
_LABEL_FOLDERS = frozenset({"images", "labels", "annotations", "masks", "segmentationclass", "segmentationobject"})


@dataclass(frozen=True)
class _Layout:
    """The roles of the folders. ``depth`` is that of the upper class folders.

    ``divided``: each image is in the folder of a split. ``last``: the class is the last folder that is not of a split;
    ``number``: it is the folder with that number among those. ``shallow`` are images without such a folder, which are also in
    ``unlabelled``. The folders ``above`` or ``below`` the class are groups, or both.
    """

    images: tuple[str, ...]
    unlabelled: tuple[str, ...]
    depth: int
    divided: bool
    problem: str | None
    last: bool = False
    number: int | None = None
    shallow: tuple[str, ...] = ()
    above: bool = False
    below: bool = True


def recognises(tree: SourceFiles) -> bool:
    """Whether every image is in one of at least two class folders and nothing looks like a label file."""
    return obstacle(tree) is None


def obstacle(tree: SourceFiles) -> str | None:
    """Why the files are not recognised as an ImageFolder unless the spec names it; None when they are."""
    layout = _layout(tree)
    if layout.problem is not None:
        return layout.problem
    folders = {_part(path, layout.depth) for path in layout.images}
    if reserved := sorted(str(folder) for folder in folders if str(folder).lower() in _LABEL_FOLDERS):
        return f"the folder {format_names(reserved)} is not a class: move the class folders up, or use it as the source"
    labels = [path for path in tree.files if suffix(path) in _LABEL_FILES]
    if len(labels) == 1 and _is_index(tree, labels[0], {str(folder) for folder in folders}):
        labels = []
    if labels := labels or _texts_beside(tree, layout.images):
        return f"{format_names(labels)} may hold annotations: set format to ImageFolder if only the folders say what images show"
    if len(folders) < 2:
        return (
            f"all images lie in the one folder {format_names(map(str, folders))}: use it as the source if it contains the class "
            "folders, or add the images of other classes"
        )
    return None


def _is_index(tree: SourceFiles, path: str, folders: Set[str]) -> bool:
    """Whether a file at the root is JSON with only the class folders and their numbers, as training scripts write it, so that it
    says nothing about images.
    """
    if path not in tree.at_root or suffix(path) != ".json":
        return False
    try:
        lines = reading.lines(tree, path, reading.MAX_SETTINGS)
    except RefusedError:
        return False
    texts = {text for _, line in lines for text in _TEXTS.findall(line)}
    return {text for text in texts if not text.isdigit()} == folders


def _texts_beside(tree: SourceFiles, images: Sequence[str]) -> list[str]:
    """Text files named after the images beside them, like YOLO's labels, if at least half of the images have one."""
    names = [f"{path.rpartition('.')[0]}.txt" for path in images]
    found = [name for name in names if name in tree.known]
    return sorted({*found}) if 2 * len(found) >= len(names) else []


def read(tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """Read the class of every image from its folder: the first one below the splits, or the last."""
    layout = _layout(tree)
    if layout.problem is not None:
        raise invalid(f"{layout.problem}. An ImageFolder is {IMAGE_FOLDER.layout}")
    class_folder = asked.class_folder if asked.level is None else asked.level
    layout = replace(layout, last=class_folder == "Last")
    if isinstance(class_folder, int):
        layout = _down_to(class_folder, layout)
    if class_folder is None:
        _require_several(layout)
    if layout.last:
        _require_one_end(layout)
    if class_folder != "First":
        _require_classes(layout)
    if class_folder is None:
        _require_flat(layout)
    layout = _grouped(layout)
    images = tuple(
        ImageRecord(
            path=path,
            split=_split(path, layout),
            group="/".join(_groups(path, layout)) or original_of(path),
            label=class_name(name, f"the folder name {printable(name)}"),
        )
        for path in layout.images
        for name in [_class_folder(path, layout)]
    )
    names = sorted({image.label for image in images if image.label is not None})
    return Collection(
        asked.task,
        declared(names, images)[0],
        images,
        tuple(_warnings(tree, layout, images, class_folder)),
        tuple(Exclusion.of(layout.unlabelled, ExclusionReason.UNLABELLED)),
    )


def write(target: Path, collection: Collection, blobs: Mapping[str, Path]) -> None:
    """Write ``<split>/<class>/<image>``. Every split has the folders of all classes."""
    if outside := [label for label in collection.classes if not is_folder_name(label)]:
        raise invalid(
            f"{format_names(outside)} cannot be a folder name, which this view needs for classes; rename it with labels.rename"
        )
    names = linking.numbered(collection.images)
    for split in SPLITS:  # frameworks number the folders: a class missing in one split would shift the numbers after it
        for label in collection.classes:
            (target / split / label).mkdir(parents=True, exist_ok=True)
    with linking.Into(target, blobs) as view:
        for image in collection.images:
            assert image.split is not None
            assert image.label is not None
            view.show(image.path, f"{image.split}/{image.label}/{names[image.path]}")


# --- roles of folders


def _layout(tree: SourceFiles) -> _Layout:
    """The layout: images in a folder for unlabelled ones are so at any depth; the first folders of the others show where classes
    begin."""
    unlabelled = {path for path in tree.images if any(map(parts.is_unlabelled, _folders(path)))}
    images = tuple(path for path in tree.images if path not in unlabelled)
    tops = sorted({top for path in images if (top := _part(path, 0)) is not None})
    depth = 1 if tops and all(map(split_of, tops)) else 0
    # The order matters: a later rule only holds where the earlier ones found no problem.
    problem = _lying_loose(images, 0) or _mixed(tops) or _lying_loose(images, depth) or _nested_splits(images, depth)
    divided = [path for path in images if _split_at(_folders(path)) is not None]
    return _Layout(images, tuple(sorted(unlabelled)), depth, bool(divided), problem or _divided_alike(images, divided))


def _lying_loose(images: Sequence[str], depth: int) -> str | None:
    if not images:
        return "no image lies in a class folder (a folder named unlabelled does not count); add images"
    loose = [path for path in images if _part(path, depth) is None]
    if not loose:
        return None
    return (
        f"{len(loose)} images lie in no class folder: {format_names(loose)}; move them into the folder of their class,"
        " into a folder unlabelled, or out of the source"
    )


def _mixed(tops: Sequence[str]) -> str | None:
    """The problem of folders named like splits beside others, which could be either."""
    splits = [top for top in tops if split_of(top)]
    doubtful = [top for top in tops if parts.is_doubtful(top) or (len(tops) > 1 and parts.says_nothing(top))]
    others = [top for top in tops if top not in {*splits, *doubtful}]
    if doubtful:
        beside = [top for top in tops if top not in doubtful]
        return (
            f"the folders {format_names(doubtful)} are named like parts of the data and not like "
            f"classes{f', beside {format_names(beside)}' if beside else ''}, which is ambiguous: name each train, val, test, or "
            "unlabelled (which leaves its images out), or move it out of the source; rename it if it is a class"
        )
    if splits and others:
        return (
            f"the folders {format_names(splits)} are named like splits and lie beside {format_names(others)}, which are not: "
            "name every folder train, val, test, or unlabelled (which leaves its images out), or move it out of the source; if "
            f"{format_names(others)} are classes, so that {format_names(splits)} should also be one, rename that"
        )
    return None


def _nested_splits(images: Sequence[str], depth: int) -> str | None:
    """The problem of splits below splits, as when archives are unpacked into folders of their own name."""
    classes = sorted({str(_part(path, depth)) for path in images}) if depth else []
    found = [name for name in classes if split_of(name) or parts.is_doubtful(name)]
    if not found:
        return None
    return (
        f"the folders {format_names(found)} below those of the splits are named like splits and would be classes: move their "
        "content up, or rename them if they are classes"
    )


def _divided_alike(images: Sequence[str], divided: Sequence[str]) -> str | None:
    """Why the folders of splits, which may be at any depth, do not determine the split of every image; None when they do."""
    torn = [path for path in divided if len({*map(split_of, _folders(path))} - {None}) > 1]
    if torn:
        return (
            f"{len(torn)} images lie in folders named like more than one split: {format_names(torn)}; keep the folder of their "
            "split, and rename or remove the other"
        )
    if not divided or len(divided) == len(images):
        return None
    others = sorted(set(images) - set(divided))
    return (
        f"{len(divided)} images lie in folders named like splits below their class ({format_names(divided)}), and {len(others)} "
        f"do not ({format_names(others)}): put all images into such folders, or rename these"
    )


def _require_several(layout: _Layout) -> None:
    """Refuse one folder around all others, which may contain the classes or be the only class. For Auto, ``obstacle`` says so."""
    labels = {str(_part(path, layout.depth)) for path in layout.images}
    below = sorted({groups[0] for path in layout.images if (groups := _groups(path, layout))})
    if len(labels) == 1 and below:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"all images lie in the one folder {format_names(labels)}, which has subfolders ({format_names(below)}): set "
            f"classFolder to Last if the folder that an image lies in is its class, to First if {format_names(labels)} is the "
            "only class",
            "classFolder",
        )


def _require_classes(layout: _Layout) -> None:
    """Refuse class folders that are more likely parts of the data, unless the spec says that they are classes."""
    labels = {_class_folder(path, layout) for path in layout.images}
    lower = layout.last or layout.number is not None
    odd = [name for name in labels if lower and (split_of(name) or parts.is_doubtful(name) or parts.says_nothing(name))]
    found = sorted({*odd, *parts.named_like_parts(sorted(labels))})
    if not found:
        return
    deeper = any(_groups(path, layout) for path in layout.images)
    if lower:
        choice = "above or below the classes, or rename them if they are classes"
    elif deeper:
        choice = "or set classFolder to First if they are classes, to Last if the folders in them are"
    else:
        choice = "or set classFolder to First if they are classes"
    raise RefusedError(
        Reason.FORMAT_INVALID,
        f"the folders {format_names(found)} are named like parts of the data and would be classes: name each train, val, test, or"
        f" unlabelled (which leaves its images out), {choice}",
        "classFolder",
    )


def _require_one_end(layout: _Layout) -> None:
    """Refuse images outside of the splits' folders, whose folders would have other roles."""
    within = []
    for path in layout.images if layout.divided else ():
        folders = _folders(path)
        if any(map(split_of, folders[_place(folders, layout) + 1 :])):
            within.append(path)
    if within and len(within) < len(layout.images):
        others = sorted(set(layout.images) - set(within))
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"classFolder is Last, and {len(within)} images lie in folders named like splits ({format_names(within)}),"
            f" {len(others)} in others ({format_names(others)}): put the splits above all classes or below all, or leave"
            " classFolder out",
            "classFolder",
        )


def _require_flat(layout: _Layout) -> None:
    """Refuse folders below the class folders that may be the classes: all but numbered ones, such as stations or hauls."""
    below: dict[str, set[str]] = defaultdict(set)
    for path in layout.images:
        if groups := _groups(path, layout):
            below[_folders(path)[layout.depth]].add(groups[0])
    deep = dict(sorted(below.items()))
    of = Counter(name for names in deep.values() for name in names)
    # Numbered folders may still be the classes if the upper folders are years, or all of them are numbers.
    may_be_classes = all(map(parts.is_year, deep)) or all(name.isdigit() for name in (*deep, *of))
    if len(deep) < 2 or (2 * len(parts.numbered(of)) >= len(of) and not may_be_classes):
        return
    shared = 2 * sum(count > 1 for count in of.values()) >= len(of)
    shown = "; ".join(f"{printable(label)}: {format_names(sorted(names), 3)}" for label, names in [*deep.items()][:3])
    said = "have the same names" if shared else "differ from one to the other"
    like = "as classes below years, cameras or splits do" if shared else "as taxa in a tree do"
    raise RefusedError(
        Reason.FORMAT_INVALID,
        f"the folders below {format_names(deep)} {said} ({shown}), {like}: set classFolder to Last if the folder that an image "
        "lies in is its class, or to First if the upper folders are the classes and those below them are groups, such as "
        "stations",
        "classFolder",
    )


# --- images


def _place(folders: Sequence[str], layout: _Layout) -> int:
    """The index of the class folder."""
    if layout.number is not None:
        return _telling(folders, layout)[layout.number - 1]
    if not layout.last:
        return layout.depth
    place = len(folders) - 1
    while place > layout.depth and (parts.is_empty(folders[place]) or (layout.divided and split_of(folders[place]))):
        place -= 1
    return place


def _telling(folders: Sequence[str], layout: _Layout) -> list[int]:
    """The indices of folders that are neither a split's nor meaningless: the levels of a tree, from the root."""
    split = layout.divided
    return [at for at, name in enumerate(folders) if not (parts.is_empty(name) or (split and split_of(name)))]


def _down_to(number: int, layout: _Layout) -> _Layout:
    """The layout of a tree in which a numbered level is the class. Images above it have no class and are left out.

    Raises:
        RefusedError: LABELS_INVALID when no image is that deep.
    """
    depths = {path: len(_telling(_folders(path), layout)) for path in layout.images}
    shallow = tuple(path for path in layout.images if depths[path] < number)
    if len(shallow) == len(layout.images):
        raise RefusedError(
            Reason.LABELS_INVALID,
            f"labels.level is {number}, but no image lies in more than {max(depths.values())} folders apart from those of "
            "splits; count them from the root of the source",
            "labels.level",
        )
    return replace(
        layout,
        images=tuple(path for path in layout.images if depths[path] >= number),
        unlabelled=tuple(sorted((*layout.unlabelled, *shallow))),
        number=number,
        shallow=shallow,
    )


def _class_folder(path: str, layout: _Layout) -> str:
    folders = _folders(path)
    return folders[_place(folders, layout)]


def _split_at(folders: Sequence[str]) -> int | None:
    return next((place for place, folder in enumerate(folders) if split_of(folder)), None)


def _split(path: str, layout: _Layout) -> Split | None:
    return next(filter(None, map(split_of, _folders(path))), None) if layout.divided else None


def _groups(path: str, layout: _Layout) -> list[str]:
    """The folders that are groups, without the split's."""
    folders = _folders(path)
    place = _place(folders, layout)
    split = _split_at(folders) if layout.divided else None
    wanted = (*(range(place) if layout.above else ()), *(range(place + 1, len(folders)) if layout.below else ()))
    return [folders[one] for one in wanted if one != split and not parts.is_empty(folders[one])]


def _grouped(layout: _Layout) -> _Layout:
    """The layout with the decision which folders are groups.

    In a tree of taxa, the folders above a class are higher taxa and not groups; if a class is in several folders, those are
    stations. Folders below a class with a number are lower taxa, unless they are named like stations.
    """
    if not layout.last and layout.number is None:
        return layout
    several = bool(_in_several_folders(layout))
    lower = {name for path in layout.images for name in _groups(path, replace(layout, above=False, below=True))}
    stations = not layout.last and 2 * len(parts.numbered(sorted(lower))) >= len(lower)
    return replace(layout, above=several, below=stations)


def _in_several_folders(layout: _Layout) -> list[str]:
    """Innermost folders that occur in more than one folder: not taxa in a tree, but classes below stations."""
    above: dict[str, set[str]] = defaultdict(set)
    upper = replace(layout, above=True, below=False)
    for path in layout.images:
        above[_class_folder(path, layout)].add("/".join(_groups(path, upper)))
    return sorted(label for label, folders in above.items() if len(folders) > 1)


def _folders(path: str) -> list[str]:
    """The folders of an image. No pathlib: sources have a million images, and each is asked several times."""
    return path.split("/")[:-1]


def _part(path: str, depth: int) -> str | None:
    folders = _folders(path)
    return folders[depth] if len(folders) > depth else None


# --- warnings


def _warnings(
    tree: SourceFiles, layout: _Layout, images: Sequence[ImageRecord], class_folder: int | str | None
) -> Iterator[str]:
    if named_so := sorted({*layout.unlabelled} - {*layout.shallow}):
        yield f"{len(named_so)} images in folders named unlabelled are left out: {format_names(named_so)}"
    if layout.shallow:
        yield (
            f"{len(layout.shallow)} images lie in fewer folders than labels.level, {layout.number}, and are left out:"
            f" {format_names(layout.shallow)}"
        )
    named: dict[Split | None, set[str]] = defaultdict(set)
    for path in layout.images:
        if (place := _split_at(_folders(path))) is not None:
            named[_split(path, layout)].add(_folders(path)[place])
    for split, folders in sorted(named.items(), key=lambda item: str(item[0])):
        if len(folders) > 1:
            yield f"the folders {format_names(sorted(folders))} are all read as {split}"
    yield from _of_classes(images, layout)
    yield from _of_groups(layout, images, class_folder)
    held = {_part(path, layout.depth) for path in tree.images}
    others = {folder for path in tree.files if (folder := _part(path, layout.depth)) is not None}
    if empty := sorted(others - held):
        yield f"{len(empty)} folders contain no readable image, and are not classes: {format_names(empty)}"


def _of_classes(images: Sequence[ImageRecord], layout: _Layout) -> Iterator[str]:
    spelt: dict[str, set[str]] = defaultdict(set)
    for image in images:
        spelt[image.label or ""].add(_class_folder(image.path, layout))
    if several := [format_names(sorted(folders)) for folders in spelt.values() if len(folders) > 1]:
        yield f"folders whose names differ only in Unicode form or spaces are one class: {'; '.join(several[:5])}"
    yield from recomposed(one for folders in spelt.values() for one in folders if not is_composed(one))
    if vague := [name for name in sorted(spelt) if parts.is_catch_all(name)]:
        yield f"{format_names(vague)} is read as a class like the others; a folder named unlabelled would be left out"
    if spoken := parts.speaking_of_splits(sorted(spelt)):
        yield f"{format_names(spoken)} are read as classes like the others, although their names contain a word for a split"


def _of_groups(layout: _Layout, images: Sequence[ImageRecord], class_folder: int | str | None) -> Iterator[str]:
    groups = sorted({image.group for image in images if image.group and image.group != original_of(image.path)})
    if groups and class_folder is None:
        classes = sorted({image.label for image in images if image.label is not None})
        yield (
            f"the classes are the upper folders ({format_names(classes)}), and {len(groups)} folders below them are read as "
            f"groups: {format_names(groups)}; set classFolder to First if that is right, to Last if these are the classes"
        )
    if likely := sorted({part for group in groups for part in parts.named_like_parts(group.split("/"))}):
        yield (
            f"the folders {format_names(likely)} are read as groups, although they are named like splits: name them train, val "
            "and test if they are splits"
        )
    if class_folder not in {"First", None} and (several := _in_several_folders(layout)):
        yield (
            f"{len(several)} classes lie below more than one folder: {format_names(several)}; therefore the folders above the "
            f"classes are read as groups: {format_names(groups)}"
        )


def _evidence(tree: SourceFiles) -> str:
    layout = _layout(tree)
    folders = sorted({_class_folder(path, layout) for path in layout.images})
    return f"the images lie in folders that may be classes, {format_names(folders, 3)}"


FORMAT = Format(IMAGE_FOLDER, recognises, read, write, obstacle=obstacle, evidence=_evidence)
