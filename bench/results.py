"""What a measurement hands back, and the file that keeps it. Written by run.py, read by rendering.py; knows no measurement."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Cell = str | float | list[float] | None
"""Text; a figure; samples of one figure, shown as their median with the range; None: does not apply."""


@dataclass(frozen=True)
class Section:
    """One measurement: what it says and how to read it (Markdown), and a table whose first column names the rows."""

    title: str
    reading: str
    columns: list[str]
    rows: list[list[Cell]]
    details: dict[str, Any] = field(default_factory=dict)
    """Everything else that was measured, for the JSON file."""


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
    """All records by the name of the measurement; they may be of several machines."""

    records: dict[str, Record]


def middle(samples: Sequence[float]) -> float:
    """The median."""
    return statistics.median(samples)


def compared(what: str, ours: list[float], other: list[float]) -> list[Cell]:
    """A row: what, ours, the peer or limit, and the ratio of the medians (None when there is nothing to divide by)."""
    divisor = middle(other)
    return [what, ours, other, middle(ours) / divisor if divisor else None]


def read(path: Path) -> Results | None:
    """The results that were kept; None when there are none that can be read."""
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
    """Keep the results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(results), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
