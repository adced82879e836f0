"""Objects as the API server has them, made fit for pages: every text bounded and plain, every number parsed, nothing believed.

A field that is not as the API says is as if it were absent: an object of an earlier or later release must not take a page away.
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
"""Characters of one line, and of a text of several."""
Model = TypeVar("Model", bound=BaseModel)


def at(body: object, *path: str) -> Mapping[str, Any]:
    """The object that a path of keys leads to; empty when there is none."""
    for step in path:
        body = body.get(step) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else _EMPTY


def each(value: object, most: int) -> Iterator[Mapping[str, Any]]:
    """The objects in a list, the first ``most`` of them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from (item for item in value[:most] if isinstance(item, Mapping))


def line(value: object, most: int = LINE) -> str:
    """A text on one line, without what cannot be seen; empty when it is none."""
    return shown(value[:most]) if isinstance(value, str) else ""


def prose(value: object) -> str:
    """A text of several lines, likewise."""
    return shown(value[:PROSE], lines=True) if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """A finite number, which may stand in a text; None for anything else."""
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def count(value: object) -> int | None:
    """A whole number from 0; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def moment(value: object) -> datetime | None:
    """A time; None when it is none, or says no time zone."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
        return found.astimezone(UTC) if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def valid(model: type[Model], value: object) -> Model | None:
    """A part of a spec by its model; None when it is absent or is not as the API says."""
    try:
        return model.model_validate(value) if isinstance(value, Mapping) else None
    except (ValidationError, RecursionError):
        return None
