"""Families whose losses are means over objects, trained by two processes as by one, whatever each part of a batch shows."""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pelagos_contract.families import by_architecture
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.preparation.balancing import Plan
from pelagos_pipelines.training import loop, processes
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training import forked
from training.plain import Plain
from training.shapes import make_request, make_truth

MASK_RCNN, MASK2FORMER = "maskrcnn_mobilenet_v3_small_fpn", "mask2former_tiny-panoptic"
BOUND = 1e-5
"""How far training losses and weights may differ from those of one process."""
BOUND_OF_STATISTICS = 1e-3
"""The same for batch normalisation's statistics and all that depends on them: the deepest layers see only a handful of values."""


@pytest.fixture(scope="module", autouse=True)
def forking() -> Iterator[None]:
    with forked.starting():
        yield


def make_uneven(folder: Path, architecture: str) -> GroundTruth:
    """Five training images, two of them without an object, and classes of unequal weight."""
    truth = make_truth(folder, (5, 2, 0), by_architecture()[architecture].task)
    train = [
        replace(one, class_ids=one.class_ids[:0], shapes=()) if place in (1, 3) else one
        for place, one in enumerate(truth.samples("train"))
    ]
    weights = (3.0, 0.5, 1.0)[: len(truth.labels)]
    return replace(
        truth, by_split={**truth.by_split, "train": tuple(train)}, balance=Plan("ClassWeights", 3, {}, weights)
    )


def train(
    folder: Path, truth: GroundTruth, request: TrainingRequest, count: int, dies_in_batch: int | None = None
) -> TrainingHistory:
    folder.mkdir(exist_ok=True)
    history = TrainingHistory(folder / "history.json", Tracker("", ""))
    share = functools.partial(loop.share, Plain(request, dies_in_batch))
    processes.train(share, Job(request, truth, folder, None), history, count)
    return history


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "last.pt", weights_only=True)["model"]
    return found


@pytest.mark.parametrize("architecture", [MASK_RCNN, MASK2FORMER])
def test_two_processes_train_as_one_does(architecture: str, tmp_path: Path) -> None:
    """In a batch of two images one process often has no object, and must divide by the number of the other's."""
    truth = make_uneven(tmp_path, architecture)
    request = make_request(architecture, imageSize=64, epochs=2, batchSize=2, optimizer="SGD")
    one, two = (train(tmp_path / str(count), truth, request, count) for count in (1, 2))

    for alone, shared in zip(one.epochs, two.epochs, strict=True):
        for name, value in alone.metrics.items():
            bound = BOUND if name.startswith("train/") else BOUND_OF_STATISTICS
            assert shared.metrics[name] == pytest.approx(value, rel=bound), name
    weights, shared_weights = (weights_in(tmp_path / name) for name in "12")
    for name, tensor in weights.items():
        bound = BOUND_OF_STATISTICS if "running" in name else BOUND
        assert torch.allclose(shared_weights[name].double(), tensor.double(), rtol=bound, atol=bound), name


def test_two_processes_go_on_with_the_same_bytes_after_one_has_died(tmp_path: Path) -> None:
    truth = make_uneven(tmp_path, MASK_RCNN)
    request = make_request(MASK_RCNN, imageSize=32, epochs=2, batchSize=5)
    train(tmp_path / "whole", truth, request, 2)

    with pytest.raises(processes.ProcessFailedError, match=signal.SIGKILL.name):
        train(tmp_path / "cut", truth, request, 2, dies_in_batch=2)
    train(tmp_path / "cut", truth, request, 2)

    for name in ("last.pt", "best.pt"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
