"""The result of a measurement, and the file that stores it. Written by run.py, read by rendering.py."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Cell = str | float | list[float] | None
"""A text; a number; samples of one figure, shown as median and range; or None if it does not apply."""


@dataclass(frozen=True)
class Section:
    """One measurement: an explanation in Markdown, and a table whose first column names the rows."""

    title: str
    reading: str
    columns: list[str]
    rows: list[list[Cell]]
    details: dict[str, Any] = field(default_factory=dict)
    """All other measured values, for the JSON file only."""


@dataclass(frozen=True)
class Record:
    """A section with the circumstances of its measurement. ``load`` is the machine's load average when it began."""

    machine: dict[str, str]
    section: Section
    date: str
    command: str
    load: float
    seconds: float


@dataclass(frozen=True)
class Results:
    """All records by name of measurement; they may come from different machines."""

    records: dict[str, Record]


def middle(samples: Sequence[float]) -> float:
    """The median."""
    return statistics.median(samples)


def compared(what: str, ours: list[float], other: list[float]) -> list[Cell]:
    """A row: its name, our figure, the peer's or limit's, and the ratio of the medians (None if the divisor is 0)."""
    divisor = middle(other)
    return [what, ours, other, middle(ours) / divisor if divisor else None]


def read(path: Path) -> Results | None:
    """The stored results; None if the file is missing or invalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        records = {
            name: Record(**{**record, "section": Section(**record["section"])})
            for name, record in content["records"].items()
        }
        return Results(records)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(path: Path, results: Results) -> None:
    """Write the results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(results), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
