"""The version is in pyproject.toml; every copy of it agrees, and is generated from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "tools/version.py"
FILES = {
    "pyproject.toml": '[project]\nname = "pelagos"\nversion = "0.1.0"\n\n[tool.other]\nversion = "7.0.0"\n',
    "CITATION.cff": "cff-version: 1.2.0\nversion: 0.1.0\n",
    "images/hub/Dockerfile": "FROM debian:12.0.1\nARG VERSION=0.1.0\n",
    "chart/Chart.yaml": "apiVersion: v2\nversion: 0.1.0\nappVersion: 0.1.0\n",
    "deployment.yaml": "image: ghcr.io/pelagos/trainer:0.1.0-cpu\nlabels: {app.kubernetes.io/version: 0.1.0}\nother: 0.1.0\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "picture.png").write_bytes(b"\0ghcr.io/pelagos/hub:9.9.9")
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def version(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def test_it_is_silent_where_all_say_the_same(repository: Path) -> None:
    done = version(repository)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", sorted(set(FILES) - {"pyproject.toml"}))
def test_a_file_that_says_another_is_named_with_its_line(repository: Path, name: str) -> None:
    (repository / name).write_text(FILES[name].replace("0.1.0", "0.0.9"))

    done = version(repository)

    assert done.returncode == 1
    assert all(line.startswith(f"{name}:") for line in done.stdout.splitlines())
    assert done.stdout.endswith("and pyproject.toml says 0.1.0\n")


def test_a_new_one_is_written_to_all_and_to_nothing_else(repository: Path) -> None:
    done = version(repository, "0.2.0rc1")

    assert sorted(done.stdout.splitlines()) == sorted(FILES)
    assert version(repository).returncode == 0
    assert (repository / "pyproject.toml").read_text() == FILES["pyproject.toml"].replace("0.1.0", "0.2.0rc1")
    changed = FILES["deployment.yaml"].replace("0.1.0", "0.2.0rc1").replace("other: 0.2.0rc1", "other: 0.1.0")
    assert (repository / "deployment.yaml").read_text() == changed
    assert (repository / "images/hub/Dockerfile").read_text() == "FROM debian:12.0.1\nARG VERSION=0.2.0rc1\n"


@pytest.mark.parametrize("word", ["", "0.2", "v0.2.0", "0.2.0-rc1", "0.2.0\n"])
def test_what_is_no_version_changes_nothing(repository: Path, word: str) -> None:
    done = version(repository, word)

    assert done.returncode == 2
    assert "write it as 1.2.3" in done.stderr
    assert (repository / "pyproject.toml").read_text() == FILES["pyproject.toml"]
