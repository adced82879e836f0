"""Compares the ratios of a run with those that were committed. Pure; knows which they are from `ratios`, measures nothing."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.ratios import Better, Judged
from bench.rendering import figure
from bench.results import Cell, Record, Section, middle

LEAST = 0.05
"""A ratio is never held to less than this share: what is rounded, and the clock of /proc, are coarser."""
UNKNOWN = 0.2
"""The share for what was measured once, as in Kueue's own gate on its performance (mean x 1.2)."""


class Verdict(enum.Enum):
    """What became of a ratio."""

    WORSE = "worse"
    MISSING = "not measured"
    NEW = "new"
    BETTER = "better"
    SAME = "same"


FAILURES = (Verdict.WORSE, Verdict.MISSING)


@dataclass(frozen=True)
class Found:
    """A ratio before and now (medians), and the share by which it may differ: the samples of either run differ by as much."""

    part: str
    row: str
    column: str
    verdict: Verdict
    before: float | None
    now: float | None
    allowed: float


@dataclass(frozen=True)
class _Ratio:
    value: float
    scatter: float


def compared(
    before: Mapping[str, Record],
    now: Mapping[str, Record],
    judged: Mapping[str, Sequence[Judged]],
    parts: Sequence[str],
) -> list[Found]:
    """All ratios of the parts, in the order of their tables: those of ``now``, then those that it lacks."""
    found = []
    for part in parts:
        for rule in judged.get(part, ()):
            earlier, later = (
                _ratios(records[part].section, rule) if part in records else {} for records in (before, now)
            )
            found += [_verdict(part, row, rule, earlier.get(row), later.get(row)) for row in (later | earlier)]
    return found


def told(found: Sequence[Found]) -> str:
    """For people: what got worse or was not measured, then what is new or better, and how many are as they were."""
    lines = []
    for verdict in Verdict:
        chosen = [each for each in found if each.verdict is verdict]
        if chosen and verdict is not Verdict.SAME:
            lines += [f"{verdict.value}:", *(f"  {_line(each)}" for each in chosen)]
        elif verdict is Verdict.SAME:
            lines.append(f"within their spread: {len(chosen)} of {len(found)} ratios")
    return "\n".join(lines)


def _line(each: Found) -> str:
    was, is_now = ("–" if value is None else figure(value) for value in (each.before, each.now))
    return f"{each.part}: {each.row}: {each.column}: {was} -> {is_now} (spread {each.allowed * 100:.0f} %)"


def _verdict(part: str, row: str, rule: Judged, before: _Ratio | None, now: _Ratio | None) -> Found:
    if before is None or now is None:
        verdict = Verdict.NEW if before is None else Verdict.MISSING
        known = [each for each in (before, now) if each is not None]
        was, is_now = (None if each is None else each.value for each in (before, now))
        return Found(part, row, rule.column, verdict, was, is_now, known[0].scatter)
    allowed = max(LEAST, before.scatter, now.scatter)
    low, high = sorted((before.value, now.value))
    if high <= low * (1 + allowed):
        verdict = Verdict.SAME
    else:
        verdict = Verdict.WORSE if (now.value > before.value) is (rule.better is Better.LESS) else Verdict.BETTER
    return Found(part, row, rule.column, verdict, before.value, now.value, allowed)


def _ratios(section: Section, rule: Judged) -> dict[str, _Ratio]:
    """By the names of the rows; one below a heading (a row with a name alone) is named with it."""
    if rule.column not in section.columns:
        return {}
    found = {}
    for name, row in _named(section):
        value = _middle(row[section.columns.index(rule.column)])
        if value is not None and rule.takes(str(row[0])):
            found[name] = _Ratio(value, _scatter(section, row, rule))
    return found


def _named(section: Section) -> Iterator[tuple[str, list[Cell]]]:
    heading = ""
    for row in section.rows:
        if all(cell is None for cell in row[1:]):
            heading = f"{row[0]}: "
        else:
            yield f"{heading}{row[0]}", row


def _scatter(section: Section, row: Sequence[Cell], rule: Judged) -> float:
    """The sum of what the samples behind it differ by, which is what their ratio differs by at most, nearly."""
    columns = rule.scatter or (rule.column,)
    cells = [row[section.columns.index(column)] for column in columns if column in section.columns]
    samples = [cell for cell in cells if isinstance(cell, list) and len(cell) > 1]
    return sum(map(_differ, samples)) if samples else UNKNOWN


def _differ(samples: Sequence[float]) -> float:
    """How far from their median nine tenths of the samples are, as a share of it; of nine or fewer all."""
    centre = middle(samples)
    distances = sorted(abs(each - centre) for each in samples)
    return distances[math.ceil(0.9 * len(distances)) - 1] / abs(centre) if centre else 0.0


def _middle(cell: Cell) -> float | None:
    if isinstance(cell, list):
        return middle(cell) if cell else None
    return float(cell) if isinstance(cell, int | float) else None
