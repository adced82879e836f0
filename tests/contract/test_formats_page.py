"""The page with the table of formats names every format, and says of each whether it can be written."""

from __future__ import annotations

import re
from pathlib import Path

from pelagos_contract.formats import FORMATS
from pelagos_contract.tasks import Task

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def test_every_format_has_a_row_that_says_whether_it_is_written() -> None:
    rows = {
        row[1]: row[0].rstrip().rstrip("|").rpartition("|")[2].strip()
        for row in re.finditer(r"^\| `(\w+)` .*$", PAGE, re.M)
    }
    written = {name: words != "no" for name, words in rows.items() if name in FORMATS.names}

    assert written == {known.name: known.view is not None for known in FORMATS}, (
        "correct the first table of docs/formats.md"
    )


def test_every_task_has_a_row() -> None:
    assert {task.value for task in Task} <= set(re.findall(r"`(\w+)`", PAGE))
