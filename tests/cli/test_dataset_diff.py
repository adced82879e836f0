"""``pelagos dataset diff``: which versions are compared, and their differences in a table or as JSON."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

OLD, NEW, OTHER = "a1" * 32, "b2" * 32, "b3" * 32
ANSWER: dict[str, Any] = {
    "from": {"version": f"sha256:{OLD}", "uri": "/old", "task": "Detection", "images": 30, "annotations": 40},
    "to": {"version": f"sha256:{NEW}", "uri": "/new", "task": "Detection", "images": 41, "annotations": 47},
    "same": False,
    "images": {
        "both": 29,
        "added": [{"path": f"new/{number}.png", "split": "train", "annotations": 1} for number in range(12)],
        "removed": [{"path": "x\u202egnp.tif", "split": "test", "annotations": 2, "excluded": "Duplicate"}],
        "replaced": [],
        "renamed": [{"path": "b.png", "was": "a.png"}],
        "moved": [{"path": "c.png", "from": "train", "to": "test"}],
        "regrouped": 0,
        "recaptured": 3,
    },
    "splits": {"train": {"from": 20, "to": 31}, "test": {"from": 10, "to": 10}},
    "annotations": {
        "unchanged": 30,
        "added": 3,
        "removed": 1,
        "moved": 2,
        "relabelled": 4,
        "described": 0,
        "withAddedImages": 12,
        "withRemovedImages": 2,
        "images": [{"path": "c.png", "moved": 2}],
    },
    "classes": {
        "added": ["ray"],
        "removed": [],
        "renumbered": False,
        "counts": [
            {"name": "cod", "images": {"from": 1, "to": 1}, "annotations": {"from": 40, "to": 46}},
            {"name": "eel", "images": {"from": 1, "to": 1}, "annotations": {"from": 5, "to": 5}},
            {"name": "ray", "images": {"from": 0, "to": 1}, "annotations": {"from": 0, "to": 1}},
        ],
    },
    "recipe": [{"field": "split.seed", "from": 1, "to": 2}, {"field": "sourceDigest", "from": OLD, "to": NEW}],
    "excluded": {
        "from": {"Duplicate": 1},
        "to": {"Duplicate": 2},
        "added": [{"path": "d.png", "reason": "Duplicate"}],
        "removed": [],
        "changed": [],
    },
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["dataset", "diff", *map(str, arguments)])


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data plane that records its request, and answers."""
    python = tmp_path / "environments" / "pipelines" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "answer").write_text(json.dumps(ANSWER))
    python.write_text(f'#!/bin/sh\necho "$@" $AWS_ENDPOINT_URL >{tmp_path}/asked\ncat {tmp_path}/answer\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(tmp_path / "environments"))
    return tmp_path / "asked"


@pytest.fixture
def datasets(api: ApiServer, tmp_path: Path) -> ApiServer:
    """``fish`` with two versions and ``weed`` with one."""
    uris = {digest: tmp_path / "store" / "versions" / digest for digest in (OLD, NEW, OTHER)}
    for folder in uris.values():
        folder.mkdir(parents=True)
    for name, digests in (("fish", (NEW, OLD)), ("weed", (OTHER,))):
        listed = [{"version": f"sha256:{digest}", "uri": str(uris[digest])} for digest in digests]
        api.add(name, {"uri": str(uris[digests[0]]), "version": f"sha256:{digests[0]}", "versions": listed})
    api.add("new", {})
    return api


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        (("fish",), (OLD, NEW)),
        (("fish@a1",), (OLD, NEW)),
        (("fish@sha256:a1a1", "fish"), (OLD, NEW)),
        (("fish@b2", "fish@a1"), (NEW, OLD)),
        (("fish", "weed"), (NEW, OTHER)),
        (("sha256:a1", "sha256:b3"), (OLD, OTHER)),
        (("sha256:a1",), (OLD, NEW)),
    ],
    ids=["the one before", "with the newest", "two of one", "backwards", "two Datasets", "by digests", "one digest"],
)
def test_versions_are_named_in_few_letters(
    datasets: ApiServer, plane: Path, named: tuple[str, ...], meant: tuple[str, str]
) -> None:
    done = run(*named, "-o", "json")

    assert done.exit_code == 0, done.output
    assert [Path(uri).name for uri in plane.read_text().split()[-2:]] == list(meant)
    assert json.loads(done.stdout)["images"] == ANSWER["images"]
    assert "\u202e" not in done.stdout


def test_a_table_says_what_changed_and_names_the_first_files(datasets: ApiServer, plane: Path) -> None:
    done = run("fish")

    assert done.exit_code == 0, done.output
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert {
        f"from default/fish sha256:{OLD} 30 images, 40 annotations, Detection",
        "images 30 41 12 added, 1 removed, 1 renamed",
        "train 20 31 1 train → test",
        "annotations 40 47 3 added, 1 removed, 2 moved, 4 relabelled, 12 with added images, 2 with removed",
        "cod 40 46 +6",
        "ray 0 1 added",
        "recipe split.seed 1 2 changed",
        "recipe sourceDigest a1a1a1a1a1a1 b2b2b2b2b2b2 changed",
        "left out, Duplicate 1 2 +1",
        "added image new/9.png train, 1 annotations",
        "added image ... and 2 more -o json has all",
        "removed image x\\u202egnp.tif test, 2 annotations, left out, Duplicate",
        "other name b.png was a.png",
        "other split c.png train → test",
        "other annotations c.png 2 moved",
        "left out now d.png Duplicate",
    } <= lines
    assert not any("eel" in line for line in lines)


def test_no_name_of_strangers_is_obeyed_by_a_terminal(datasets: ApiServer, plane: Path, tmp_path: Path) -> None:
    said = json.loads(json.dumps(ANSWER))
    said["images"]["renamed"] = [{"path": "b.png", "was": "\x1b[2Ja.png"}]
    said["classes"]["counts"][0]["name"] = "co\u202ed"
    said["recipe"] = [{"field": "labels.rename.x", "from": "\x1b]0;title\x07", "to": None}]
    (tmp_path / "answer").write_text(json.dumps(said))
    assert not {"\x1b", "\x07", "\u202e"} & set(run("fish").stdout)

    (tmp_path / "answer").write_text(json.dumps({"error": "cannot read \x1b[2J"}))
    assert "cannot read \\u001b[2J" in run("fish").output.replace("\n", "")


def test_the_same_version_twice_is_told_so(datasets: ApiServer, plane: Path, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text(json.dumps(ANSWER | {"same": True}))

    assert run("fish", "fish").stdout.endswith("They are the same version.\n")


def test_the_picture_is_written_where_it_was_asked_for(
    datasets: ApiServer, plane: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELAGOS_S3_ENDPOINT", "http://storage:9000")

    done = run("fish", "--picture", tmp_path / "sheet.png")

    assert plane.read_text().split()[-2:] == [str(tmp_path / "sheet.png"), "http://storage:9000"]
    assert f"drawn in {tmp_path / 'sheet.png'}" in done.stderr.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("herring",), "Dataset default/herring not found; there are fish, new, weed"),
        (("new",), "Dataset default/new has no version yet"),
        (("weed",), "has one version; name another Dataset"),
        (("fish@c3",), "fish@c3: 0 versions of default/fish begin with that; there are b2b2b2b2b2b2, a1a1a1a1a1a1"),
        (("fish@../x",), "is not the beginning of a sha256"),
        (("sha256:b", "fish"), "sha256:b: 2 versions in the namespace default begin with that; name the Dataset"),
        (("fish", "--picture", "sheet.jpg"), "the name must end in .png"),
        (("fish", "--picture", "/nowhere/sheet.png"), "the folder /nowhere does not exist"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    datasets: ApiServer, plane: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = run(*arguments)

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr
    assert json.loads(run(*arguments, "-o", "json").stdout)["error"] in done.stderr
