"""The formats that are read, and the choice of one for a source. A new format is a module with a `Format` and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.formats import AUTO
from pelagos_contract.registry import Registry
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import (
    biigle,
    coco,
    cvat,
    ecotaxa,
    ifdo,
    imagefolder,
    label_studio,
    labelbox,
    labelme,
    mask_pictures,
    pascal_voc,
    via,
    yolo,
)
from pelagos_pipelines.annotations.model import Asked, Collection, Format, Sizes, SourceFiles
from pelagos_pipelines.annotations.untrusted_input import format_names

FORMATS = Registry(
    "format",
    (
        imagefolder.FORMAT,
        coco.FORMAT,
        yolo.FORMAT,
        pascal_voc.FORMAT,
        labelme.FORMAT,
        cvat.FORMAT,
        label_studio.FORMAT,
        biigle.FORMAT,
        ecotaxa.FORMAT,
        labelbox.FORMAT,
        ifdo.FORMAT,
        mask_pictures.FORMAT,
        via.FORMAT,
    ),
)
_WITHOUT: Mapping[str, str] = {"classFolder": "folders are not classes"}
"""By option, why a format does not support it, for messages."""


def choose(name: str, tree: SourceFiles, task: Task) -> Format:
    """The format of a source: the one named ``name``, or for Auto the only one that recognises it.

    Raises:
        RefusedError: FORMAT_NOT_RECOGNISED for Auto without exactly one match; TASK_MISMATCH when it does not support the task.
    """
    chosen = detect(tree) if name == AUTO else FORMATS.named(name)
    if not chosen.carries(task):
        choices = (known for known in FORMATS if name == AUTO and known.carries(task) and known.description.choice)
        advice = "".join(f"format to {known.name} when {known.description.choice}, or " for known in choices)
        raise RefusedError(
            Reason.TASK_MISMATCH,
            f"task is {task.value}, but the source is in the format {chosen.name}, which carries annotations for"
            f" {chosen.tasks}; set {advice}task to {chosen.tasks}, or name another source or format",
            "task",
        )
    return chosen


def read(chosen: Format, tree: SourceFiles, sizes: Sizes, asked: Asked) -> Collection:
    """Read the annotations of a source.

    Raises:
        RefusedError: FORMAT_INVALID for an option that the format does not support, LABELS_INVALID for a level that it does not
            have; see Format.
    """
    for option, value in asked.options.items():
        if option not in chosen.description.options:
            raise RefusedError(
                Reason.FORMAT_INVALID,
                f"{option} is {value}, but the source is in the format {chosen.name}, in which {_WITHOUT[option]};"
                " leave it out",
                option,
            )
    _require_level(chosen, asked.level)
    return chosen.read(tree, sizes, asked)


def _require_level(chosen: Format, level: int | str | None) -> None:
    levels = chosen.description.levels
    if level is None or ("a number" if isinstance(level, int) else level) in levels:
        return
    why = f"which has {' or '.join(levels)}" if levels else "in which classes have no levels"
    what = (
        "set it to one of these, or leave it out"
        if levels
        else "leave it out; include, exclude, rename and merge are for all"
    )
    raise RefusedError(
        Reason.LABELS_INVALID,
        f"labels.level is {level}, but the source is in the format {chosen.name}, {why}; {what}",
        "labels.level",
    )


def detect(tree: SourceFiles) -> Format:
    """The only format that recognises the files.

    Raises:
        RefusedError: FORMAT_NOT_RECOGNISED when none does, or more than one.
    """
    fitting = [known for known in FORMATS if known.recognises(tree)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        why = "; ".join(f"{known.name}: {known.evidence(tree) or known.description.layout}" for known in fitting)
        raise _not_recognised(
            f"the files fit more than one format ({', '.join(known.name for known in fitting)}). {why}. Set format to the one"
            " that is meant, or move the files of the others out of the source"
        )
    layouts = "; ".join(f"{known.name}: {known.description.layout}" for known in FORMATS)
    # Every folder of images is nearly an ImageFolder, so it helps to say what is in the way.
    obstacles = "".join(
        f" What prevents them from being an {known.name}: {obstacle}."
        for known in FORMATS
        if (obstacle := known.obstacle(tree)) is not None
    )
    # Hints about formats that are not read, or about misplaced files; the last one is the most specific.
    hints = [hint for known in FORMATS if (hint := known.hint(tree)) is not None]
    told = "".join(f" {hint}" for hint in hints[-1:]) + obstacles
    found = f"the files fit no known format (found {format_names(tree.files)}).{told} Known are {layouts}"
    raise _not_recognised(f"{found}; set format, or change the files' layout")


def _not_recognised(words: str) -> RefusedError:
    return RefusedError(Reason.FORMAT_NOT_RECOGNISED, f"format is Auto, but {words}", "format")


def of_view(view: str) -> Format:
    """The format that writes a view.

    Raises:
        ValueError: there is no such view.
    """
    for known in FORMATS:
        if view == known.description.view:
            return known
    views = ", ".join(known.description.view for known in FORMATS if known.description.view)
    raise ValueError(f"there is no view {view!r}; there are {views}")
