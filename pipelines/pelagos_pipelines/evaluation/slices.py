"""Values by which images of a split are told apart: fields of capture, what follows from them, and groups. Knows no task."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pelagos_contract.capture import SLICE_FIELDS
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation.samples import Sample

_CAPITAL = re.compile(r"[A-Z]")


def values(samples: Sequence[Sample], field: str) -> tuple[str | None, ...]:
    """The value of a field of ``SLICE_FIELDS`` for each image; None where it is not known."""
    if field == "group":
        return tuple(sample.group for sample in samples)
    name = _CAPITAL.sub(lambda found: f"_{found[0].lower()}", field)
    return tuple(getattr(sample.capture or Capture(), name) for sample in samples)


def known(samples: Sequence[Sample]) -> list[str]:
    """The fields of which at least one image has a value."""
    return [field for field in SLICE_FIELDS if any(value is not None for value in values(samples, field))]
