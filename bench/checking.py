"""Compares the ratios of a run with the committed ones, which `ratios` selects. Pure: it measures nothing."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.ratios import Better, Judged
from bench.rendering import figure
from bench.results import Cell, Record, Section, middle

LEAST = 0.05
"""Least tolerance of a ratio, as a share: rounding and the clock of /proc are coarser than anything below."""
UNKNOWN = 0.2
"""Tolerance, as a share, for figures measured only once, as in Kueue's own performance gate (mean x 1.2)."""


class Verdict(enum.Enum):
    """The result of comparing a ratio with the committed one."""

    WORSE = "worse"
    MISSING = "not measured"
    NEW = "new"
    BETTER = "better"
    SAME = "same"


FAILURES = (Verdict.WORSE, Verdict.MISSING)


@dataclass(frozen=True)
class Found:
    """A ratio before and now (medians). ``allowed``: the tolerance as a share, from the scatter of the samples of both runs."""

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
    """Compare all ratios of the parts, in the order of their tables: those in ``now``, then those missing from it."""
    found = []
    for part in parts:
        for rule in judged.get(part, ()):
            earlier, later = (
                _ratios(records[part].section, rule) if part in records else {} for records in (before, now)
            )
            found += [_verdict(part, row, rule, earlier.get(row), later.get(row)) for row in (later | earlier)]
    return found


def told(found: Sequence[Found]) -> str:
    """A text for people: ratios that got worse or are missing, then new or better ones, and how many are unchanged."""
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
    """Ratios by row name; a row below a heading (a row that only has a name) is prefixed with it."""
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
    """The sum of the samples' relative scatters, which is approximately an upper bound on the scatter of their ratio."""
    columns = rule.scatter or (rule.column,)
    cells = [row[section.columns.index(column)] for column in columns if column in section.columns]
    samples = [cell for cell in cells if isinstance(cell, list) and len(cell) > 1]
    return sum(map(_differ, samples)) if samples else UNKNOWN


def _differ(samples: Sequence[float]) -> float:
    """The distance from the median within which nine tenths of the samples lie (all of up to nine), as a share of it."""
    centre = middle(samples)
    distances = sorted(abs(each - centre) for each in samples)
    return distances[math.ceil(0.9 * len(distances)) - 1] / abs(centre) if centre else 0.0


def _middle(cell: Cell) -> float | None:
    if isinstance(cell, list):
        return middle(cell) if cell else None
    return float(cell) if isinstance(cell, int | float) else None
