"""Ratios of a new run beside the committed ones: those worse by more than the samples' spread are reported; none vanishes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from bench.checking import FAILURES, Found, Verdict, compared, told
from bench.ratios import JUDGED, Better, Judged
from bench.results import Cell, Record, Section

from bench import results

ROOT = Path(__file__).parents[2]
LESS = (Judged("ratio", scatter=("ours", "peer")),)
MORE = (Judged("ratio", Better.MORE, scatter=("ours", "peer")),)


def record(*rows: list[Cell]) -> Record:
    """The record of one part, with the columns ours, peer and ratio."""
    section = Section("Part", "", ["", "ours", "peer", "ratio"], list(rows))
    return Record({}, section, "2026-01-31", "bench/run.py", 0.0, 1.0)


def row(ratio: Cell, ours: list[float] | None = None, peer: list[float] | None = None, name: str = "CPU") -> list[Cell]:
    return [name, ours or [1.0, 1.0], peer or [1.0, 1.0], ratio]


def judge(before: Record, now: Record, rules: tuple[Judged, ...] = LESS) -> list[Found]:
    return compared({"part": before}, {"part": now}, {"part": rules}, ["part"])


@pytest.mark.parametrize(
    ("before", "now", "rules", "want"),
    [
        (1.5, 1.5, LESS, Verdict.SAME),
        (1.5, 1.57, LESS, Verdict.SAME),
        (1.5, 1.6, LESS, Verdict.WORSE),
        (1.5, 1.4, LESS, Verdict.BETTER),
        (0.9, 0.8, MORE, Verdict.WORSE),
        (0.8, 0.9, MORE, Verdict.BETTER),
        (0.0, 0.0, LESS, Verdict.SAME),
        (0.0, 0.1, LESS, Verdict.WORSE),
    ],
)
def test_a_ratio_that_hardly_scatters_may_differ_by_a_twentieth(
    before: float, now: float, rules: tuple[Judged, ...], want: Verdict
) -> None:
    assert [each.verdict for each in judge(record(row(before)), record(row(now)), rules)] == [want]


@pytest.mark.parametrize(("now", "want"), [(1.85, Verdict.SAME), (2.0, Verdict.WORSE)])
def test_a_ratio_may_differ_by_as_much_as_its_samples_and_its_peers_do_together(now: float, want: Verdict) -> None:
    before = record(row(1.5, ours=[9.0, 10.0, 11.0], peer=[8.5, 10.0, 11.5]))
    (found,) = judge(before, record(row(now)))
    assert (found.verdict, round(found.allowed, 3)) == (want, 0.25)


def test_samples_that_scatter_in_the_new_run_count_as_well() -> None:
    (found,) = judge(record(row(1.5)), record(row(1.8, ours=[7.0, 10.0, 13.0])))
    assert found.verdict is Verdict.SAME


def test_one_sample_of_many_that_is_far_off_does_not_excuse_the_others() -> None:
    rules = (Judged("ratio"),)
    before, now = (record(row([value] * 18 + [9 * value, value])) for value in (1.0, 1.1))
    assert [each.verdict for each in judge(before, now, rules)] == [Verdict.WORSE]


@pytest.mark.parametrize(("now", "want"), [(1.19, Verdict.SAME), (1.21, Verdict.WORSE)])
def test_what_was_measured_once_may_differ_by_a_fifth(now: float, want: Verdict) -> None:
    rules = (Judged("ratio"),)
    assert [each.verdict for each in judge(record(row(1.0)), record(row(now)), rules)] == [want]


def test_a_ratio_that_is_not_measured_any_more_is_a_failure_and_a_new_one_is_none() -> None:
    found = judge(record(row(1.5, name="old")), record(row(1.5, name="new")))
    assert [(each.row, each.verdict) for each in found] == [("new", Verdict.NEW), ("old", Verdict.MISSING)]
    assert [each.verdict in FAILURES for each in found] == [False, True]


def test_a_part_that_failed_lacks_all_its_ratios() -> None:
    found = compared({"part": record(row(1.5))}, {}, {"part": LESS}, ["part"])
    assert [each.verdict for each in found] == [Verdict.MISSING]


def test_rows_of_one_name_below_two_headings_are_two() -> None:
    headed: list[list[Cell]] = [["small", None, None, None], row(1.0), ["large", None, None, None], row(2.0)]
    changed: list[list[Cell]] = [["small", None, None, None], row(1.0), ["large", None, None, None], row(3.0)]
    found = judge(record(*headed), record(*changed))
    assert [(each.row, each.verdict) for each in found] == [("small: CPU", Verdict.SAME), ("large: CPU", Verdict.WORSE)]


def test_people_read_first_what_got_worse() -> None:
    before, now = record(row(1.5, name="a"), row(1.5, name="b")), record(row(1.5, name="a"), row(3.0, name="b"))
    assert told(judge(before, now)) == (
        "worse:\n  part: b: ratio: 1.50 -> 3 (spread 5 %)\nwithin their spread: 1 of 2 ratios"
    )


def committed() -> dict[str, Record]:
    found = results.read(ROOT / "bench" / "results.json")
    assert found is not None
    return found.records


def test_the_committed_results_hold_against_themselves() -> None:
    records = committed()
    found = compared(records, records, JUDGED, list(records))
    assert len(found) > 60
    assert {each.verdict for each in found} == {Verdict.SAME}


@pytest.mark.parametrize("part", committed())
def test_every_ratio_of_a_part_is_judged_and_every_rule_finds_one(part: str) -> None:
    record, rules = committed()[part], JUDGED.get(part, ())
    named = {column for column in record.section.columns if "ratio" in column}
    assert named <= {rule.column for rule in rules}
    for row in record.section.rows:
        assert "ratio" not in str(row[0]) or any(rule.takes(str(row[0])) for rule in rules), row[0]
    for rule in rules:
        assert compared({}, {part: record}, {part: (rule,)}, [part]), rule


def test_a_check_in_small_is_refused_for_its_ratios_are_others() -> None:
    command = [sys.executable, str(ROOT / "bench" / "run.py"), "--quick", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not allowed with" in done.stderr
