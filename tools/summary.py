"""Adds up the reports of one run of tools/test.sh, prints the last line, and fails if anything failed."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

_NOTHING_COLLECTED = 5


def count_tests(report: Path, code: int) -> Counter[str]:
    """What pytest reports; a run without a report, or one that ended badly without a failed test, counts as one failure."""
    counts: Counter[str] = Counter()
    if report.exists():
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            good = max(0, int(suite.get("tests", 0)) - bad - skipped)
            counts += Counter(passed=good, failed=bad, skipped=skipped)
    if code not in (0, _NOTHING_COLLECTED) and not counts["failed"]:
        counts["failed"] += 1
    return counts


def count_checks(report: Path) -> Counter[str]:
    """What tools/lint.sh reports."""
    passed, failed = (int(word) for word in report.read_text(encoding="utf-8").split())
    return Counter(passed=passed, failed=failed)


def main(folder: Path) -> int:
    """Print the sum; returns the exit code."""
    counts = count_checks(folder / "lint")
    for code in sorted(folder.glob("*.code")):
        counts += count_tests(code.with_suffix(".xml"), int(code.read_text(encoding="utf-8")))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
