"""Refuses words that docs/glossary.md replaces by others: in the named files, else in all tracked ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

GLOSSARY = Path("docs/glossary.md")
_ELSEWHERE = (
    GLOSSARY,
    Path("docs/installing.md"),
    Path("tests/tools/test_words.py"),
    Path("tests/reconcilers/lives_golden.json"),
)
"""Files that contain retired words on purpose: the list itself, notes about upgrades, a test of this, and earlier messages."""
_TEXT = {".py", ".md", ".sh", ".yaml", ".yml", ".toml", ".json", ".tpl", ""}


def retired(glossary: str) -> dict[str, str]:
    """The words in the table's last column, each with the term of its row."""
    rows = (line.strip("|").split("|") for line in glossary.splitlines() if line.startswith("| "))
    pairs = [(term.strip(), words) for term, _, words in rows if "…" not in words]
    return {word.strip(): term for term, words in pairs[1:] for word in words.split(",") if word.strip()}


def found(path: Path, words: dict[str, str]) -> Iterator[str]:
    """A line for each retired word in the file."""
    # Also within identifiers, whose words are separated by underscores.
    spelled = "|".join(re.escape(word).replace(r"\ ", "[ _]") for word in words)
    pattern = re.compile(rf"(?<![A-Za-z])({spelled})(?![A-Za-z])", re.IGNORECASE)
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        for match in pattern.finditer(line):
            word = match[1].lower()
            yield f'{path}:{number}: "{match[1]}": {GLOSSARY} says "{words.get(word) or words[word.replace("_", " ")]}"'


def main(names: list[str]) -> int:
    """Print what was found; returns the exit code."""
    words = retired(GLOSSARY.read_text(encoding="utf-8"))
    listed = names or subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout.split("\n")
    paths = [Path(name) for name in listed if name and not name.startswith(("requirements/", "bench/results"))]
    lines = [
        line
        for path in paths
        if path not in _ELSEWHERE and path.suffix in _TEXT and path.is_file()
        for line in found(path, words)
    ]
    print("\n".join(lines), end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
