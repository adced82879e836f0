"""Checks that all files repeat the version in pyproject.toml; with a version as argument, writes it to all of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path("pyproject.toml")
_VERSION = r"(?P<version>\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)"
_REPEATED = (
    (re.compile(rf"ghcr\.io/pelagos/[a-z-]+:{_VERSION}"), ""),
    (re.compile(rf"registry\.example\.org/pelagos/[a-z-]+:{_VERSION}"), ""),
    (re.compile(rf"pelagos\.git//\S+\?ref=v{_VERSION}"), ""),
    (re.compile(rf"app\.kubernetes\.io/version: {_VERSION}"), ""),
    (re.compile(rf"org\.opencontainers\.image\.version={_VERSION}"), ""),
    (re.compile(rf"^ARG VERSION={_VERSION}$", re.MULTILINE), "Dockerfile"),
    (re.compile(rf"^(?:appVersion|version): {_VERSION}$", re.MULTILINE), "Chart.yaml"),
    (re.compile(rf"^version: {_VERSION}$", re.MULTILINE), "CITATION.cff"),
    (re.compile(rf'^name = "pelagos"\nversion = "{_VERSION}"$', re.MULTILINE), "pyproject.toml"),
    (re.compile(rf'^VERSION = "{_VERSION}"$', re.MULTILINE), "writing.py"),
)
"""Patterns of repeated versions, each with the name of the files that have it; without a name, all files."""
_NOT = ("requirements/", "bench/results", "tests/tools/test_version.py", "docs/benchmarks.md")


def repeated(path: Path, text: str) -> Iterator[re.Match[str]]:
    """The matches in a file that repeat the version."""
    for pattern, name in _REPEATED:
        if path.name == name or not name:
            yield from pattern.finditer(text)


def files() -> Iterator[tuple[Path, str]]:
    """All tracked text files with their contents."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout.split("\0")
    for name in listed:
        if name and not name.startswith(_NOT) and Path(name).is_file():
            content = Path(name).read_bytes()
            if b"\0" not in content[:1000]:
                yield Path(name), content.decode(errors="surrogateescape")


def differing(version: str) -> list[str]:
    """A line for each place that names another version."""
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}, and {SOURCE} says {version}"
        for path, text in files()
        for match in repeated(path, text)
        if match["version"] != version
    ]


def write(version: str) -> list[Path]:
    """Write the version wherever it is repeated; returns the changed files."""
    changed = []
    for path, text in files():
        spans = sorted((match.span("version") for match in repeated(path, text)), reverse=True)
        written = text
        for start, end in spans:
            written = written[:start] + version + written[end:]
        if written != text:
            path.write_bytes(written.encode(errors="surrogateescape"))
            changed.append(path)
    return changed


def main(arguments: list[str]) -> int:
    """Check or write; returns the exit code."""
    if not arguments:
        version = tomllib.loads(SOURCE.read_text(encoding="utf-8"))["project"]["version"]
        lines = differing(version)
        print("\n".join(lines), end="\n" if lines else "")
        return 1 if lines else 0
    (version,) = arguments
    if not re.fullmatch(_VERSION, version):
        print(f"{version!r} is no version; write it as 1.2.3, or 1.2.3rc1 before a release", file=sys.stderr)
        return 2
    print("\n".join(map(str, write(version))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
