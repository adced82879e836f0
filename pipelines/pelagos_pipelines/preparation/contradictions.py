"""Settles identical images with different annotations: only one is kept, and the others' annotations must not get lost.

Called by cleaning. If one image's annotations include all of the others', the kept image gets them: the pixels are the same, so
they fit. Any other case is for a person to judge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Box, ImageRecord
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.preparation.integrity import Inspection

_NEIGHBOURS = tuple(itertools.product((-1, 0, 1), repeat=4))
_Cell = tuple[str, int, int, int, int]


def settle(
    task: Task, images: Sequence[ImageRecord], usable: Mapping[str, Inspection], *, dropping: bool
) -> tuple[tuple[ImageRecord, ...], list[str]]:
    """The images, with all annotations on the first of identical ones, and warnings.

    If duplicates are not dropped, images stay as they are, and there are only warnings.

    Raises:
        RefusedError: DUPLICATE_IMAGES when dropping a duplicate would lose annotations that no other has.
    """
    strategy = TASKS.named(task)
    richer: dict[str, ImageRecord] = {}
    differing: list[str] = []
    for group in _identical(images, usable):
        first = group[0]
        others = [
            image
            for image in group[1:]
            if image.label != first.label
            or not _holds(first, image)
            or not _holds(image, first)
            or image.crowds != first.crowds
            or (image.shapes != first.shapes and strategy.stored(image) != strategy.stored(first))
        ]
        if not others:
            continue
        richest = max(group, key=lambda image: (len(image.boxes), len(image.crowds)))
        real = usable[richest.path]
        # Whether the boxes were drawn at the image's real size, if the source states one.
        fits = (richest.width or real.width, richest.height or real.height) == (real.width, real.height)
        if strategy.joins and fits and all(_holds(richest, image) for image in group):
            richer[first.path] = richest
        else:
            differing.append(f"{others[0].path} ({strategy.told(others[0])}) and {first.path} ({strategy.told(first)})")
    if differing and dropping:
        raise RefusedError(
            Reason.DUPLICATE_IMAGES,
            f"{len(differing)} identical images have different annotations: {format_names(differing)}; what the one that is"
            " dropped says is lost: correct or remove one of them, or set cleaning.duplicates.action to Keep",
            "cleaning.duplicates.action",
        )
    warnings = []
    if differing:
        warnings.append(
            f"{len(differing)} identical images have different annotations: {format_names(differing)}; check them"
        )
    if richer and not dropping:
        told = [f"{image.path} and {path}" for path, image in richer.items()]
        warnings.append(
            f"{len(told)} identical images have more or fewer boxes than their like: {format_names(told)}; check them"
        )
    if not richer or not dropping:
        return tuple(images), warnings
    told = [path if path == image.path else f"{path} has those of {image.path}" for path, image in richer.items()]
    warnings.append(
        f"{len(told)} images have other boxes than images that are identical; most boxes are kept: {format_names(told)}"
    )
    found = (richer.get(image.path, image) for image in images)
    joined = (replace(image, boxes=rich.boxes, crowds=rich.crowds) for image, rich in zip(images, found, strict=True))
    return tuple(joined), warnings


def _identical(images: Sequence[ImageRecord], usable: Mapping[str, Inspection]) -> Iterable[list[ImageRecord]]:
    """Groups of images with the same pixels; the first of each group is the one that is kept."""
    groups: dict[str, list[ImageRecord]] = {}
    for image in sorted(images, key=lambda image: image.path):
        if image.path in usable:
            groups.setdefault(usable[image.path].identity, []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def _holds(one: ImageRecord, other: ImageRecord) -> bool:
    """Whether ``one`` has every box of ``other``, up to rounding: differences below 1 pixel are allowed, from 2 pixels on never.

    It must also have every crowd of ``other``.
    """
    if any(crowd not in one.crowds for crowd in other.crowds):
        return False
    cells = set(map(_cell, one.boxes)) if other.boxes else set()
    for cell in map(_cell, other.boxes):
        label, x, y, width, height = cell
        near = ((label, x + dx, y + dy, width + dw, height + dh) for dx, dy, dw, dh in _NEIGHBOURS)
        if cell not in cells and not any(neighbour in cells for neighbour in near):
            return False
    return True


def _cell(box: Box) -> _Cell:
    sides = (box.x, box.y, box.width, box.height)
    x, y, width, height = (math.floor(side) if math.isfinite(side) else 0 for side in sides)
    return box.label, x, y, width, height
