"""Removes classes that lost all their images to cleaning from the version. Called by the step prepare after cleaning.

A model would otherwise have an output that cannot be trained, and metrics of a class that was never shown. The ids of the other
classes move up, because ids are positions in the version's list of classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from pelagos_contract.exclusions import ExclusionReason
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Collection, declared, judgeable
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import format_names, printable
from pelagos_pipelines.preparation.cleaning import Cleaned
from pelagos_pipelines.preparation.measures import FIELDS

_WORDS: Mapping[ExclusionReason | None, str] = {
    ExclusionReason.CORRUPT: "unreadable",
    ExclusionReason.TOO_SMALL: "below cleaning.minSide",
    **{reason: f"beyond {field}" for reason, field in FIELDS.items()},
    ExclusionReason.DUPLICATE: "duplicates",
    ExclusionReason.NEAR_DUPLICATE: "near duplicates",
    ExclusionReason.OUTSIDE_IMAGE: "with all annotations outside",
    ExclusionReason.UNREADABLE_TYPE: "of kinds that are not read",
}


def without(found: Collection, cleaned: Cleaned) -> Cleaned:
    """``cleaned`` with only the classes of ``found`` that still have images. Lost classes are named in a warning."""
    classes, lost = declared(found.classes, cleaned.collection.images)
    if not lost:
        return cleaned
    reasons = {exclusion.path: exclusion.reason for exclusion in cleaned.excluded}
    why: dict[str, Counter[str]] = {name: Counter() for name in lost}
    for image in found.images:
        for name in image.labels & why.keys():
            why[name][_WORDS.get(reasons.get(image.path), "left out")] += 1
    told = [
        f"{printable(name)} ({', '.join(f'{count} {word}' for word, count in sorted(why[name].items()))})"
        for name in lost
    ]
    more = f" and {len(told) - 5} more" if len(told) > 5 else ""
    warnings = [
        f"{len(lost)} classes lost all their images in cleaning and are no classes of the version: {', '.join(told[:5])}{more}"
    ]
    if len(classes) == 1 and TASKS.named(found.task).needs_several_classes:
        warnings.append(f"{format_names(classes)} is the only class that is left: a model has nothing to tell apart")
    altered = Altered(cleaned.collection.altered.counts.copy())
    left = replace(
        cleaned.collection,
        images=judgeable(cleaned.collection.images, classes, altered),
        classes=classes,
        warnings=(*cleaned.collection.warnings, *warnings),
        altered=altered,
    )
    return replace(cleaned, collection=left)
