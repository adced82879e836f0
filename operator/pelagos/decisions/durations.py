"""Converts durations in specs to the units that are needed."""

from __future__ import annotations

from pelagos_contract.durations import LONGEST, parse

__all__ = ["LONGEST", "microseconds", "parse", "seconds"]


def microseconds(text: str) -> int:
    """The duration in whole microseconds."""
    return round(parse(text).total_seconds() * 1_000_000)


def seconds(text: str) -> float:
    """The duration in seconds."""
    return parse(text).total_seconds()
