"""Trainings of ultralytics' networks by two processes: as by one, and resumed to the same bytes."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pelagos_contract.families import by_architecture
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.training import processes
from pelagos_pipelines.training.families import Job, family_of
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training import forked
from training.plain import share_without_cache
from training.shapes import make_request, make_version

UNALTERED = {
    "flipHorizontal": False,
    "scale": 0,
    "translate": 0,
    "color": {"hue": 0, "saturation": 0, "brightness": 0},
}
BOUND = 1e-5
"""How far weights may differ from those of one process; 7e-6 is measured, in normalisation statistics."""
BOUND_OF_METRICS = 3e-4
"""The same for figures: the smallest parts of losses, such as the angles', are differences of larger numbers."""


@pytest.fixture(scope="module", autouse=True)
def forking() -> Iterator[None]:
    with forked.starting():
        yield


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def train(folder: Path, request: TrainingRequest) -> TrainingHistory:
    folder.mkdir()
    history = TrainingHistory(folder / "history.json", Tracker("", ""))
    family_of(request).train(Job(request, ground_truth.read(request), folder, None), history)
    return history


@pytest.mark.parametrize("architecture", ["yolov8n-obb", "yolov8n-seg"])
def test_two_processes_train_as_one_does(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = make_version(
        tmp_path,
        (8, 2, 1),
        by_architecture()[architecture].task,
        augmentation=UNALTERED,
        balance={"strategy": "ClassWeights", "target": 5},
    )
    request = make_request(architecture, *version, epochs=2, batchSize=3, optimizer="SGD")
    one = train(tmp_path / "1", request)
    monkeypatch.setenv(processes.VARIABLE, "2")
    two = train(tmp_path / "2", request)

    weights, shared_weights = (torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in "12")
    for alone, shared in zip(one.epochs, two.epochs, strict=True):
        assert shared.metrics == pytest.approx(alone.metrics, rel=BOUND_OF_METRICS)
    for name, tensor in weights.items():
        assert torch.allclose(shared_weights[name].double(), tensor.double(), rtol=BOUND, atol=BOUND), name


def test_two_processes_go_on_with_the_same_bytes_after_one_has_died(tmp_path: Path) -> None:
    """Without memory for all images, so that a mosaic chooses from what each process has seen."""
    version = make_version(tmp_path, (6, 2, 1), by_architecture()["yolov8n"].task)
    request = make_request("yolov8n", *version, epochs=3, batchSize=3, imageSize=32, mosaic=True)

    def shared(name: str, dies_in_step: int | None = None) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        history = TrainingHistory(tmp_path / name / "history.json", Tracker("", ""))
        job = Job(request, ground_truth.read(request), tmp_path / name, None)
        processes.train(functools.partial(share_without_cache, family_of(request), dies_in_step), job, history, 2)

    shared("whole")
    with pytest.raises(processes.ProcessFailedError, match=signal.SIGKILL.name):
        shared("cut", dies_in_step=4)
    shared("cut")
    for name in ("last.pt", "best.pt"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
