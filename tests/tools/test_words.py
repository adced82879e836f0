"""The lint of words refuses words for which the glossary has another one, and says where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(file: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "tools/words.py", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "text", ["A remedy.", "stand_in = 1", "REMEDY = ''", "It needs you.", "_leftovers()", "is_under_way"]
)
def test_a_retired_word_is_named_with_its_place_and_the_term(tmp_path: Path, text: str) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"First line.\n{text}\n")
    code, told = check(file)
    assert code == 1
    assert told.startswith(f"{file}:2: ")
    assert 'docs/glossary.md says "' in told


def test_terms_of_the_glossary_and_parts_of_words_pass(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("A hint for orphans. The distance is remedying nothing. A fake server.\n")
    assert check(file) == (0, "")
