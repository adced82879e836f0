"""A step that fails writes its last message where Kubernetes looks for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_pipelines.steps import runs
from pelagos_pipelines.steps.train import train


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The termination log of a container."""
    file = tmp_path / "termination-log"
    file.touch()
    monkeypatch.setattr(runs, "TERMINATION_LOG", file)
    return file


def fail(report: Path, error: Exception) -> None:
    with runs.reporting(str(report), report.parent / "scratch"):
        raise error


def test_a_crash_is_told_in_one_line_that_kubernetes_can_keep(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no loss"):
        fail(tmp_path / "report", ValueError("no loss" + "!" * 9000))

    assert log.read_text().startswith("ValueError: no loss!")
    assert log.stat().st_size == runs.LONGEST_LAST_WORDS


def test_a_refusal_is_told_there_too_beside_its_report(log: Path, tmp_path: Path) -> None:
    refused = RefusedError(Reason.DISK_FULL, "no space is left", "spec.source")
    with pytest.raises(RefusedError):
        fail(tmp_path / "report", refused)

    assert "no space is left" in log.read_text()
    assert (tmp_path / "report" / "failure.json").exists()


def test_what_kubernetes_keeps_stays_empty_after_success(log: Path, tmp_path: Path) -> None:
    with runs.reporting(str(tmp_path / "report"), tmp_path / "scratch"):
        pass

    assert log.read_text() == ""


def test_outside_of_a_container_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TERMINATION_LOG", tmp_path / "none" / "termination-log")
    with pytest.raises(ValueError, match="no loss"):
        fail(tmp_path / "report", ValueError("no loss"))

    assert not (tmp_path / "none").exists()


def test_an_image_of_another_version_than_the_operator_says_so(log: Path, tmp_path: Path) -> None:
    asked = {
        "dataset": {"name": "d", "version": "v", "uri": "u"},
        "model": {"architecture": "yolov99"},
        "task": "Detection",
    }
    data, store, report, workspace = (str(tmp_path / name) for name in ("data", "store", "report", "workspace"))
    with pytest.raises(RefusedError, match="does not understand"):
        train(json.dumps(asked), data, store, report, workspace, "", "")

    failure = Failure.model_validate_json((tmp_path / "report" / "failure.json").read_bytes())
    assert failure.reason is Reason.REQUEST_NOT_UNDERSTOOD
    assert "(model.architecture: Input should be 'yolov8n', " in failure.message
    assert "PELAGOS_TRAINER_IMAGE" in log.read_text()
