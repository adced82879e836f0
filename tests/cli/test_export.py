"""``pelagos export``: the data plane writes the files; the command finds the version and reports the result."""

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

OLD, NEW = "a1" * 32, "b2" * 32


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


@pytest.fixture
def status(tmp_path: Path) -> dict[str, Any]:
    for digest in (OLD, NEW):
        (tmp_path / "versions" / digest).mkdir(parents=True)
    listed = [{"version": f"sha256:{digest}"} for digest in (NEW, OLD)]
    return {"uri": str(tmp_path / "versions" / NEW), "version": f"sha256:{NEW}", "versions": listed}


@pytest.fixture
def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data plane that records its request, and answers."""
    python = tmp_path / "environments" / "pipelines" / "bin" / "python"
    python.parent.mkdir(parents=True)
    answer = {"images": 9, "altered": [{"kind": "polygon", "reason": "BoxAround", "annotations": 3}]}
    python.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/asked\necho '{json.dumps(answer)}'\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(tmp_path / "environments"))
    return tmp_path / "asked"


def test_the_newest_version_is_written(api: ApiServer, status: dict[str, Any], plane: Path, tmp_path: Path) -> None:
    api.add("fish", status)

    done = run("fish", "--format", "Yolo", "--to", tmp_path / "out")

    assert done.exit_code == 0, done.output
    assert plane.read_text().split()[-3:] == [status["uri"], "yolo", str(tmp_path / "out")]
    assert "9 images of version sha256:b2b2" in done.stderr
    assert "3 annotations (polygon) are not as in the version: BoxAround" in done.stderr


def test_an_older_version_is_named_by_its_beginning(
    api: ApiServer, status: dict[str, Any], plane: Path, tmp_path: Path
) -> None:
    api.add("fish", status)

    done = run("fish", "--format", "Coco", "--to", tmp_path / "out", "--version", "sha256:a1a1", "-o", "json")

    assert done.exit_code == 0, done.output
    assert plane.read_text().split()[-3].endswith(OLD)
    assert json.loads(done.stdout)["version"] == f"sha256:{OLD}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name a --format (ImageFolder, Coco, Yolo, Voc, Cvat, LabelStudio, Ifdo), or --metadata (Ifdo, Croissant"),
        (("--format", "Word"), "there is no such format; allowed are ImageFolder, Coco, Yolo, Voc"),
        (("--format", "Yolo", "--version", "c3"), "0 versions of default/fish begin with that; there are b2b2b2b2b2b2"),
        (("--format", "Yolo", "--version", ""), "ended with code 3 and no answer"),
    ],
    ids=["nothing", "format", "version", "a program that fails"],
)
def test_what_cannot_be_exported_is_one_line(
    api: ApiServer, status: dict[str, Any], plane: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    api.add("fish", status)
    python = tmp_path / "environments/pipelines/bin/python"
    python.write_text("#!/bin/sh\nexit 3\n")

    done = run("fish", "--to", tmp_path / "out", *arguments)

    assert (done.exit_code, done.stdout) == (1, "")
    assert words in done.stderr


def test_without_a_version_or_a_folder_to_be_seen_it_says_so(api: ApiServer, plane: Path, tmp_path: Path) -> None:
    api.add("new", {})
    api.add("far", {"uri": "/nowhere/at/all"})

    assert "has no version yet" in run("new", "--format", "Yolo", "--to", tmp_path / "out").stderr
    assert "not visible from this machine" in run("far", "--format", "Yolo", "--to", tmp_path / "out").stderr


def test_metadata_goes_to_the_data_plane_as_it_stands_in_the_spec(
    api: ApiServer, status: dict[str, Any], plane: Path, tmp_path: Path
) -> None:
    python = tmp_path / "environments/pipelines/bin/python"
    python.write_text(python.read_text() + f"cat >{tmp_path}/said\n")
    status["versions"][0]["createdAt"] = "2026-11-29T10:00:00Z"
    status["source"] = {"doi": "10.5281/zenodo.7"}
    api.add("fish", status, spec={"metadata": {"title": "Fish", "license": "cc0-1.0"}})

    done = run("fish", "--metadata", "Croissant", "--metadata", "RoCrate", "--to", tmp_path / "out")

    assert done.exit_code == 0, done.output
    assert plane.read_text().split()[-3:] == ["-", str(tmp_path / "out"), "described"]
    assert json.loads((tmp_path / "said").read_text()) == {
        "documents": ["Croissant", "RoCrate"],
        "metadata": {
            "title": "Fish",
            "license": "CC0-1.0",
            "related": [{"identifier": "10.5281/zenodo.7", "relation": "IsDerivedFrom", "kind": "Dataset"}],
        },
        "dataset": "default/fish",
        "made": "2026-11-29",
    }
    assert "images.csv, annotations.csv, croissant.json, ro-crate-metadata.json" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(("doi", "told"), [("10.5281/zenodo.8", "10.5281/zenodo.8"), ("10.5072/zenodo.8", None)])
def test_documents_have_the_doi_under_which_the_version_is_published(
    api: ApiServer, status: dict[str, Any], plane: Path, tmp_path: Path, doi: str, told: str | None
) -> None:
    python = tmp_path / "environments/pipelines/bin/python"
    python.write_text(python.read_text() + f"cat >{tmp_path}/said\n")
    status["versions"][0]["doi"] = doi
    api.add("fish", status, spec={"metadata": {"title": "Fish"}})

    assert run("fish", "--metadata", "DataCite", "--to", tmp_path / "out").exit_code == 0

    assert json.loads((tmp_path / "said").read_text()).get("doi") == told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Word", "there is no such document; allowed are Ifdo, Croissant"),
        ("Croissant", "spec.metadata.license: Value error, 'ours' is not a licence"),
    ],
    ids=["document", "licence"],
)
def test_metadata_that_cannot_be_written_is_one_line(
    api: ApiServer, status: dict[str, Any], plane: Path, tmp_path: Path, name: str, words: str
) -> None:
    api.add("fish", status, spec={"metadata": {"license": "ours"}})

    done = run("fish", "--metadata", name, "--to", tmp_path / "out")

    assert done.exit_code == 1
    assert words in done.stderr
