"""Defensive reading of API objects for pages: texts are bounded and made plain, numbers are parsed, nothing is trusted.

A field that does not match the API counts as absent, so that an object of an earlier or later release cannot break a page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pelagos_contract.text import shown

_EMPTY: Mapping[str, Any] = {}
LINE, PROSE = 300, 20_000
"""Most characters of a line, and of a text of several lines."""
Model = TypeVar("Model", bound=BaseModel)


def at(body: object, *path: str) -> Mapping[str, Any]:
    """The object at a path of keys; empty when there is none."""
    for step in path:
        body = body.get(step) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else _EMPTY


def each(value: object, most: int) -> Iterator[Mapping[str, Any]]:
    """The objects among the first ``most`` elements of a list."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from (item for item in value[:most] if isinstance(item, Mapping))


def line(value: object, most: int = LINE) -> str:
    """A text on one line, with invisible characters escaped; empty when the value is not a text."""
    return shown(value[:most]) if isinstance(value, str) else ""


def prose(value: object) -> str:
    """Like ``line`` for a text of several lines."""
    return shown(value[:PROSE], lines=True) if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """A finite number, also one given as text; None for anything else."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: object) -> int | None:
    """A non-negative integer; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def moment(value: object) -> datetime | None:
    """A time in UTC; None when the value is not a time or lacks a time zone."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def valid(model: type[Model], value: object) -> Model | None:
    """A part of a spec, validated by its model; None when it is absent or invalid."""
    try:
        return model.model_validate(value) if isinstance(value, Mapping) else None
    except (ValidationError, RecursionError):
        return None
