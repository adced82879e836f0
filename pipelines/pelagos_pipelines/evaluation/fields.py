"""The fields by which the images of a split are grouped: into slices, or to leave groups out.

Separate from the measurement of slices, because a training checks fields before it begins, and need not load the metrics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pelagos_contract.capture import SLICE_FIELDS
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation.samples import Sample

FIELD = "spec.evaluation.slices"
MOST = 100
"""Most values of a field; with more, the list would be unreadable and each slice too small to measure."""
_CAPITAL = re.compile(r"[A-Z]")


def values(samples: Sequence[Sample], field: str) -> tuple[str | None, ...]:
    """The value of a field in ``SLICE_FIELDS`` for each image; None where unknown."""
    if field == "group":
        return tuple(sample.group for sample in samples)
    name = _CAPITAL.sub(lambda found: f"_{found[0].lower()}", field)
    return tuple(getattr(sample.capture or Capture(), name) for sample in samples)


def known(samples: Sequence[Sample]) -> list[str]:
    """The fields for which at least one image has a value."""
    return [field for field in SLICE_FIELDS if any(value is not None for value in values(samples, field))]


def require(samples: Sequence[Sample], fields: Sequence[str]) -> None:
    """Refuse slices that cannot be measured on these images, before a model is trained.

    Raises:
        RefusedError: SLICES_IMPOSSIBLE.
    """
    for field in fields:
        found = {*values(samples, field)} - {None}
        if not found:
            there = ", ".join(known(samples)) or "none: the Dataset has no spec.capture, or it says nothing of them"
            message = f"{FIELD} names {field}, which no image of the test split has; fields that they have: {there}"
            raise RefusedError(Reason.SLICES_IMPOSSIBLE, message, FIELD)
        if len(found) > MOST:
            message = (
                f"{FIELD} names {field}, which has {len(found)} values in the test split; at most {MOST} are measured"
            )
            raise RefusedError(Reason.SLICES_IMPOSSIBLE, f"{message}: name a coarser field, or leave it out", FIELD)
