"""Drops images before splitting: those that are unreadable, too small, repeated, or beyond a threshold.

Also checks that boxes lie on their images. Called by the step prepare with a collection and the inspections of its images, by the
rules in the request's ``cleaning``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pelagos_contract.dataset import Cleaning
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.measures import Measured
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Collection, Exclusion, ImageRecord
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.preparation import contradictions, duplicates, measures, outside
from pelagos_pipelines.preparation.integrity import DEPTHS, OTHER_KIND, REMARKS, Inspection
from pelagos_pipelines.serving.decoding import NAMES

_TURNED, _FLIPPED = "turned", "flipped"
"""Keys of REMARKS."""
_MANY = 10
"""With this many images, it is not a coincidence that all boxes lie in one quarter."""
_SMALL = 200
"""Pixels of a side up to which values in per cent would reach beyond the middle."""


@dataclass(frozen=True)
class Cleaned:
    """The result of cleaning. ``repeats`` maps a kept duplicate to the first image that shows the same.

    ``alike`` has the earlier images that a kept one looks like, if the rules do not treat near duplicates.
    """

    collection: Collection
    repeats: Mapping[str, str]
    found: int
    corrupt: int
    duplicates: int
    near_duplicates: int
    too_small: int
    excluded: tuple[Exclusion, ...] = ()
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    measured: Sequence[Measured] = ()
    """Measures of all images that can be decoded and are not too small, including those dropped for other reasons."""


def clean(collection: Collection, inspections: Mapping[str, Inspection], rules: Cleaning) -> Cleaned:
    """Drop images, or refuse, by the rules; then check boxes against the images' real sizes.

    Raises:
        RefusedError: CORRUPT_IMAGES, DUPLICATE_IMAGES, NO_IMAGES_LEFT, ANNOTATION_OUTSIDE_IMAGE, or FORMAT_INVALID for images of
            other kinds, and when the annotations were made for another size of an image.
    """
    seen = {image.path: inspections[image.path] for image in collection.images}
    unusable = _unusable(seen, rules)
    values = {
        path: measures.values(one.measures, one.width, one.height) for path, one in seen.items() if path not in unusable
    }
    beyond = tuple(measures.beyond(values, rules))
    dismissed = {*unusable, *(one.path for one in beyond)}
    usable = {path: inspection for path, inspection in seen.items() if path not in dismissed}
    asked = rules.duplicates.max_distance
    found = duplicates.find(usable, asked)
    measured = found if asked >= duplicates.USUAL else duplicates.find(usable, duplicates.USUAL)
    if found.first_of and rules.duplicates.action == "Fail":
        raise _repeated(found)
    dropping = rules.duplicates.action == "KeepFirst"
    images, warnings = contradictions.settle(collection.task, collection.images, usable, dropping=dropping)
    warnings += _of_other_classes(images, measured.alike)
    repeats = found.first_of_chain
    excluded = [*(Exclusion(path, reason) for path, reason in unusable.items()), *beyond]
    if dropping:
        excluded += _repeating(found)
        warnings += _of_other_boxes(collection.task, images, found.near)
        warnings += _of_other_splits(images, found.first_of)
        repeats = {}
    dropped = {one.path for one in excluded}
    left = [image for image in images if image.path not in dropped]
    counts = Counter(unusable.values())
    if not left:
        unread = [path for path, reason in unusable.items() if reason is not ExclusionReason.TOO_SMALL]
        raise _nothing_left(seen, unread, counts[ExclusionReason.TOO_SMALL], beyond, rules)
    faults = Faults()
    placing = outside.Placing(rules.outside or "Fail", collection.classes)
    kept = placing.all(left, seen, faults)
    faults.refuse_any()
    warnings += (*_in_one_quarter(kept), *placing.warnings)
    excluded += placing.excluded
    warnings += _of_unusable(unusable, seen)
    warnings += _remarks(left, seen)
    return Cleaned(
        replace(
            collection,
            images=kept,
            warnings=(*collection.warnings, *warnings),
            altered=Altered(collection.altered.counts + placing.altered.counts),
        ),
        duplicates.among(repeats, (image.path for image in kept)),
        found=len(seen),
        corrupt=counts[ExclusionReason.CORRUPT],
        duplicates=len(found.exact),
        near_duplicates=len(found.near if asked and dropping else found.alike if asked else measured.alike),
        too_small=counts[ExclusionReason.TOO_SMALL],
        excluded=tuple(excluded),
        alike=measured.alike if asked < duplicates.USUAL else {},
        measured=measures.distribution(values.values()),
    )


def _repeated(found: duplicates.Found) -> RefusedError:
    pairs = [f"{path} repeats {first}" for path, first in sorted(found.first_of.items())]
    return RefusedError(
        Reason.DUPLICATE_IMAGES,
        f"{len(found.exact)} duplicates and {len(found.near)} near duplicates: {format_names(pairs)}; remove them, or set"
        " cleaning.duplicates.action to KeepFirst or Keep",
        "cleaning.duplicates.action",
    )


def _repeating(found: duplicates.Found) -> Iterator[Exclusion]:
    """Exclusions of duplicates. Each names the image that is kept, even if it duplicates one that is itself left out."""
    for path, first in found.first_of.items():
        reason = ExclusionReason.DUPLICATE if path in found.exact else ExclusionReason.NEAR_DUPLICATE
        yield Exclusion(path, reason, first)


def _unusable(seen: Mapping[str, Inspection], rules: Cleaning) -> dict[str, ExclusionReason]:
    """The reasons why images cannot be used, by path. Raises RefusedError if the rules say so for one of them."""
    others = [path for path, inspection in seen.items() if inspection.problem == OTHER_KIND]
    if others and rules.unreadable_types == "Fail":
        raise RefusedError(
            Reason.FORMAT_INVALID,
            f"{len(others)} images are not {NAMES} by their names or content, which is what is read:"
            f" {format_names(others)}; convert them to PNG, give the others their suffix, move them out of the source, or"
            " set cleaning.unreadableTypes to Drop to leave them out",
            "cleaning.unreadableTypes",
        )
    corrupt = [path for path, inspection in seen.items() if inspection.problem not in {None, OTHER_KIND}]
    if corrupt and rules.corrupt == "Fail":
        raise RefusedError(
            Reason.CORRUPT_IMAGES,
            f"{len(corrupt)} images cannot be read: {format_names(f'{path} ({seen[path].problem})' for path in corrupt)};"
            " replace them, or set cleaning.corrupt to Drop",
            "cleaning.corrupt",
        )
    small = [
        path
        for path, inspection in seen.items()
        if inspection.problem is None and min(inspection.width, inspection.height) < rules.min_side
    ]
    return {
        **dict.fromkeys(others, ExclusionReason.UNREADABLE_TYPE),
        **dict.fromkeys(corrupt, ExclusionReason.CORRUPT),
        **dict.fromkeys(small, ExclusionReason.TOO_SMALL),
    }


def _of_unusable(unusable: Mapping[str, ExclusionReason], seen: Mapping[str, Inspection]) -> list[str]:
    """Warnings about unreadable images. Those that are too small are only counted, because the rules ask for that."""
    warnings = []
    others = [path for path, reason in unusable.items() if reason is ExclusionReason.UNREADABLE_TYPE]
    if others:
        warnings.append(
            f"{len(others)} images are not {NAMES} by their names or content, and were dropped: {format_names(others)}"
        )
    corrupt = [path for path, reason in unusable.items() if reason is ExclusionReason.CORRUPT]
    if corrupt:
        reasons = format_names(f"{path} ({seen[path].problem})" for path in corrupt)
        warnings.append(f"{len(corrupt)} unreadable images were dropped: {reasons}")
    return warnings


def _of_other_classes(images: Sequence[ImageRecord], alike: Mapping[str, tuple[str, ...]]) -> list[str]:
    """A warning about images that look the same and have different labels: one of the labels may be wrong."""
    labels = {image.path: image.labels for image in images}
    differing = [
        f"{path} and {other}"
        for path, earlier in sorted(alike.items())
        if (other := next((one for one in earlier if labels[one] != labels[path]), None)) is not None
    ]
    if not differing:
        return []
    return [f"{len(differing)} images look like one with other classes: {format_names(differing)}; check their labels"]


def _of_other_boxes(task: Task, images: Sequence[ImageRecord], near: Mapping[str, str]) -> list[str]:
    """A warning about near duplicates with other boxes, which are dropped with them.

    Only counts are compared, not places, because near duplicates may be cut or mirrored.
    """
    strategy = TASKS.named(task)
    if not strategy.joins:
        return []
    boxes = {image.path: Counter(strategy.marks(image)) for image in images}
    differing = [f"{path} of {first}" for path, first in sorted(near.items()) if boxes.get(path) != boxes.get(first)]
    if not differing:
        return []
    told = "near duplicates have more or fewer boxes of a class than the image that is kept, and were dropped with them"
    return [f"{len(differing)} {told}: {format_names(differing)}; check their labels"]


def _of_other_splits(images: Sequence[ImageRecord], first_of: Mapping[str, str]) -> list[str]:
    """A warning about dropped duplicates between the source's splits: the leakage no longer shows in the remaining images."""
    splits = {image.path: image.split for image in images if image.split is not None}
    apart = [
        f"{path} ({splits[path]}) of {first} ({splits[first]})"
        for path, first in sorted(first_of.items())
        if path in splits and first in splits and splits[path] != splits[first]
    ]
    if not apart:
        return []
    return [
        f"{len(apart)} duplicates were dropped that the source has in another split than the one kept: {format_names(apart)}"
    ]


def _in_one_quarter(images: Sequence[ImageRecord]) -> list[str]:
    """A warning if all boxes of a source end before the middle of their images, which suggests another unit."""
    reach = [0.0, 0.0]
    count = 0
    for image in images:
        assert image.width is not None
        assert image.height is not None
        if image.boxes and min(image.width, image.height) <= _SMALL:
            return []
        for box in image.boxes:
            right, bottom = box.x + box.width, box.y + box.height
            if 2 * right > image.width or 2 * bottom > image.height:
                return []
            reach = [max(reach[0], right), max(reach[1], bottom)]
        count += bool(image.boxes)
    if count < _MANY:
        return []
    within = f"{reach[0]:g} x {reach[1]:g} pixels"
    told = "as those do that are in per cent or in pixels of a smaller copy; look at them"
    return [f"all boxes of {count} images lie in the upper left quarter of their image, within {within}, {told}"]


def _remarks(images: Sequence[ImageRecord], seen: Mapping[str, Inspection]) -> list[str]:
    """Warnings about oddities of the images that are used. ``images`` have the sizes that the source states."""
    doubtful = []
    for image in images:
        remarks = seen[image.path].remarks
        # Without a stated size, or with one that rotation keeps, it is unknown whether boxes were drawn on the upright image.
        keeps_size = image.width is None or image.height is None or image.width == image.height
        if image.boxes and (_FLIPPED in remarks or (_TURNED in remarks and keeps_size)):
            doubtful.append(image.path)
    unsure = set(doubtful)
    found = {remark: [image.path for image in images if remark in seen[image.path].remarks] for remark in REMARKS}
    for remark in (_TURNED, _FLIPPED):  # doubtful images have a longer warning of their own
        found[remark] = [path for path in found[remark] if path not in unsure]
    shown = [remark for remark in DEPTHS if found[remark]]
    if len(shown) < 2:  # all images are shown by the same rule, which needs no warning
        found = {remark: odd for remark, odd in found.items() if remark not in DEPTHS}
    told = [f"{len(odd)} {REMARKS[remark]}: {format_names(odd)}" for remark, odd in found.items() if odd]
    if doubtful:
        told.append(
            f"{len(doubtful)} images with boxes are turned or flipped by their EXIF orientation, and their labels do not tell how"
            " they lay when they were drawn; they are taken as drawn on the upright one, as ultralytics takes them:"
            f" {format_names(doubtful)}; look at them"
        )
    return told


def _nothing_left(
    seen: Mapping[str, Inspection], corrupt: Sequence[str], small: int, beyond: Sequence[Exclusion], rules: Cleaning
) -> RefusedError:
    why = f" ({format_names((f'{path}: {seen[path].problem}' for path in corrupt), 2)})" if corrupt else ""
    counts = Counter(measures.FIELDS[one.reason] for one in beyond)
    others = "".join(f", {count} are beyond {field}" for field, count in sorted(counts.items()))
    remedies = ["convert or replace those"] * bool(corrupt) + ["lower cleaning.minSide"] * bool(small)
    remedies += [f"have {' and '.join(sorted(counts))} allow more"] * bool(counts) + ["add images"]
    return RefusedError(
        Reason.NO_IMAGES_LEFT,
        f"of {len(seen)} images {len(corrupt)} are unreadable{why} and {small} have a side below cleaning.minSide"
        f" ({rules.min_side} pixels){others}: none is left; {', or '.join(remedies)}",
        "cleaning",
    )
