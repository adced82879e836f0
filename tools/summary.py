"""Adds up the reports of one run of tools/test.sh, prints the last line, and fails if anything failed."""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

_NOTHING_COLLECTED = 5
_MOST, _LONGEST = 30, 200
"""How many failures are named, and with how many characters of each message."""
ALLOWED = ("no root", "no GPU")
"""Reasons for which a test may be skipped even where skipping is a failure (PELAGOS_TEST_STRICT=1)."""


def count_tests(report: Path, code: int, strict: bool) -> Counter[str]:
    """The counts of a pytest report; a missing report, or a failed run without a failed test, counts as one failure."""
    counts: Counter[str] = Counter()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            good = max(0, int(suite.get("tests", 0)) - bad - skipped)
            wrongly = wrongly_skipped(suite) if strict else []
            counts += Counter(passed=good, failed=bad + len(wrongly), skipped=skipped - len(wrongly))
    if code not in (0, _NOTHING_COLLECTED) and not counts["failed"]:
        counts["failed"] += 1
    return counts


def wrongly_skipped(suite: ElementTree.Element) -> list[str]:
    """Tests that were skipped for a reason that is not allowed."""
    found = ((case, case.find("skipped")) for case in suite.iter("testcase"))
    return [
        f"{case.get('classname')}::{case.get('name')}: {skipped.get('message')}"
        for case, skipped in found
        if skipped is not None and skipped.get("message") not in ALLOWED
    ]


def failures(report: Path, strict: bool) -> list[str]:
    """The failed tests, each with the first line of its message, and the wrongly skipped ones."""
    if not report.exists():
        return []
    root = ElementTree.parse(report).getroot()
    skipped = wrongly_skipped(root) if strict else []
    cases = ((case, bad) for case in root.iter("testcase") for bad in case)
    return [f"skipped, which is a failure here: {line}" for line in skipped] + [
        f"failed: {case.get('classname')}::{case.get('name')}: {(bad.get('message') or '').partition(chr(10))[0][:_LONGEST]}"
        for case, bad in cases
        if bad.tag in ("failure", "error")
    ]


def count_checks(report: Path) -> Counter[str]:
    """The counts of tools/lint.sh; empty if it did not run."""
    if not report.exists():
        return Counter()
    passed, failed = (int(word) for word in report.read_text(encoding="utf-8").split())
    return Counter(passed=passed, failed=failed)


def clock(folder: Path) -> str:
    """How long each part took, in minutes and seconds; parts run side by side."""
    times = {file.stem: int(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.seconds"))}
    return "clock: " + ", ".join(f"{name.replace('-', ' ')} {s // 60}:{s % 60:02}" for name, s in times.items())


def main(folder: Path, total: Path | None = None) -> int:
    """Print the sum, and add it to the file ``total``; returns the exit code."""
    counts = count_checks(folder / "lint")
    strict = os.environ.get("PELAGOS_TEST_STRICT") == "1"
    named: list[str] = []
    checks = folder / "lint.failed"
    if checks.exists():
        named += [f"failed: {line}" for line in checks.read_text(encoding="utf-8").splitlines()]
    for code in sorted(folder.glob("*.code")):
        counts += count_tests(code.with_suffix(".xml"), int(code.read_text(encoding="utf-8")), strict)
        named += failures(code.with_suffix(".xml"), strict)
    # Repeated at the end, for readers who only see the last lines.
    named = [*named[:_MOST], *([f"and {len(named) - _MOST} more"] if len(named) > _MOST else [])]
    print(*named, clock(folder), sep="\n")
    if total is not None:
        with total.open("a", encoding="utf-8") as file:
            file.write(f"{counts['passed']} {counts['failed']} {counts['skipped']}\n")
        with total.with_name(f"{total.name}.failed").open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in named)
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
