"""What is dropped before splitting: unreadable, small and repeated images. Also the check that boxes lie on their images.

Called by the task prepare with a collection and the inspections of its images; decides by the request's ``cleaning``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pelagos_pipelines.annotations.hostile import few, invalid, printable
from pelagos_pipelines.annotations.model import Box, Boxes, Collection, Exclusion, ImageRecord
from pelagos_pipelines.contract import Cleaning, ExclusionReason, Reason, RefusedError
from pelagos_pipelines.preparation import duplicates
from pelagos_pipelines.preparation.integrity import OTHER_KIND, REMARKS, Inspection

OVERHANG = 1.0
"""Pixels by which a box may exceed its image: tools round outwards. Such boxes are cut at the edge."""


@dataclass(frozen=True)
class Cleaned:
    """What is left, and what is not. ``repeats`` maps a kept duplicate to the first image that shows the same."""

    collection: Collection
    repeats: Mapping[str, str]
    found: int
    corrupt: int
    duplicates: int
    near_duplicates: int
    too_small: int
    excluded: tuple[Exclusion, ...] = ()


def clean(collection: Collection, inspections: Mapping[str, Inspection], rules: Cleaning) -> Cleaned:
    """Drop, or refuse, by the rules; then check boxes against the images' real sizes.

    Raises:
        RefusedError: CORRUPT_IMAGES, DUPLICATE_IMAGES, NO_IMAGES_LEFT, ANNOTATION_OUTSIDE_IMAGE, or FORMAT_INVALID for images of
            other kinds, and when the annotations were made for another size of an image.
    """
    seen = {image.path: inspections[image.path] for image in collection.images}
    others = [path for path, inspection in seen.items() if inspection.problem == OTHER_KIND]
    if others and rules.unreadable_types == "Fail":
        raise _other_kinds(others)
    corrupt = [path for path, inspection in seen.items() if inspection.problem not in {None, OTHER_KIND}]
    if corrupt and rules.corrupt == "Fail":
        raise _corrupt(corrupt, seen)
    small = [
        path for path, inspection in seen.items() if inspection.problem is None and _side(inspection) < rules.min_side
    ]
    dropped = {*others, *corrupt, *small}
    usable = {path: inspection for path, inspection in seen.items() if path not in dropped}
    found = duplicates.find(usable, rules.duplicates.max_distance)
    if found.first_of and rules.duplicates.action == "Fail":
        raise _repeated(found)
    warnings = _contradictions(collection, found)
    repeats = found.first_of
    excluded = [Exclusion(path, ExclusionReason.UNREADABLE_TYPE) for path in others]
    excluded += [Exclusion(path, ExclusionReason.CORRUPT) for path in corrupt]
    excluded += [Exclusion(path, ExclusionReason.TOO_SMALL) for path in small]
    if rules.duplicates.action == "KeepFirst":
        dropped |= set(repeats)
        excluded += _repeating(found)
        repeats = {}
    kept = tuple(_sized(image, seen[image.path]) for image in collection.images if image.path not in dropped)
    if not kept:
        raise _nothing_left(len(seen), len(others) + len(corrupt), len(small), rules)
    kept, clipped = _on_their_images(kept, collection.classes)
    if clipped:
        warnings.append(f"{clipped} boxes exceeded their image by up to {OVERHANG:g} pixel and were cut at its edge")
    if others:
        warnings.append(f"{len(others)} images are neither JPEG nor PNG and were dropped: {few(others)}")
    if corrupt:
        reasons = few(f"{path} ({seen[path].problem})" for path in corrupt)
        warnings.append(f"{len(corrupt)} unreadable images were dropped: {reasons}")
    warnings += _remarks([image.path for image in kept], seen)
    return Cleaned(
        replace(collection, images=kept, warnings=(*collection.warnings, *warnings)),
        repeats,
        found=len(seen),
        corrupt=len(corrupt),
        duplicates=len(found.exact),
        near_duplicates=len(found.near),
        too_small=len(small),
        excluded=tuple(excluded),
    )


def _repeating(found: duplicates.Found) -> Iterator[Exclusion]:
    """An exact duplicate of an image that was itself left out repeats the one that is kept."""
    for path, first in found.first_of.items():
        exact = path in found.exact
        yield Exclusion(path, ExclusionReason.DUPLICATE if exact else ExclusionReason.NEAR_DUPLICATE, first)


def _side(inspection: Inspection) -> int:
    return min(inspection.width, inspection.height)


def _sized(image: ImageRecord, inspection: Inspection) -> ImageRecord:
    size = inspection.width, inspection.height
    if image.width is not None and image.height is not None and (image.width, image.height) != size:
        raise invalid(
            f"{printable(image.path)} is annotated as {image.width} x {image.height} pixels, but is {size[0]} x {size[1]}"
            " (upright, by its EXIF orientation); boxes would be misplaced: annotate it again, or correct its width and height"
        )
    return replace(image, width=size[0], height=size[1])


def _on_their_images(images: Sequence[ImageRecord], classes: Sequence[str]) -> tuple[tuple[ImageRecord, ...], int]:
    """The images with all boxes inside, and how many boxes had to be cut."""
    numbers = {name: number for number, name in enumerate(classes)}
    wrong: list[str] = []
    clipped = 0
    placed = []
    for image in images:
        boxes = []
        cut = 0
        for box in image.boxes:
            inside = _clip(box, image)
            if inside is None:
                wrong.append(f"{image.path} ({box.label}: {box.x:g}, {box.y:g}, {box.width:g}, {box.height:g})")
                continue
            cut += inside is not box
            boxes.append(inside)
        clipped += cut
        placed.append(replace(image, boxes=Boxes.of(boxes, numbers, classes)) if cut else image)
    if wrong:
        raise RefusedError(
            Reason.ANNOTATION_OUTSIDE_IMAGE,
            f"{len(wrong)} boxes lie outside of their image or have no area (x, y, width, height in pixels): {few(wrong)};"
            " correct or remove them",
            "source",
        )
    return tuple(placed), clipped


def _clip(box: Box, image: ImageRecord) -> Box | None:
    """The box itself when it lies inside, the part that does when it exceeds the edge by rounding, else None."""
    assert image.width is not None
    assert image.height is not None
    left, top, right, bottom = box.x, box.y, box.x + box.width, box.y + box.height
    if not (box.width > 0 and box.height > 0):
        return None
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return box
    far = left < -OVERHANG or top < -OVERHANG or right > image.width + OVERHANG or bottom > image.height + OVERHANG
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, image.width), min(bottom, image.height)
    if far or not (right > left and bottom > top):  # also when one is no number
        return None
    return Box(box.label, left, top, right - left, bottom - top)


def _contradictions(collection: Collection, found: duplicates.Found) -> list[str]:
    """Identical images with different classes: whichever is kept, a label is lost."""
    labels = {image.path: image.labels for image in collection.images}
    differing = [f"{path} and {first}" for path, first in sorted(found.exact.items()) if labels[path] != labels[first]]
    if not differing:
        return []
    return [f"{len(differing)} identical images have different classes: {few(differing)}; check the labels"]


def _remarks(paths: Sequence[str], seen: Mapping[str, Inspection]) -> list[str]:
    """What is odd about images that are used."""
    found = {remark: [path for path in paths if remark in seen[path].remarks] for remark in REMARKS}
    return [f"{len(odd)} {REMARKS[remark]}: {few(odd)}" for remark, odd in found.items() if odd]


def _other_kinds(paths: Sequence[str]) -> RefusedError:
    return RefusedError(
        Reason.FORMAT_INVALID,
        f"{len(paths)} images are neither JPEG nor PNG by their names, which is what training and serving read: {few(paths)};"
        " convert them to PNG, give JPEG and PNG files their suffix, move them out of the source, or set"
        " cleaning.unreadableTypes to Drop to leave them out",
        "cleaning.unreadableTypes",
    )


def _corrupt(paths: Sequence[str], seen: Mapping[str, Inspection]) -> RefusedError:
    return RefusedError(
        Reason.CORRUPT_IMAGES,
        f"{len(paths)} images cannot be read: {few(f'{path} ({seen[path].problem})' for path in paths)};"
        " replace them, or set cleaning.corrupt to Drop",
        "cleaning.corrupt",
    )


def _repeated(found: duplicates.Found) -> RefusedError:
    pairs = [f"{path} repeats {first}" for path, first in sorted(found.first_of.items())]
    return RefusedError(
        Reason.DUPLICATE_IMAGES,
        f"{len(found.exact)} duplicates and {len(found.near)} near duplicates: {few(pairs)}; remove them, or set"
        " cleaning.duplicates.action to KeepFirst or Keep",
        "cleaning.duplicates.action",
    )


def _nothing_left(found: int, corrupt: int, small: int, rules: Cleaning) -> RefusedError:
    return RefusedError(
        Reason.NO_IMAGES_LEFT,
        f"of {found} images {corrupt} are unreadable and {small} have a side below cleaning.minSide ({rules.min_side} pixels):"
        " none is left; add images, or lower cleaning.minSide",
        "cleaning",
    )
