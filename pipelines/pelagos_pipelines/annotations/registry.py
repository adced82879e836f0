"""The formats that Pelagos reads, and the choice of one for a source. A new format is a module named in FORMATS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from pelagos_contract.dataset import ClassFolder
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import coco, imagefolder, yolo
from pelagos_pipelines.annotations.model import Collection, Format, Sizes, SourceFiles, suffix
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, format_names

FORMATS: Sequence[Format] = (imagefolder, coco, yolo)


def choose(name: str, tree: SourceFiles, task: Task) -> Format:
    """The format of a source: the one that ``name`` says, or the only one that fits for Auto.

    Raises:
        RefusedError: FORMAT_NOT_RECOGNISED for Auto without one clear answer; TASK_MISMATCH when it carries other annotations.
    """
    chosen = detect(tree) if name == "Auto" else next(known for known in FORMATS if name == known.NAME)
    if task is not chosen.TASK:
        folders = name == "Auto" and task is imagefolder.TASK
        advice = f"format to {imagefolder.NAME} when the folders say what images show, or " if folders else ""
        raise RefusedError(
            Reason.TASK_MISMATCH,
            f"task is {task.value}, but the source is in the format {chosen.NAME}, which carries annotations for"
            f" {chosen.TASK.value}; set {advice}task to {chosen.TASK.value}, or name another source or format",
            "task",
        )
    return chosen


def read(chosen: Format, tree: SourceFiles, sizes: Sizes, class_folder: ClassFolder | None = None) -> Collection:
    """The annotations; ``class_folder`` is for folders that are classes.

    Raises:
        RefusedError: FORMAT_INVALID for a class folder in another format; see Format.read.
    """
    if class_folder is None:
        return chosen.read(tree, sizes)
    if chosen is not imagefolder:
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"classFolder is {class_folder}, but the source is in the format {chosen.NAME}, in which folders are no classes;"
            " leave it out",
            "classFolder",
        )
    return imagefolder.read(tree, sizes, class_folder)


def detect(tree: SourceFiles) -> Format:
    """The only format that recognises the files.

    Raises:
        RefusedError: FORMAT_NOT_RECOGNISED when none does, or more than one.
    """
    fitting = [known for known in FORMATS if known.recognises(tree)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        found = f"the files fit more than one format ({', '.join(known.NAME for known in fitting)})"
    else:
        layouts = "; ".join(f"{known.NAME}: {known.LAYOUT}" for known in FORMATS)
        # Every folder of images is nearly an ImageFolder, so that it helps to know what is in the way.
        found = (
            f"the files fit no known format (found {format_names(tree.files)}).{_hint(tree)} What keeps them from being an"
            f" {imagefolder.NAME}:"
            f" {imagefolder.obstacle(tree)}. Known are {layouts}"
        )
    raise RefusedError(
        Reason.FORMAT_NOT_RECOGNISED, f"format is Auto, but {found}; set format, or change the files' layout", "format"
    )


def _hint(tree: SourceFiles) -> str:
    """What the files look like to somebody who knows more formats than are read."""
    settings = [path for path in tree.files if PurePosixPath(path).name in {"data.yaml", "classes.txt", "obj.names"}]
    documents = [path for path in tree.files if suffix(path) == ".json"]
    if settings:
        return f" {format_names(settings)} may be of {yolo.NAME}: let source.volume.path name its folder."
    if xml := [path for path in tree.files if suffix(path) == ".xml"]:
        return (
            f" {format_names(xml)} may be of Pascal VOC, which is not read: convert them to {coco.NAME} or {yolo.NAME}."
        )
    if 0 < len(documents) <= MAX_NAMED:
        return f" If {format_names(documents)} is of {coco.NAME}, set format to {coco.NAME}."
    return ""


def of_view(view: str) -> Format:
    """The format that writes a view.

    Raises:
        ValueError: there is no such view.
    """
    for known in FORMATS:
        if view == known.VIEW:
            return known
    raise ValueError(f"there is no view {view!r}; there are {', '.join(known.VIEW for known in FORMATS)}")
