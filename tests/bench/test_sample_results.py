"""The page of the samples' results equals what its record gives, with a picture for each sample that was run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_that_of_the_record(tmp_path: Path) -> None:
    program = (
        "import json, sys, sample_results as s; s.PAGE = s.Path(sys.argv[1]); sys.argv[1:] = ['--write']; s.main()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "page.md")]
    subprocess.run(command, check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "tools")}, capture_output=True)

    assert (tmp_path / "page.md").read_bytes() == (ROOT / "docs/sample-results.md").read_bytes()


def test_each_sample_that_was_run_has_its_picture() -> None:
    record = json.loads((ROOT / "tools/sample_results.json").read_text(encoding="utf-8"))
    pictures = {path.stem for path in (ROOT / "docs/images/samples").glob("*.png")}
    assert record
    assert pictures == set(record)
