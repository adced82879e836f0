"""Durations in YAML notation: 90s, 10m, 1h30m, 5ms."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import Field

Duration = Annotated[
    str,
    Field(pattern=r"^([0-9]+(ms|s|m|h|d))+$", max_length=32, examples=["30s", "10m", "4h"]),
]
LONGEST = timedelta(days=36500)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")


def parse(text: str) -> timedelta:
    """Parse ``text``, whose form the pattern of ``Duration`` guarantees; the result is capped at a century."""
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return timedelta(seconds=min(seconds, LONGEST.total_seconds()))
