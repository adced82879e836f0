"""``pelagos model import`` and ``pelagos evaluate``: the request to the data plane, its login, and the output for people."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from pelagos_contract.metrics import of_slice
from resource_servers import ApiServer, api

__all__ = ["api"]

DIGEST, VERSION = "ab" * 32, "cd" * 32
IMPORTED: dict[str, Any] = {
    "uri": f"/objects/models/default/imported/{DIGEST}",
    "manifestSha256": DIGEST,
    "onnxSha256": "ef" * 32,
    "model": "theirs",
    "version": "3",
    "run": "9f",
    "imageSize": 640,
    "images": 2,
    "notes": ["its outputs were no probabilities \x1b[31m"],
}
JUDGED: dict[str, Any] = {
    "metrics": {
        "test/mAP50": 0.75,
        "test/mAP50/cod": 0.5,
        "test/mAP50/ray": None,
        "test/recall": 0.25,
        "test/recall-micro": 0.625,
        "test/confidence": 0.31,
    },
    "model": "theirs/3",
    "package": IMPORTED["uri"],
    "images": 7,
    "labels": ["cod", "ray"],
    "task": "Detection",
    "manifestSha256": DIGEST,
    "run": "9f",
    "warnings": ["the model does not know 1 of 2 classes"],
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def plane(api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data plane that records its request and login, and answers with the content of the file ``answer``."""
    python = tmp_path / "environments" / "pipelines" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / "answer").write_text(json.dumps(IMPORTED))
    python.write_text(
        f'#!/bin/sh\ncat >{tmp_path}/asked\necho "$@" "$MLFLOW_TRACKING_TOKEN" >{tmp_path}/program\n'
        f"cat {tmp_path}/answer\n"
    )
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PELAGOS_ENVIRONMENTS", str(tmp_path / "environments"))
    monkeypatch.setenv("PELAGOS_TRACKING_URI", "https://mlflow.example.org")
    monkeypatch.setenv("PELAGOS_TRACKING_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("PELAGOS_OBJECTS_URI", "s3://lab/pelagos")
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("KUBECONFIG", str(shutil.copy(tmp_path / "kubeconfig", tmp_path / "of-a-cluster")))
    return tmp_path


def imported(plane: Path, *more: object, classes: str = "cod,ray") -> Result:
    usual = ("--name", "theirs", "--task", "detection", "--classes", classes, "--images", plane)
    return run("model", "import", plane / "theirs.onnx", *usual, *more)


def asked(plane: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((plane / "asked").read_text())
    return found


def test_a_model_is_handed_to_the_data_plane_and_what_to_apply_is_printed(api: ApiServer, plane: Path) -> None:
    done = imported(plane, "--values", "Bytes", "--image-size", "320", "-n", "reef")

    assert done.exit_code == 0, done.output
    assert asked(plane) == {
        "onnx": str(plane / "theirs.onnx"),
        "name": "theirs",
        "task": "Detection",
        "labels": ["cod", "ray"],
        "images": str(plane),
        "store": "s3://lab/pelagos/models/reef/imported",
        "imageSize": 320,
        "values": "Bytes",
        "tracked": {"uri": "https://mlflow.example.org", "namespace": "reef"},
    }
    assert (plane / "program").read_text().split() == ["-m", "pelagos_pipelines.steps.importing", "secret"]
    assert yaml.safe_load(done.stdout)["spec"]["model"] == {"uri": IMPORTED["uri"], "manifestSha256": DIGEST}
    assert "version 3 of theirs: imported, and not evaluated here; tried on 2 images" in done.stderr
    assert "Note: its outputs were no probabilities" in done.stderr
    assert "\x1b" not in done.output


def test_classes_may_be_lines_of_a_file(api: ApiServer, plane: Path) -> None:
    (plane / "classes.txt").write_text("Salpa thompsoni\n\nraft, of ice\n", encoding="utf-8-sig")

    assert imported(plane, classes=f"@{plane / 'classes.txt'}").exit_code == 0
    assert asked(plane)["labels"] == ["Salpa thompsoni", "raft, of ice"]


def test_a_name_that_holds_the_end_of_a_line_of_old_is_not_two_names(api: ApiServer, plane: Path) -> None:
    (plane / "classes.txt").write_bytes(b"cod\x0bray\r\nsalp\r\n")

    done = imported(plane, classes=f"@{plane / 'classes.txt'}")

    assert (done.exit_code, "text on one line" in done.stderr) == (1, True), done.stderr
    assert not (plane / "asked").exists()


@pytest.mark.parametrize(
    ("more", "classes", "words"),
    [
        (("--task", "Panoptic"), "a", "--task Panoptic: only models for Detection and Classification can be imported"),
        (("--name", "a/b"), "a", "--name 'a/b'"),
        ((), "", "--classes ''"),
        ((), "a,b/c", "--classes 'b/c'"),
        ((), "@none.txt", "--classes @none.txt: none.txt cannot be read"),
        (("--image-size", "8"), "a", "--image-size '8'"),
    ],
)
def test_wrong_options_are_said_before_anything_is_read(
    api: ApiServer, plane: Path, more: tuple[str, ...], classes: str, words: str
) -> None:
    done = imported(plane, *more, "-o", "json", classes=classes)

    assert done.exit_code == 1
    assert words in json.loads(done.stdout)["error"]
    assert not (plane / "asked").exists()


def test_what_the_data_plane_refuses_is_said(api: ApiServer, plane: Path) -> None:
    (plane / "answer").write_text(json.dumps({"error": "it uses the operator Loop"}))

    done = imported(plane)

    assert done.exit_code == 1
    assert "Error: it uses the operator Loop" in done.stderr


def test_without_mlflow_nothing_is_imported(api: ApiServer, plane: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PELAGOS_TRACKING_URI")

    assert "set PELAGOS_TRACKING_URI" in imported(plane).stderr
    assert not (plane / "asked").exists()


@pytest.fixture
def fish(api: ApiServer, plane: Path) -> str:
    uri = plane / "versions" / VERSION
    uri.mkdir(parents=True)
    api.add("fish", {"uri": str(uri), "version": f"sha256:{VERSION}", "versions": [{"version": f"sha256:{VERSION}"}]})
    (plane / "answer").write_text(json.dumps(JUDGED))
    return str(uri)


def test_a_registered_model_is_judged_and_its_metrics_are_a_table(api: ApiServer, plane: Path, fish: str) -> None:
    done = run("evaluate", "theirs/3", "--dataset", f"fish@{VERSION[:8]}")

    assert done.exit_code == 0, done.output
    assert asked(plane) == {
        "package": None,
        "manifestSha256": None,
        "model": "theirs/3",
        "packages": "s3://lab/pelagos/models/default",
        "dataset": "fish",
        "datasetUri": fish,
        "datasetVersion": f"sha256:{VERSION}",
        "slices": [],
        "tracked": {"uri": "https://mlflow.example.org", "namespace": "default"},
    }
    head, every, micro, weighted, cod, ray, below = (line.split() for line in done.stdout.strip().splitlines())
    assert head[:4] == ["class", "mAP50", "mAP75", "mAP50-95"]
    assert every[:2] == ["all", "0.750"]
    assert (micro[:2], micro[-3]) == (["all,", "micro"], "0.625"), "below recall"
    assert (weighted[:2], weighted[-3]) == (["all,", "weighted"], "-")
    assert cod[:2] == ["cod", "0.500"]
    assert ray[:2] == ["ray", "-"]
    assert below == ["confidence", "0.310"]
    assert "theirs/3 on the 7 images of the test split of default/fish" in done.stderr
    assert "Note: the model does not know 1 of 2 classes" in done.stderr


def test_slices_are_asked_for_and_shown_with_how_sure_they_are(api: ApiServer, plane: Path, fish: str) -> None:
    figures = {"reef": 0.4, "bank [b]": 0.25, None: None}
    metrics = {of_slice("site", value, "mAP50"): figure for value, figure in figures.items()}
    each = [{"value": value, "images": 3, "objects": 9, "by": "image", "groups": 3} for value in figures]
    judged: dict[str, Any] = JUDGED | {
        "metrics": JUDGED["metrics"] | metrics,
        "intervals": {
            "test/mAP50": {"low": 0.6, "high": 0.81234},
            "slice/site/reef/mAP50": {"low": 0.3, "high": 0.5},
        },
        "resampling": {"by": "site", "groups": 6, "level": 0.95, "samples": 2000, "why": None},
        "slices": [{"field": "site", "metric": "mAP50", "worst": "bank [b]", "slices": each}],
    }
    (plane / "answer").write_text(json.dumps(judged))

    done = run("evaluate", "theirs/3", "--dataset", "fish", "--slice", "site", "--slice", "site")

    assert asked(plane)["slices"] == ["site"]
    assert "mAP50 0.600–0.812, by 2000 draws of 6 groups (site)" in done.stderr
    rows = [line.split() for line in done.stdout.strip().splitlines()[-3:]]
    assert rows == [
        ["site", "bank", "[b]", "3", "0.250", "-"],
        ["site", "reef", "3", "0.400", "0.300–0.500"],
        ["site", "not", "known", "3", "-", "-"],
    ]
    why = {"by": "site", "groups": 2, "level": 0.95, "samples": 0, "why": "there are 2 different values of site"}
    (plane / "answer").write_text(json.dumps(JUDGED | {"resampling": why}))
    assert (
        "no intervals: there are 2 different values of site" in run("evaluate", "theirs/3", "--dataset", "fish").stderr
    )


def test_a_package_and_the_model_of_a_training_run_are_judged_by_their_digests(
    api: ApiServer, plane: Path, fish: str
) -> None:
    done = run("evaluate", f"s3://lab/{DIGEST}", "--dataset", "fish", "--sha256", DIGEST, "-o", "json")

    assert json.loads(done.stdout)["datasetVersion"] == f"sha256:{VERSION}"
    assert (asked(plane)["package"], asked(plane)["manifestSha256"]) == (f"s3://lab/{DIGEST}", DIGEST)

    api.add("detector", {"model": {"uri": "/models/1", "manifestSha256": "0" * 64}}, kind="TrainingRun")
    assert run("evaluate", "trainingrun/detector", "--dataset", "fish").exit_code == 0
    assert (asked(plane)["package"], asked(plane)["manifestSha256"]) == ("/models/1", "0" * 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("theirs", "--dataset", "cats"), "Dataset default/cats not found"),
        (("theirs", "--dataset", "fish@ff"), "0 versions of default/fish begin with that"),
        (
            ("theirs", "--dataset", "fish", "--slice", "sight"),
            "--slice must name fields by which images are grouped: site,",
        ),
        (("/models/1", "--dataset", "fish", "--sha256", "x"), "--sha256 x: must be 64 hexadecimal digits"),
        (("trainingrun/new", "--dataset", "fish"), "TrainingRun default/new has no model yet"),
    ],
)
def test_what_cannot_be_judged_is_said(
    api: ApiServer, plane: Path, fish: str, arguments: tuple[str, ...], words: str
) -> None:
    api.add("new", {}, kind="TrainingRun")

    done = run("evaluate", *arguments)

    assert done.exit_code == 1
    assert words in done.stderr
    assert not (plane / "asked").exists()
