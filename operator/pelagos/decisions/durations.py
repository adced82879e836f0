"""Durations as they are written in YAML: 90s, 10m, 1h30m, 5ms."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
LONGEST = timedelta(days=36500)
_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")


def parse(text: str) -> timedelta:
    """The duration that ``text`` names, at most a century. The pattern in the CRD guarantees its form."""
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return timedelta(seconds=min(seconds, LONGEST.total_seconds()))


def microseconds(text: str) -> int:
    """The duration in whole microseconds."""
    return round(parse(text).total_seconds() * 1_000_000)


def seconds(text: str) -> float:
    """The duration in seconds."""
    return parse(text).total_seconds()
