"""tools/samples.sh leaves a complete folder or none. A fake pip replaces the network; the composer is real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "samples.sh"


def run(target: Path, pip: str) -> subprocess.CompletedProcess[str]:
    tools = target.parent / "tools"
    (tools / "bin").mkdir(parents=True, exist_ok=True)
    (tools / "bin" / "pip").write_text(f"#!/bin/sh\n{pip}\n")
    (tools / "bin" / "pip").chmod(0o755)
    environment = {**os.environ, "PELAGOS_TOOLS": str(tools)}
    return subprocess.run([SCRIPT, target], capture_output=True, text=True, check=False, env=environment)


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_the_folder_appears_complete_and_nothing_else_is_left(tmp_path: Path, wheel: Path) -> None:
    target = tmp_path / "data" / "samples"

    done = run(target, f'while [ "$1" != --dest ]; do shift; done; mkdir -p "$2"; cp {wheel} "$2"')

    assert done.returncode == 0, done.stderr
    assert {path.name for path in target.iterdir()} == {
        "LICENSE.txt",
        "README.md",
        "formats",
        "phytoplankton-crops",
        "phytoplankton-frames",
        "phytoplankton-scenes",
        "phytoplankton-survey",
    }
    assert len(list((target / "phytoplankton-frames" / "images").iterdir())) == 448
    assert hidden(target.parent) == []


def test_a_complete_folder_is_left_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "samples"
    for name in ("formats", "phytoplankton-survey"):
        (target / name).mkdir(parents=True)
    (target / "README.md").write_text("complete")

    done = run(target, "echo must not be called >&2; exit 1")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_failed_download_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "samples"

    done = run(target, "echo ERROR: no network >&2; exit 1")

    assert done.returncode == 1
    assert "no network" in done.stderr
    assert "could not be downloaded" in done.stderr
    assert not target.exists()
    assert hidden(tmp_path) == []


def test_what_is_in_the_way_or_of_an_earlier_release_is_kept_aside(tmp_path: Path, wheel: Path) -> None:
    target = tmp_path / "samples"
    target.mkdir()
    (target / "mine.txt").write_text("my notes")
    (target / "README.md").write_text("of a release that had fewer samples")

    done = run(target, f'while [ "$1" != --dest ]; do shift; done; mkdir -p "$2"; cp {wheel} "$2"')

    assert done.returncode == 0, done.stderr
    assert not (target / "mine.txt").exists()
    assert [path.read_text() for path in tmp_path.glob("samples.incomplete.*/mine.txt")] == ["my notes"]
