"""``pelagos dataset taxa``: the classes of a version as taxa, as lines or JSON, or one clear line why there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

RECORD: dict[str, Any] = {
    "schemaVersion": 1,
    "told": {
        "authority": "WoRMS",
        "source": "https://worms.example/rest",
        "askedAt": "2026-11-29T10:00:00Z",
        "taxa": 1,
        "kept": ["detritus"],
        "unknown": [{"name": "Gadus morua", "why": "no taxon is called so", "suggestions": ["Gadus morhua (126436)"]}],
        "replaced": [],
        "above": [],
        "rolledUp": [{"name": "Gadidae", "aphiaId": 125469, "of": [{"name": "co\u202ed", "annotations": 3}]}],
    },
    "classes": [{"name": "Gadidae", "taxon": {"name": "Gadidae", "rank": "Family", "aphiaId": 125469}, "above": []}],
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", "taxa", *map(str, arguments)])


def version(folder: Path, content: str = json.dumps(RECORD)) -> dict[str, Any]:
    folder.mkdir()
    if content:
        (folder / "taxonomy.json").write_text(content)
    return {"uri": str(folder), "version": "sha256:ab", "taxonomy": RECORD["told"]}


def test_every_class_is_a_line(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", version(tmp_path / "v"))

    done = run("fish")

    assert done.exit_code == 0, done.output
    assert [" ".join(line.split()) for line in done.stdout.splitlines()] == [
        "Gadidae 125469 Gadidae Family made of co\\u202ed",
        "Gadus morua - no taxon is called so; like it: Gadus morhua (126436)",
        "detritus - kept as it is",
    ]
    assert "1 classes of default/fish are taxa by https://worms.example/rest at 2026-11-29T10:00:00Z" in done.stderr


def test_programs_get_json(api: ApiServer, tmp_path: Path) -> None:
    api.add("fish", version(tmp_path / "v"))

    found = json.loads(run("fish", "-o", "json").stdout.replace("\\u202e", ""))

    assert (found["dataset"], found["version"]) == ("default/fish", "sha256:ab")
    assert found["classes"][0]["taxon"]["aphiaId"] == 125469


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        ("", {}, "is not visible from this machine"),
        ("{", {}, "is not what a preparation wrote"),
        ("", {"taxonomy": None}, "set spec.labels.taxonomy"),
        ("", {"uri": None}, "has no version yet"),
    ],
)
def test_what_cannot_be_listed_is_one_line(
    api: ApiServer, tmp_path: Path, content: str, changes: dict[str, Any], words: str
) -> None:
    api.add("fish", version(tmp_path / "v", content) | changes)

    done = run("fish")

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
