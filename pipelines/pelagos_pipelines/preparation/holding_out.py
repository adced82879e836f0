"""Groups images by ``spec.split.groupBy``, and finds those that ``spec.split.holdout`` names. Called by splitting.

If such a field is not known of an image, it may have been taken at the very site that is held out. So that is refused, and not
guessed.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence, Set
from dataclasses import replace

from pelagos_contract.capture import GroupField
from pelagos_contract.dataset import Holdout
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, format_names, format_words, printable

_BETWEEN = " / "
_SHOWN = 20
"""How many values a refusal lists."""


def grouped(images: Sequence[ImageRecord], fields: Sequence[GroupField]) -> list[ImageRecord]:
    """The images, grouped by their values of ``fields``: two that differ in one of these are in different groups.

    Raises:
        RefusedError: SPLIT_IMPOSSIBLE when one of the fields is not known of an image.
    """
    for field in fields:
        require_known(images, field, "split.groupBy")
    # A slash within a value is escaped, so that different values never give the same name.
    return [
        replace(image, group=_BETWEEN.join(_escaped(value_of(image, field) or "") for field in fields))
        for image in images
    ]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("/", "\\/")


def value_of(image: ImageRecord, field: str) -> str | None:
    """The image's group for "group", else the capture's value of ``field``; None if it is not known."""
    if field == "group":
        return image.group
    found: str | None = None if image.capture is None else getattr(image.capture, field)
    return found


def require_known(images: Sequence[ImageRecord], field: str, where: str) -> None:
    """Refuse to split by a field that is not known of some images. ``where`` is the spec's field, for messages.

    Raises:
        RefusedError: SPLIT_IMPOSSIBLE.
    """
    unknown = dict.fromkeys(image.file for image in images if value_of(image, field) is None)
    if not unknown:
        return
    files = len({image.file for image in images})
    source = "time" if field == "day" else field
    told = "have no group" if field == "group" else f"have no {source} by capture"
    raise RefusedError(
        Reason.SPLIT_IMPOSSIBLE,
        f"{where} divides by {field}, but {len(unknown)} of {files} images {told}: {format_names(unknown)}; nobody can tell"
        f" where they belong: have {'the source' if field == 'group' else 'capture'} say it, move them out of the source, or"
        f" leave {field} out of {where}",
        where.partition(" ")[0],
    )


def held(images: Sequence[ImageRecord], holdout: Holdout) -> Set[str]:
    """The paths of the images that any field of ``holdout`` names.

    Raises:
        RefusedError: SPLIT_IMPOSSIBLE for a value that no image has, and if all images would be held out.
    """
    found = set[str]()
    for field, values in holdout.written().items():
        where = f"split.holdout.{field}"
        require_known(images, field, where)
        known = {value_of(image, field) or "" for image in images}
        if unknown := [value for value in values if value not in known]:
            raise RefusedError(Reason.SPLIT_IMPOSSIBLE, f"{where}: {_unknown(unknown, sorted(known))}", where)
        found |= {image.path for image in images if value_of(image, field) in values}
    if len(found) == len(images):
        raise RefusedError(
            Reason.SPLIT_IMPOSSIBLE,
            f"split.holdout holds out all {len(images)} images, and nothing is left to train on; hold out less",
            "split.holdout",
        )
    return found


def _unknown(values: Sequence[str], known: Sequence[str]) -> str:
    told = []
    for value in values:
        nearest = difflib.get_close_matches(value, known[:10_000], 2)
        meant = f" (nearest is {' or '.join(map(printable, nearest))})" if nearest else ""
        told.append(f"{printable(value)}{meant}")
    return (
        f"no image has the value {format_words(told[:MAX_NAMED], len(told))}; there are {format_names(known, _SHOWN)}"
    )
