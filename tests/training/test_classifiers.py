"""Training of classifiers: it learns, resumes after an interruption as if there had been none, and stops when it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.serving import predictions
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.training import checkpoints, classifiers, mobilenet_v3, torchvision_networks
from pelagos_pipelines.training.families import FAMILIES, Job
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import make_request, make_truth

SMALL = "mobilenet_v3_small"


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    return make_truth(tmp_path_factory.mktemp("shapes"), (24, 8, 8), Task.CLASSIFICATION)


def make_job(
    folder: Path, truth: GroundTruth, request: TrainingRequest, start: Path | None = None
) -> tuple[Job, TrainingHistory]:
    folder.mkdir(exist_ok=True)
    return Job(request, truth, folder, start), TrainingHistory(folder / "history.json", Tracker("", ""))


def test_it_learns_to_tell_shapes_apart(tmp_path: Path, truth: GroundTruth) -> None:
    job, history = make_job(tmp_path, truth, make_request(SMALL, epochs=8, imageSize=32, batchSize=6))
    mobilenet_v3.FAMILY.train(job, history)
    images = [sample.pixels() for sample in truth.samples("test")]
    found = list(mobilenet_v3.FAMILY.predict(job.best, images, predictions.Thresholds()))
    guesses = [int(one.probabilities.argmax()) for one in found if isinstance(one, Classification)]
    assert guesses == [int(sample.class_ids[0]) for sample in truth.samples("test")]
    assert history.epochs[-1].metrics["train/loss"] < history.epochs[0].metrics["train/loss"]
    assert {"validation/accuracy", "validation/F1", "validation/loss"} <= history.epochs[0].metrics.keys()


def test_a_finished_training_is_not_repeated(tmp_path: Path, truth: GroundTruth) -> None:
    request = make_request(SMALL, imageSize=32)
    job, history = make_job(tmp_path, truth, request)
    mobilenet_v3.FAMILY.train(job, history)
    written = (job.folder / "last.pt").stat().st_mtime_ns
    job, again = make_job(tmp_path, truth, request)
    mobilenet_v3.FAMILY.train(job, again)
    assert (job.folder / "last.pt").stat().st_mtime_ns == written
    assert again.epochs == history.epochs


def test_it_stops_when_validation_no_longer_improves(tmp_path: Path, truth: GroundTruth) -> None:
    request = make_request(SMALL, epochs=9, imageSize=32, batchSize=12, learningRate="0", earlyStopping={"patience": 2})
    job, history = make_job(tmp_path, truth, request)
    mobilenet_v3.FAMILY.train(job, history)
    fitness = [(row.metrics["validation/F1"], -row.metrics["validation/loss"]) for row in history.epochs]
    assert len(fitness) < 9
    assert fitness.index(max(fitness)) == len(fitness) - 3


def test_a_loss_that_is_no_number_is_refused(tmp_path: Path, truth: GroundTruth) -> None:
    request = make_request(SMALL, epochs=3, imageSize=32, optimizer="SGD", learningRate="1e30")
    job, history = make_job(tmp_path, truth, request)
    with pytest.raises(RefusedError, match=r"lower hyperparameters.learningRate, now 1e30") as caught:
        mobilenet_v3.FAMILY.train(job, history)
    assert caught.value.failure.reason is Reason.TRAINING_DIVERGED


def test_exhausted_memory_is_refused(tmp_path: Path, truth: GroundTruth, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(classifiers, "_augmented", exhaust)
    job, history = make_job(tmp_path, truth, make_request(SMALL, imageSize=32))
    with pytest.raises(RefusedError, match="batchSize 4 and imageSize 32") as caught:
        mobilenet_v3.FAMILY.train(job, history)
    assert caught.value.failure.reason is Reason.OUT_OF_MEMORY


def test_it_starts_from_weights_with_other_classes(tmp_path: Path, truth: GroundTruth) -> None:
    start = tmp_path / "start.pt"
    donor = torchvision_networks.build(SMALL, 7)
    torch.save(donor.state_dict(), start)
    request = make_request(SMALL, imageSize=32, learningRate="0")
    job, history = make_job(tmp_path, truth, request, start)
    mobilenet_v3.FAMILY.train(job, history)
    got = torch.load(job.best, weights_only=True)["model"]
    assert torch.equal(got["features.0.0.weight"], donor.state_dict()["features.0.0.weight"])
    assert got["classifier.3.weight"].shape[0] == 2


def test_weights_of_another_architecture_are_refused(tmp_path: Path, truth: GroundTruth) -> None:
    start = tmp_path / "start.pt"
    torch.save(torchvision_networks.build("mobilenet_v3_large", 2).state_dict(), start)
    job, history = make_job(tmp_path, truth, make_request(SMALL), start)
    with pytest.raises(RefusedError, match=f"not one of {SMALL}") as caught:
        mobilenet_v3.FAMILY.train(job, history)
    assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID


@pytest.mark.parametrize("name", [one.name for one in FAMILIES if one.description.task is Task.CLASSIFICATION])
def test_only_what_depends_on_the_classes_is_left_out_of_weights_to_start_from(name: str) -> None:
    family: Any = FAMILIES.named(name).load()
    if not isinstance(family, classifiers.Classifiers):
        pytest.skip("has a training of its own")
    (architecture, *_), networks = family.DESCRIPTION.architectures, family.networks
    found, wanted = (networks.build(architecture, classes).state_dict() for classes in (7, 2))

    fitting = checkpoints.matching(found, wanted, networks.head, architecture)

    assert wanted.keys() - fitting.keys() == {f"{networks.head}weight", f"{networks.head}bias"}
