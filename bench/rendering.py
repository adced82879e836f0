"""Renders docs/benchmarks.md from results. Pure: equal results give equal text."""

from __future__ import annotations

from collections.abc import Mapping

from bench.results import Cell, Record, Results, middle

_HEAD = """# Benchmarks

`make bench` writes this page; do not edit it by hand. `bench/run.py --only NAME` repeats one part; `--quick` runs everything with
small sizes and writes to `build/bench` instead. All samples are in `bench/results.json`, from which this page is rendered.
`bench/run.py --check` repeats the measurements, leaves both files unchanged, and lists the ratios that got worse by more than the
spread of the samples; if there are any, it exits with 1. It takes as long as measuring, and needs an otherwise idle machine.

How to read the tables: a cell is the median of the repeats, with their range in brackets. Peers and limits were measured in the
same run, alternating with ours (A, B, A, B). **CPU time is the primary figure** (user and system time including all children,
from /proc or wait4); wall times depend on the load of the machine. Compare ratios, not absolute figures, with other machines.
Parts may have been measured on different ones: the end of each part names its machine.

GPUs are measured by a separate script, which needs nothing else: `.venvs/pipelines/bin/python -m bench.gpu.measure`
(at most eight minutes; `--rehearse` tries it on a processor). It has not been run on a GPU yet, so there are no figures here.
"""


def render(results: Results, order: Mapping[str, object]) -> str:
    """The whole page; sections in the order of ``order``."""
    parts = [_HEAD]
    parts += [_section(name, results.records[name]) for name in order if name in results.records]
    return "\n".join(parts)


def _section(name: str, record: Record) -> str:
    section = record.section
    measured = f"{record.date}, {record.seconds:.0f} s, load average at the start {record.load:.1f}"
    machine = "; ".join(f"{name} {value}" for name, value in record.machine.items())
    lines = [
        f"## {section.title}",
        "",
        section.reading.strip(),
        "",
        f"| {' | '.join(section.columns)} |",
        f"|---|{'---:|' * (len(section.columns) - 1)}",
        *(f"| {' | '.join(cell(value) for value in row)} |" for row in section.rows),
        "",
        f"`{record.command}` (part `{name}`), {measured}. Machine: {machine}.",
        "",
    ]
    return "\n".join(lines)


def cell(value: Cell) -> str:
    """A cell as Markdown, with figures rounded to three significant digits."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("|", r"\|")
    if isinstance(value, list):
        if not value:
            return ""
        low, high = figure(min(value)), figure(max(value))
        return figure(middle(value)) if low == high else f"{figure(middle(value))} ({low}–{high})"
    return figure(value)


def figure(value: float) -> str:
    """A number with three significant digits and without an exponent; whole numbers below a million are exact."""
    if value == round(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"
