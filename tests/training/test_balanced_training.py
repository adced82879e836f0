"""Trainings show each image as often as the version's plan says, and weight classes as it says. Validation is unaffected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from ultralytics.data.base import BaseDataset

from pelagos_contract.failures import RefusedError
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.preparation.balancing import Plan
from pelagos_pipelines.steps import train as train_step
from pelagos_pipelines.training import checkpoints, classifiers, loop, mobilenet_v3, yolov8, yolov8_trainer
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import make_request, make_truth, make_version

SMALL = "mobilenet_v3_small"
TIMES = (3, 0, 1, 2, 1, 1)
"""How often an epoch shows each of the six training images."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("shapes"), (6, 3, 3), Task.DETECTION)


def repeated(truth: GroundTruth, times: Sequence[int] = TIMES) -> GroundTruth:
    """The truth with repeats, as the plan of a version sets them."""
    samples = truth.samples("train")
    plan = Plan("Oversample", 3, {sample.name: many for sample, many in zip(samples, times, strict=True) if many != 1})
    shown = tuple(replace(sample, repeats=many) for sample, many in zip(samples, times, strict=True))
    return replace(truth, by_split={**truth.by_split, "train": shown}, balance=plan)


def weighed(truth: GroundTruth, *weights: float) -> GroundTruth:
    return replace(truth, balance=Plan("ClassWeights", 3, {}, weights))


def make_job(folder: Path, truth: GroundTruth, request: TrainingRequest) -> tuple[Job, TrainingHistory]:
    folder.mkdir(exist_ok=True)
    return Job(request, truth, folder, None), TrainingHistory(folder / "history.json", Tracker("", ""))


class KilledError(Exception):
    """Raised where the process would die."""


def fits(dataset: Any, in_memory: bool) -> bool:
    """Replaces ultralytics' check of free memory by a fixed answer."""
    dataset.cache = "ram" if in_memory else None
    return in_memory


def epochs_of_detector(
    job: Job, history: TrainingHistory, monkeypatch: pytest.MonkeyPatch, last: int = 99
) -> list[list[str]]:
    """The images of each epoch in order, recorded when the epoch reaches a checkpoint."""
    seen: list[list[str]] = []
    prepare, begin = yolov8_trainer.Trainer.preprocess_batch, yolov8_trainer.Trainer._seed_epoch
    save = checkpoints.save_atomically

    def note(self: Any, batch: dict[str, Any]) -> Any:
        seen[-1] += batch["im_file"]
        return prepare(self, batch)

    def begun(self: Any) -> None:
        seen.append([])
        begin(self)

    def saved(content: Any, path: Path) -> None:
        save(content, path)
        if path.name == "last.pt" and content["epoch"] == last:
            raise KilledError

    # If all images fit in memory, the loader itself has no state. Test the harder case.
    monkeypatch.setattr(BaseDataset, "check_cache_ram", lambda self, safety_margin=0.5: fits(self, False))
    monkeypatch.setattr(yolov8_trainer.Trainer, "preprocess_batch", note)
    monkeypatch.setattr(yolov8_trainer.Trainer, "_seed_epoch", begun)
    monkeypatch.setattr(checkpoints, "save_atomically", saved)
    try:
        yolov8.FAMILY.train(job, history)
    except KilledError:
        pass
    finally:
        monkeypatch.undo()
    return seen


def test_an_epoch_of_the_detector_shows_what_is_planned_and_goes_on_where_it_was(
    tmp_path: Path, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request("yolov8n", *version, epochs=2, imageSize=32, mosaic=True)
    truth = repeated(ground_truth.read(request))

    whole = epochs_of_detector(*make_job(tmp_path / "whole", truth, request), monkeypatch)
    first = epochs_of_detector(*make_job(tmp_path / "cut", truth, request), monkeypatch, last=1)
    rest = epochs_of_detector(*make_job(tmp_path / "cut", truth, request), monkeypatch)

    names = [sample.name for sample in truth.samples("train")]
    want = Counter({name: many for name, many in zip(names, TIMES, strict=True) if many})
    assert [Counter(one) for one in whole] == [want, want]
    assert whole[0] != whole[1], "each epoch has an order of its own"
    assert (len(first), len(rest)) == (1, 1)
    assert first + rest == whole, "no image is shown again, none is missed"
    for name in ("last.pt", "best.pt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "read when asked for"])
def test_mosaics_choose_among_what_is_shown(
    tmp_path: Path, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """A mosaic draws its three other images from the whole dataset: repeats count, and images that are left out never appear."""
    monkeypatch.setattr(BaseDataset, "check_cache_ram", lambda self, safety_margin=0.5: fits(self, in_memory))
    request = make_request("yolov8n", *version)
    job, history = make_job(tmp_path / "job", repeated(ground_truth.read(request)), request)
    trainer = yolov8_trainer.Trainer(yolov8._arguments(job), job, history, None, None)
    trainer.model = SimpleNamespace(stride=torch.tensor([32.0]))

    dataset = trainer.build_dataset(trainer.data["train"], "train", 4)

    files = [str(sample.file) for sample in job.truth.samples("train")]
    assert dataset.im_files == [file for file, many in zip(files, TIMES, strict=True) for _ in range(many)]
    assert len(dataset) == 8
    images = [dataset.load_image(index)[0] for index in range(8)]
    assert np.array_equal(images[0], images[2])
    assert not np.array_equal(images[2], images[3])


def test_repeats_are_never_those_of_other_images() -> None:
    dataset: Any = SimpleNamespace(ni=5)

    with pytest.raises(RefusedError, match="ultralytics reads 5 of 6 training images"):
        yolov8_trainer.repeat(dataset, TIMES)


def test_the_validation_of_the_detector_is_as_it_is(tmp_path: Path, version: tuple[str, str]) -> None:
    request = make_request("yolov8n", *version)
    job, history = make_job(tmp_path / "job", repeated(ground_truth.read(request)), request)
    trainer = yolov8_trainer.Trainer(yolov8._arguments(job), job, history, None, None)
    trainer.model = SimpleNamespace(stride=torch.tensor([32.0]))

    assert len(trainer.build_dataset(trainer.data["val"], "val", 4)) == 3


def losses(weights: tuple[float, ...] | None, folder: Path, version: tuple[str, str]) -> tuple[float, float, float]:
    """Losses of one batch: classification and boxes by the trained model, classification by the validated (EMA) model."""
    request = make_request("yolov8n", *version, batchSize=6, seed=3)
    truth = ground_truth.read(request)
    job, history = make_job(folder, truth if weights is None else weighed(truth, *weights), request)
    trainer = yolov8_trainer.Trainer(yolov8._arguments(job), job, history, None, None)
    trainer._setup_train()
    trainer.epoch = 0
    trainer._seed_epoch()
    batch = trainer.preprocess_batch(next(iter(trainer.train_loader)))
    trainer.model.eval()
    trainer.ema.update_attr(trainer.model, include=["names", "class_weights"])
    trainer.ema.ema.args = trainer.model.args
    with torch.no_grad():
        trained, validated = (model.loss(batch)[1] for model in (trainer.model, trainer.ema.ema))
    return float(trained["cls_loss"]), float(trained["box_loss"]), float(validated["cls_loss"])


def test_weights_multiply_what_the_detector_gets_wrong_of_a_class_by_exactly_as_much(
    tmp_path: Path, version: tuple[str, str]
) -> None:
    usual, first, second, all_ = (
        losses(weights, tmp_path / name, version)
        for name, weights in (("usual", None), ("first", (0.25, 1.0)), ("second", (1.0, 1.75)), ("all", (0.25, 1.75)))
    )

    # The errors of the two classes add up. How far each weight moves the total gives the part of its class.
    of_first, of_second = (usual[0] - first[0]) / 0.75, (second[0] - usual[0]) / 0.75
    assert of_first + of_second == pytest.approx(usual[0], rel=1e-5)
    assert all_[0] == pytest.approx(0.25 * of_first + 1.75 * of_second, rel=1e-5)
    assert {one[1] for one in (first, second, all_)} == {usual[1]}, "boxes are judged as before"
    assert {one[2] for one in (first, second, all_)} == {usual[2]}, "and so is the validation"


def test_an_epoch_of_the_classifier_shows_what_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = make_truth(tmp_path / "shapes", (6, 2, 2), Task.CLASSIFICATION)
    job, history = make_job(tmp_path / "job", repeated(truth), make_request(SMALL, epochs=2, imageSize=32))
    seen: list[list[int]] = [[]]
    batch = classifiers.DecodedImages.batch
    learner: Any = mobilenet_v3.FAMILY.learner(job)
    training = loop.Training(job, history, learner)

    def note(self: Any, indices: Any, *others: Any) -> Any:
        if self is learner._train:
            seen[-1] += map(int, indices)
        return batch(self, indices, *others)

    monkeypatch.setattr(classifiers.DecodedImages, "batch", note)
    for epoch in (1, 2, 1):
        training._train_epoch(epoch)
        seen.append([])

    kept = [many for many in TIMES if many]
    assert [Counter(one) for one in seen[:3]] == [Counter(dict(enumerate(kept)))] * 3
    assert seen[0] == seen[2] != seen[1], "by the seed and the number of the epoch alone"
    assert len(learner._validation) == 2


def test_weights_multiply_what_the_classifier_gets_wrong_of_a_class_by_exactly_as_much(
    tmp_path: Path,
) -> None:
    """One batch per epoch, and weights that do not change within it: the loss is the weighted mean of the images' losses."""
    truth = make_truth(tmp_path / "shapes", (6, 2, 2), Task.CLASSIFICATION)
    request = make_request(SMALL, imageSize=32, batchSize=6, learningRate="0", weightDecay="0")
    found = {}
    for name, weights in (("usual", None), ("weighed", (0.25, 1.75))):
        known = truth if weights is None else weighed(truth, *weights)
        job, history = make_job(tmp_path / name, known, request)
        learner: Any = mobilenet_v3.FAMILY.learner(job)
        training = loop.Training(job, history, learner)
        model: Any = training._state.model
        model.classifier[2].p = 0.0  # dropout is random
        found[name] = training._train_epoch(1)["train/loss"]

    model.train()
    generator = np.random.default_rng([0, 1])
    torch.manual_seed(int(generator.integers(2**31)))
    images, labels = learner._train.batch(generator.permutation(6), torch.device("cpu"))
    with torch.no_grad():
        each = functional.cross_entropy(model(classifiers._augmented(images)), labels, reduction="none")
    weights = torch.tensor((0.25, 1.75))[labels]
    assert found["weighed"] == pytest.approx(float((weights * each).sum() / weights.sum()), rel=1e-5)
    assert found["usual"] == pytest.approx(float(each.mean()), rel=1e-5)
    assert found["weighed"] != pytest.approx(found["usual"], rel=1e-3)


def test_parts_of_a_batch_count_by_the_weights_of_their_classes(tmp_path: Path) -> None:
    """As when processes share a batch: the parts' means, weighted by what each averages over, give the mean of the whole."""
    truth = weighed(make_truth(tmp_path / "shapes", (6, 2, 2), Task.CLASSIFICATION), 0.25, 1.75)
    job, history = make_job(tmp_path / "job", truth, make_request(SMALL, imageSize=32))
    learner: Any = mobilenet_v3.FAMILY.learner(job)
    model = loop.Training(job, history, learner)._state.model.eval()

    whole, *parts = ([0, 1, 2, 3, 4], [0, 1, 2], [3, 4])
    with torch.no_grad():
        losses = {len(part): float(learner.loss(model, learner.batch(part, None))) for part in (whole, *parts)}
    shared = sum(losses[len(part)] * learner.weight(part) / learner.weight(whole) for part in parts)
    assert shared == pytest.approx(losses[5], rel=1e-5)
    assert [learner.weight([index]) for index in whole] == [
        (0.25, 1.75)[label] for label in learner._train.labels[whole]
    ]


def test_a_balanced_classifier_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = repeated(make_truth(tmp_path / "shapes", (6, 2, 2), Task.CLASSIFICATION))
    request = make_request(SMALL, epochs=2, imageSize=32)
    mobilenet_v3.FAMILY.train(*make_job(tmp_path / "whole", truth, request))
    save = checkpoints.save_atomically

    def saved(content: Any, path: Path) -> None:
        save(content, path)
        if path.name == "last.pt":
            raise KilledError

    monkeypatch.setattr(checkpoints, "save_atomically", saved)
    with pytest.raises(KilledError):
        mobilenet_v3.FAMILY.train(*make_job(tmp_path / "cut", truth, request))
    monkeypatch.undo()
    mobilenet_v3.FAMILY.train(*make_job(tmp_path / "cut", truth, request))

    for name in ("last.pt", "best.pt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_what_is_done_goes_on_record(tmp_path: Path) -> None:
    truth = make_truth(tmp_path, (6, 2, 2), Task.CLASSIFICATION)

    def applied(known: GroundTruth) -> dict[str, str]:
        found = train_step._applied(known, mobilenet_v3.FAMILY, make_request(SMALL).hyperparameters)
        return {name: value for name, value in found.items() if name.startswith("balance.")}

    assert applied(truth) == {}
    assert applied(repeated(truth)) == {
        "balance.strategy": "Oversample",
        "balance.target": "3",
        "balance.images": "6",
        "balance.shown": "8",
        "balance.leftOut": "1",
        "balance.mostRepeats": "3",
    }
    assert applied(weighed(truth, 0.5, 1.5))["balance.weights"] == "disc 0.5, square 1.5"


def test_a_family_that_does_not_balance_is_refused(tmp_path: Path) -> None:
    known = repeated(make_truth(tmp_path, (6, 2, 2), Task.CLASSIFICATION))
    other: Any = SimpleNamespace(DESCRIPTION=replace(mobilenet_v3.FAMILY.DESCRIPTION, balances=False))

    train_step._require_heeded(known, mobilenet_v3.FAMILY)
    with pytest.raises(RefusedError, match="declares balance, which the family MobileNetV3 does not heed"):
        train_step._require_heeded(known, other)
