"""The page of benchmarks: medians with their range, three significant digits, and nothing that was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.results import Record, Results, Section, compared

from bench import rendering, results

SECTION = Section(
    title="Operator",
    reading="What it means.\n",
    columns=["", "Pelagos", "kopf alone", "ratio"],
    rows=[compared("CPU ms", [6.0, 7.25, 6.5], [4.0, 4.0, 4.0]), ["writes", [0.0, 0.0], None, None]],
)
MACHINE = {"processor": "Z80", "cores": "2"}
RESULTS = Results({"operator": Record(MACHINE, SECTION, "2026-01-31", "bench/run.py", load=0.25, seconds=61.4)})


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (None, ""),
        ("a | b", r"a \| b"),
        (0.5678, "0.568"),
        (1.5678, "1.57"),
        (15.678, "15.7"),
        (1567.8, "1568"),
        (3.0, "3"),
        ([2.0, 1.0, 4.0], "2 (1–4)"),
        ([3.0, 3.0], "3"),
        ([], ""),
    ],
)
def test_a_cell_shows_the_median_and_the_range(value: results.Cell, want: str) -> None:
    assert rendering.cell(value) == want


def test_a_section_is_a_table_with_its_circumstances() -> None:
    page = rendering.render(RESULTS, {"operator": None})
    assert "## Operator\n\nWhat it means.\n\n|  | Pelagos | kopf alone | ratio |\n|---|---:|---:|---:|\n" in page
    assert "| CPU ms | 6.50 (6–7.25) | 4 | 1.62 |\n| writes | 0 |  |  |\n" in page
    assert "`bench/run.py` (part `operator`), 2026-01-31, 61 s, load average at the start 0.2." in page
    assert page.endswith("Machine: processor Z80; cores 2.\n")


def test_a_part_that_was_not_measured_is_not_on_the_page() -> None:
    page = rendering.render(RESULTS, {"operator": None, "serving": None})
    assert page.count("\n## ") == 1


def test_nothing_is_divided_by_zero() -> None:
    assert compared("events", [2.0], [0.0])[-1] is None


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results.write(tmp_path / "results.json", RESULTS)
    assert results.read(tmp_path / "results.json") == RESULTS


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"records": {"operator": {}}}'])
def test_a_damaged_file_counts_as_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    assert results.read(tmp_path / "results.json") is None
