"""Limits on how much supplier-chosen text goes into a status, whose size the API server limits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos.api.dataset import Truncated

MOST_CLASSES = 100
MOST_WARNINGS = 50
MOST_ALTERED = 50
MOST_CORRECTED = 10
MOST_MEASURED = 20
MOST_SLICES = 20
MOST_FINDINGS = 30
MOST_NAMES = 25
"""Entries of each list that a register of names returns."""
MOST_PARTS = 10
"""Classes that were merged into one. Together with MOST_NAMES, this makes up the largest part of a status."""
MOST_LEAKED = 20
LONGEST = 500
"""Characters of a name or a warning."""


def truncated(field: str, entries: Sequence[object], most: int, full: str) -> Truncated | None:
    """A note that status shows only the first ``most`` entries, with where the full list is; None when it shows all."""
    return Truncated(field=field, shown=most, total=len(entries), full=full) if len(entries) > most else None


def short(value: Any) -> Any:
    """The value with every string in it cut to LONGEST characters."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}\u2026"
    if isinstance(value, Mapping):
        return {key: short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [short(item) for item in value]
    return value
