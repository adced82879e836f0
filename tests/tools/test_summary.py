"""The last line of `make test` counts every test and check, and no failure is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUMMARY = Path(__file__).parents[2] / "tools" / "summary.py"


def report(tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> str:
    numbers = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    return f"<testsuites><testsuite {numbers}/></testsuites>"


def summarize(
    folder: Path, *, checks: str = "6 0", codes: tuple[int, int] = (0, 0), strict: bool = False
) -> tuple[str, int]:
    (folder / "lint").write_text(checks)
    for name, code in zip(("control-plane", "data-plane"), codes, strict=True):
        (folder / f"{name}.code").write_text(f"{code}\n")
    environment = os.environ | {"PELAGOS_TEST_STRICT": "1" if strict else ""}
    command: list[str | Path] = [sys.executable, SUMMARY, folder, folder / "total"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1], done.returncode


def test_both_runs_and_the_checks_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "control-plane.xml").write_text(report(10, skipped=1))
    (tmp_path / "data-plane.xml").write_text(report(5))
    assert summarize(tmp_path) == ("20 passed, 0 failed, 1 skipped", 0)


def test_failures_and_errors_fail(tmp_path: Path) -> None:
    (tmp_path / "control-plane.xml").write_text(report(10, failures=1, errors=2))
    (tmp_path / "data-plane.xml").write_text(report(5))
    assert summarize(tmp_path, checks="5 1", codes=(1, 0)) == ("17 passed, 4 failed, 0 skipped", 1)


@pytest.mark.parametrize("code", [1, 2, 3, 137])
def test_a_run_that_crashed_is_a_failure(tmp_path: Path, code: int) -> None:
    (tmp_path / "data-plane.xml").write_text(report(5))
    assert summarize(tmp_path, codes=(code, 0)) == ("11 passed, 1 failed, 0 skipped", 1)


def test_a_run_without_any_test_is_none(tmp_path: Path) -> None:
    assert summarize(tmp_path, codes=(5, 5)) == ("6 passed, 0 failed, 0 skipped", 0)


def skipped_for(reason: str) -> str:
    case = f'<testcase classname="a" name="b"><skipped message="{reason}"/></testcase>'
    return f'<testsuites><testsuite tests="2" failures="0" errors="0" skipped="1">{case}</testsuite></testsuites>'


@pytest.mark.parametrize(
    ("reason", "last"),
    [
        ("no root", ("7 passed, 0 failed, 1 skipped", 0)),
        ("no GPU", ("7 passed, 0 failed, 1 skipped", 0)),
        ("no root here", ("7 passed, 1 failed, 0 skipped", 1)),
        ("schemas are absent", ("7 passed, 1 failed, 0 skipped", 1)),
    ],
)
def test_a_skipped_test_is_a_failure_where_nothing_may_be_missing(
    tmp_path: Path, reason: str, last: tuple[str, int]
) -> None:
    (tmp_path / "data-plane.xml").write_text(skipped_for(reason))

    assert summarize(tmp_path, codes=(5, 0), strict=True) == last
    is_named = f"skipped, which is a failure here: a::b: {reason}\n" == (tmp_path / "total.failed").read_text()
    assert is_named is bool(last[1])
    assert summarize(tmp_path, codes=(5, 0)) == ("7 passed, 0 failed, 1 skipped", 0)


def test_the_sums_of_several_runs_are_kept(tmp_path: Path) -> None:
    (tmp_path / "data-plane.xml").write_text(report(5, failures=1))
    summarize(tmp_path, codes=(5, 1))
    summarize(tmp_path, codes=(5, 1))

    assert (tmp_path / "total").read_text() == "10 1 0\n10 1 0\n"


def test_the_clock_of_each_part_is_printed_before_the_sum(tmp_path: Path) -> None:
    (tmp_path / "lint").write_text("6 0")
    for name, seconds in (("control-plane", 605), ("lint", 59)):
        (tmp_path / f"{name}.seconds").write_text(f"{seconds}\n")
    done = subprocess.run([sys.executable, SUMMARY, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["clock: control plane 10:05, lint 0:59", "6 passed, 0 failed, 0 skipped"]


def test_what_failed_is_named_before_the_sum_and_kept(tmp_path: Path) -> None:
    case = '<testcase classname="tests.a.test_b" name="test_c"><{kind} message="one{more}"/></testcase>'
    cases = case.format(kind="failure", more="&#10;two") + case.format(kind="error", more="")
    (tmp_path / "lint.failed").write_text("spelling\n")
    (tmp_path / "data-plane.xml").write_text(
        f'<testsuites><testsuite tests="3" failures="1" errors="1" skipped="0">{cases}</testsuite></testsuites>'
    )
    (tmp_path / "lint").write_text("5 1")
    (tmp_path / "data-plane.code").write_text("1\n")
    command: list[str | Path] = [sys.executable, SUMMARY, tmp_path, tmp_path / "total"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    named = ["failed: spelling", *2 * ["failed: tests.a.test_b::test_c: one"]]
    assert done.stdout.splitlines()[:3] == named
    assert (tmp_path / "total.failed").read_text().splitlines() == named


def test_endless_failures_are_counted_and_a_few_are_named(tmp_path: Path) -> None:
    case = '<testcase classname="a" name="b"><failure message="x"/></testcase>'
    (tmp_path / "data-plane.xml").write_text(
        f'<testsuites><testsuite tests="99" failures="99" errors="0" skipped="0">{99 * case}</testsuite></testsuites>'
    )
    (tmp_path / "lint").write_text("6 0")
    (tmp_path / "data-plane.code").write_text("1\n")
    done = subprocess.run([sys.executable, SUMMARY, tmp_path], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[30] == "and 69 more"
