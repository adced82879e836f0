"""Class names and splits of a YOLO source, from data.yaml or the lists of other tools. Called by yolo.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pelagos_contract.failures import RefusedError
from pelagos_contract.formats import YOLO
from pelagos_pipelines.annotations import class_lists, kinds, pairing, reading, untrusted_input
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import SourceFiles, split_of, suffix
from pelagos_pipelines.annotations.untrusted_input import format_names


@dataclass(frozen=True)
class Settings:
    """The settings in the file ``path``, called ``where`` in messages. ``splits`` has the entries by words for splits.

    ``others`` are texts under other keys, ``further`` other files that were read. ``points`` is kpt_shape. An id without a name,
    from an empty line of classes.txt, has the name "".
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


def files_of(tree: SourceFiles) -> list[str]:
    """The settings at the root: data.yaml, or the only YAML file."""
    found = [path for path in tree.at_root if suffix(path) in {".yaml", ".yml"}]
    named = [path for path in found if is_named(path)]
    return named or (found if len(found) == 1 else [])


def is_named(path: str) -> bool:
    """Whether a YAML file has a usual name for settings."""
    return PurePosixPath(path).stem.lower() in {"data", "dataset"}


def read(tree: SourceFiles, faults: Faults) -> Settings:
    """Read the settings of a source. Raises RefusedError (FORMAT_INVALID) for none, or more than one."""
    files = files_of(tree)
    if len(files) > 1:
        raise untrusted_input.invalid(f"there is more than one settings file: {format_names(files)}; keep one")
    if files:
        return _from_yaml(tree, files[0], faults)
    groups = class_lists.groups(tree)
    if not groups:
        raise untrusted_input.invalid(
            f"there is neither data.yaml nor classes.txt{class_lists.deeper(tree)}; Yolo expects {YOLO.layout}"
        )
    path, *others = groups[0]
    with faults.noting():
        class_lists.require_same(tree, groups[0])
    settings = _from_lines(path, reading.lines(tree, path, reading.MAX_SETTINGS), faults)
    warnings = (*settings.warnings, *_of_other_names(tree, settings.where, settings.names, groups[1:]))
    return replace(settings, warnings=warnings, further=tuple(others))


def with_lists(tree: SourceFiles, settings: Settings) -> Settings:
    """Add darknet's and CVAT's lists of splits if the settings name no splits themselves."""
    if settings.splits:
        return settings
    darknet = suffix(settings.path) == ".names"
    stated = class_lists.stated(tree)
    texts = {path for path in tree.at_root if suffix(path) == ".txt"} - {*stated.splits.values()}
    told = {split_of(key) for key in stated.splits}
    splits = {key: (path,) for key, path in stated.splits.items()}
    for path in sorted(texts):
        stem = PurePosixPath(path).stem
        if split_of(stem) is not None and split_of(stem) not in told and _is_list(tree, path, darknet):
            splits[stem] = (path,)
    warnings, further = settings.warnings, settings.further
    if stated.lost:
        warnings += (f"{stated.path} names files that do not exist, or several at once: {format_names(stated.lost)}",)
    if stated.path is not None and (stated.names or splits):
        further += (stated.path,)
    return replace(settings, splits=splits, warnings=warnings, further=further)


def _is_list(tree: SourceFiles, path: str, darknet: bool) -> bool:
    """Whether its first line is the name of an image; beside obj.names, whether it is not a row of a label file.

    train.txt may also have the labels of an image train.jpg, which would be lost if it were read as a list.
    """
    with suppress(RefusedError):  # if it is a list, it is read again and refused then
        lines = reading.lines(tree, path, reading.MAX_LABELS)
        first = lines[0][1] if lines else ""
        return not pairing.is_row(first) if darknet else is_image(first)
    return darknet


def _from_lines(path: str, lines: Sequence[tuple[int, str]], faults: Faults) -> Settings:
    """The settings from classes.txt: line numbers are class ids, and empty lines count."""
    where = untrusted_input.printable(path)
    lines = [(number, line) for number, line in lines if untrusted_input.is_seen(line)]
    if lines and lines[-1][0] > untrusted_input.MAX_CLASSES:
        raise untrusted_input.invalid(
            f"{where} declares more than {untrusted_input.MAX_CLASSES} classes; remove unused ones"
        )
    names = [""] * (lines[-1][0] if lines else 0)
    for number, line in lines:
        names[number - 1] = f"class {number - 1}"  # if the name is a fault, its rows are not further faults
        with faults.noting():
            names[number - 1] = untrusted_input.class_name(line, f"{where}, line {number}")
            if line.startswith("#"):
                raise untrusted_input.invalid(
                    f"{where}, line {number} begins with #: a comment would count as a class; remove the line, or the character"
                )
            if pairing.is_row(line):
                raise untrusted_input.invalid(
                    f"{where}, line {number} is a row of a label file, not a class name: put the class names into {where}, or "
                    "add a data.yaml with them"
                )
    empty = [f"line {number}" for number, name in enumerate(names, start=1) if not name]
    warnings = untrusted_input.recomposed(
        names[number - 1] for number, line in lines if not untrusted_input.is_composed(line)
    )
    if empty:
        warnings.append(
            f"{where} has {len(empty)} empty lines before its last name, which keep their numbers: {format_names(empty)}"
        )
    return Settings(path, where, tuple(names), {}, PurePosixPath(), tuple(warnings))


def _from_yaml(tree: SourceFiles, path: str, faults: Faults) -> Settings:
    where = untrusted_input.printable(path)
    found = reading.settings(tree, path, faults)
    splits = {key: tuple(entries) for key, entries in found.splits.items()}
    base = PurePosixPath()
    ignored: tuple[str, ...] = ()
    if found.path is not None and found.path.rstrip("/") != ".":
        try:
            base = untrusted_input.relative(found.path, f"{where}: path")
        except RefusedError:  # a path on its author's machine: nothing outside of the source is opened
            ignored = (f"{where}: path lies outside of the source; the files beside {where} are read",)
    warnings = (
        *ignored,
        *untrusted_input.recomposed(found.recomposed),
        *_of_other_names(tree, where, found.names, class_lists.groups(tree)),
    )
    return Settings(path, where, found.names, splits, base, warnings, found.points, found.others)


def _of_other_names(
    tree: SourceFiles, where: str, names: Sequence[str], groups: Iterable[Sequence[str]]
) -> Iterator[str]:
    """Warnings about files that number the classes differently, of which only one can be right."""
    for path in (path for group in groups for path in group):
        listed = class_lists.of(tree, path)
        if listed and listed != list(names):
            yield (
                f"{untrusted_input.printable(path)} has other class names than {where}, or another order; {where} takes "
                "precedence"
            )


def is_image(entry: str) -> bool:
    """Whether an entry names an image."""
    return suffix(entry) in kinds.READABLE | kinds.OTHER
