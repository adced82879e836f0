"""Processor cores as specs write them: ``2``, ``"1.5"``, ``500m``. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

MOST = 1024
PATTERN = r"^([1-9][0-9]{0,3}(\.[0-9]{1,3})?|0\.(00[1-9]|0[1-9][0-9]?|[1-9][0-9]{0,2})|[1-9][0-9]{0,6}m)$"
"""Pattern of strings; Kubernetes' finest unit is a thousandth of a core."""


def plain(value: Any) -> Any:
    """The canonical form: an integer for whole cores, else a string. Raises ValueError that says what is allowed."""
    if isinstance(value, bool):
        raise ValueError(_allowed(value))
    if not isinstance(value, int | str):
        return value  # pydantic refuses its type later.
    if isinstance(value, str) and not re.fullmatch(PATTERN, value):
        raise ValueError(_allowed(value))
    thousandths = millicores(value)
    if not 0 < thousandths <= MOST * 1000:
        raise ValueError(_allowed(value))
    return f"{thousandths}m" if thousandths % 1000 else thousandths // 1000


def millicores(value: int | str) -> int:
    """The value in thousandths of a core."""
    if isinstance(value, int):
        return value * 1000
    text = value
    return int(text[:-1]) if text.endswith("m") else int(Decimal(text) * 1000)


def bounds(resources: Any) -> tuple[int, int]:
    """The request and the limit of ``resources`` in a spec, in thousandths of a core."""
    limit = resources.limits.cpu if resources.limits is not None else None
    return millicores(resources.cpu), millicores(resources.cpu if limit is None else limit)


def cel(path: str) -> str:
    """A CEL expression for ``millicores`` of the value at a path."""
    text = f"{path}.endsWith('m') ? int({path}.split('m')[0]) : int(double({path}) * 1000.0 + 0.5)"
    return f"(type({path}) == int ? int({path}) * 1000 : ({text}))"


def _allowed(value: int | str) -> str:
    return f'{str(value)[:20]!r} is not allowed; write cores from 1m to {MOST}, for example 2, "1.5" or 500m'
