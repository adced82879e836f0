"""The loop that families train in: targets of any structure, losses of several parts, and what it asks of a learner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pelagos_contract.tasks import Task
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.training import checkpoints, distributed, loop, schedules
from training.finder import Family, Finder, FinderLearner
from training.shapes import make_request, make_truth
from training.test_classifiers import make_job


class KilledError(Exception):
    """Ends a training in the middle."""


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    return make_truth(tmp_path_factory.mktemp("boxes"), (6, 3, 2), Task.DETECTION)


def test_a_network_with_targets_and_losses_by_name_learns(tmp_path: Path, truth: GroundTruth) -> None:
    job, history = make_job(tmp_path / "job", truth, make_request("yolov8n", epochs=6, learningRate="0.01"))

    best = loop.train(Family(), job, history)

    first, last = history.epochs[0].metrics, history.epochs[-1].metrics
    assert last["train/loss"] < first["train/loss"]
    assert last["train/box"] + last["train/class"] == pytest.approx(last["train/loss"], rel=1e-5)
    assert best == min(history.epochs, key=lambda row: row.metrics["validation/loss"]).number
    assert torch.load(job.best, weights_only=True)["labels"] == ["disc", "square"]


@pytest.mark.parametrize("accumulation", [None, 2])
def test_it_goes_on_where_it_was(
    accumulation: int | None, tmp_path: Path, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request("yolov8n", epochs=3, batchSize=2, gradientAccumulation=accumulation)
    loop.train(Family(), *make_job(tmp_path / "whole", truth, request))
    save = checkpoints.save_atomically

    def saved(content: Any, path: Path) -> None:
        save(content, path)
        if path.name == "last.pt" and content["epoch"] == 2:
            raise KilledError

    monkeypatch.setattr(checkpoints, "save_atomically", saved)
    with pytest.raises(KilledError):
        loop.train(Family(), *make_job(tmp_path / "cut", truth, request))
    monkeypatch.undo()
    loop.train(Family(), *make_job(tmp_path / "cut", truth, request))

    for name in ("last.pt", "best.pt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_batches_whose_gradients_are_accumulated_are_worth_one_of_as_many_images(
    tmp_path: Path, truth: GroundTruth
) -> None:
    found = []
    for name, size, every in (("one", 6, 1), ("three", 2, 3)):
        request = make_request("yolov8n", optimizer="SGD", batchSize=size, gradientAccumulation=every)
        job, history = make_job(tmp_path / name, truth, request)
        training = loop.Training(job, history, FinderLearner(job))
        model: Any = training._state.model
        model.body[1] = nn.Identity()  # the only layer that mixes the images of a batch
        loss = training._train_epoch(1)["train/loss"]
        found.append((loss, nn.utils.parameters_to_vector(model.parameters()).detach()))

    (whole, weights), (parts, accumulated) = found
    assert parts == pytest.approx(whole, rel=1e-6)
    assert torch.allclose(accumulated, weights, atol=1e-7)


def test_an_epoch_ends_with_a_step_of_the_batches_that_are_left(
    tmp_path: Path, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = list[float](), torch.optim.AdamW.step

    def counted(self: torch.optim.AdamW) -> None:
        steps.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    request = make_request("yolov8n", batchSize=2, gradientAccumulation=2, learningRateSchedule="Linear")

    loop.train(Family(), *make_job(tmp_path, truth, request))

    rates = [schedules.rate(request.hyperparameters, batch / 3) for batch in (0, 2)]
    assert steps == rates, "of three batches, the first two and the last one"


def test_gradients_are_cut_to_the_norm_that_a_learner_allows(tmp_path: Path, truth: GroundTruth) -> None:
    request = make_request("yolov8n", optimizer="SGD", weightDecay="0", batchSize=6, learningRate="100")
    moved = []
    for allowed in (1e-2, 1e-3):
        job, history = make_job(tmp_path / str(allowed), truth, request)
        training = loop.Training(job, history, FinderLearner(job, allowed))
        before = nn.utils.parameters_to_vector(training._state.model.parameters()).detach().clone()
        training._train_epoch(1)
        after = nn.utils.parameters_to_vector(training._state.model.parameters()).detach()
        moved.append(float((after - before).norm()))
    assert moved[0] == pytest.approx(10 * moved[1], rel=0.01)


def test_weights_to_start_from_are_taken_but_for_the_heads(tmp_path: Path, truth: GroundTruth) -> None:
    donor = Finder()
    donor.class_head = nn.Linear(16, 7)
    torch.save(donor.state_dict(), tmp_path / "start.pt")
    job, history = make_job(tmp_path / "job", truth, make_request("yolov8n", learningRate="0"), tmp_path / "start.pt")

    loop.train(Family(), job, history)

    got = torch.load(job.best, weights_only=True)["model"]
    assert torch.equal(got["body.0.weight"], donor.body[0].weight)
    assert torch.equal(got["box_head.weight"], donor.box_head.weight)
    assert got["class_head.weight"].shape[0] == 2


@pytest.mark.parametrize(("images", "size"), [(1, 4), (1, 1), (2, 1), (5, 4), (9, 4), (17, 16), (16, 16)])
def test_no_batch_has_a_single_image(images: int, size: int) -> None:
    batches = loop._batches(np.arange(images), size)
    assert all(len(batch) > 1 for batch in batches)
    assert sorted(np.concatenate(batches)) == ([0, 0] if images == 1 else list(range(images)))


@pytest.mark.parametrize(("images", "size", "processes"), [(3, 4, 4), (1, 8, 3), (9, 4, 4), (17, 8, 4), (64, 16, 8)])
def test_every_process_has_a_part_of_every_batch(images: int, size: int, processes: int) -> None:
    batches = loop._batches(np.arange(images), size, processes)
    parts = [[distributed.World(rank, processes).part(batch) for rank in range(processes)] for batch in batches]
    assert all(len(part) for batch in parts for part in batch)
    assert [np.concatenate(batch).tolist() for batch in parts] == [batch.tolist() for batch in batches]
    assert set(np.concatenate(batches)) == set(range(images))
    assert max(map(len, batches)) <= max(size, 2 * processes)
