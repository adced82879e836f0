"""YOLO training through ultralytics: history, resumption, refusals, and no use of the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ultralytics.data.build import build_dataloader
from ultralytics.nn.tasks import ClassificationModel, DetectionModel
from ultralytics.utils import nms

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import YOLOV8, YOLOV8_CLS
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.sandbox import MEBIBYTE
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.tasks.detection import Detections
from pelagos_pipelines.training import distributed, yolov8, yolov8_sharing, yolov8_trainer
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import make_request, make_version


class KilledError(Exception):
    """Raised where the process would die."""


def killed(_: TrainingHistory) -> None:
    raise KilledError


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("shapes"), (6, 3, 3), Task.DETECTION)


def make_job(folder: Path, request: TrainingRequest, start: Path | None = None) -> tuple[Job, TrainingHistory]:
    folder.mkdir(exist_ok=True)
    return Job(request, ground_truth.read(request), folder, start), TrainingHistory(
        folder / "history.json", Tracker("", "")
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, version: tuple[str, str]) -> tuple[Job, TrainingHistory]:
    """A finished training of one epoch, for tests that only look at what it left."""
    job, history = make_job(tmp_path_factory.mktemp("trained"), make_request("yolov8n", *version, seed=7))
    yolov8.FAMILY.train(job, history)
    return job, history


def test_an_epoch_leaves_history_a_checkpoint_and_predictions(trained: tuple[Job, TrainingHistory]) -> None:
    job, history = trained
    (epoch,) = history.epochs
    assert {"train/loss", "train/box", "train/cls", "train/dfl"} <= epoch.metrics.keys()
    assert {"validation/loss", "validation/mAP50", "validation/mAP50-95", "validation/recall"} <= epoch.metrics.keys()
    image = job.truth.samples("test")[0].pixels()
    (found,) = yolov8.FAMILY.predict(job.best, [image], Thresholds(confidence=0.0001))
    assert isinstance(found, Detections)
    assert (found.width, found.height) == (96, 72)


def test_validation_reports_as_many_detections_as_the_request_says(tmp_path: Path, version: tuple[str, str]) -> None:
    """Whatever the data hold: ultralytics treats 300 as its default and raises it."""
    seen = []
    request = make_request("yolov8n", *version, evaluation={"maxDetections": 2})
    job, _ = make_job(tmp_path, request)
    history = TrainingHistory(tmp_path / "history.json", Tracker("", ""))
    trainer = yolov8_trainer.Trainer(yolov8._arguments(job), job, history, None, None)
    trainer.add_callback("on_val_end", lambda validator: seen.append(validator.args.max_det))
    trainer.add_callback("on_val_batch_end", lambda validator: seen.append(validator.args.max_det))
    trainer.train()
    assert set(seen) == {2}


def test_slow_suppression_leaves_out_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10**6, 100))
    monkeypatch.setattr("ultralytics.utils.nms.time.time", lambda: next(clock))
    raw = torch.zeros(3, 5, 4)
    raw[:, 2:4], raw[:, 4] = 10, 0.9
    assert [len(found) for found in nms.non_max_suppression(raw, 0.25, 0.7)] == [1, 1, 1]


def test_a_prediction_that_leaves_some_out_says_so(trained: tuple[Job, TrainingHistory]) -> None:
    image = trained[0].truth.samples("test")[0].pixels()
    (all_,) = yolov8.FAMILY.predict(trained[0].best, [image], Thresholds(confidence=0.0001))
    assert isinstance(all_, Detections)
    for limit, cut in ((len(all_.scores), False), (len(all_.scores) - 1, True)):
        (found,) = yolov8.FAMILY.predict(trained[0].best, [image], Thresholds(confidence=0.0001, max_detections=limit))
        assert isinstance(found, Detections)
        assert (len(found.scores), found.cut) == (limit, cut)


def test_mosaic_is_closed_before_the_end(tmp_path: Path, version: tuple[str, str]) -> None:
    request = make_request("yolov8n", *version, epochs=10, mosaic=True, imageSize=32, batchSize=3)
    arguments = yolov8._arguments(make_job(tmp_path, request)[0])
    assert (arguments["mosaic"], arguments["close_mosaic"]) == (1.0, 1)
    request = make_request("yolov8n", *version, mosaic=True)
    job, history = make_job(tmp_path / "job", request)
    yolov8.FAMILY.train(job, history)
    assert len(history.epochs) == 1


def test_the_same_seed_gives_the_same_training(
    tmp_path: Path, version: tuple[str, str], trained: tuple[Job, TrainingHistory]
) -> None:
    job, history = make_job(tmp_path, make_request("yolov8n", *version, seed=7))
    yolov8.FAMILY.train(job, history)
    assert [epoch.metrics for epoch in history.epochs] == [epoch.metrics for epoch in trained[1].epochs]


def test_accumulated_gradients_end_with_the_epoch_so_that_it_goes_on_where_it_was(
    tmp_path: Path, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = list[int](), torch.optim.AdamW.step

    def counted(self: torch.optim.AdamW) -> None:
        steps.append(1)
        step(self)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    request = make_request("yolov8n", *version, epochs=2, imageSize=32, batchSize=2, gradientAccumulation=2)
    yolov8.FAMILY.train(*make_job(tmp_path / "whole", request))
    assert len(steps) == 4, "of three batches in an epoch, the first two and the last one"

    monkeypatch.setattr(TrainingHistory, "keep", killed)
    with pytest.raises(KilledError):
        yolov8.FAMILY.train(*make_job(tmp_path / "cut", request))
    monkeypatch.undo()
    yolov8.FAMILY.train(*make_job(tmp_path / "cut", request))
    for name in ("last.pt", "best.pt"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_a_finished_training_is_not_repeated(tmp_path: Path, version: tuple[str, str]) -> None:
    request = make_request("yolov8n", *version, epochs=3, earlyStopping={"patience": 1})
    job, history = make_job(tmp_path, request)
    yolov8.FAMILY.train(job, history)
    written = (tmp_path / "last.pt").stat().st_mtime_ns
    job, again = make_job(tmp_path, request)
    yolov8.FAMILY.train(job, again)
    assert again.epochs == history.epochs
    assert (tmp_path / "last.pt").stat().st_mtime_ns == written


def test_a_loss_that_is_no_number_is_refused(
    tmp_path: Path, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = yolov8_trainer.Trainer.preprocess_batch

    def spoil(self: yolov8_trainer.Trainer, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        spoilt: dict[str, torch.Tensor] = prepare(self, batch)
        spoilt["img"] = spoilt["img"] * float("nan")
        return spoilt

    monkeypatch.setattr(yolov8_trainer.Trainer, "preprocess_batch", spoil)
    with pytest.raises(RefusedError, match=r"became nan in epoch 1, over the images \S+\.png, .* now 0\.002") as caught:
        yolov8.FAMILY.train(*make_job(tmp_path, make_request("yolov8n", *version, epochs=3)))
    assert caught.value.failure.reason is Reason.TRAINING_DIVERGED


def test_a_learning_rate_that_cannot_converge_is_refused(tmp_path: Path, version: tuple[str, str]) -> None:
    with pytest.raises(RefusedError, match="allowed are 0 to 1") as caught:
        yolov8.FAMILY.train(*make_job(tmp_path, make_request("yolov8n", *version, learningRate="5")))
    assert caught.value.failure.field == "hyperparameters.learningRate"


def test_exhausted_memory_is_refused_instead_of_changing_the_batch(
    tmp_path: Path, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object) -> None:
        torch.empty(2**60)

    def like_an_accelerator(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    for number, failure in enumerate((exhaust, like_an_accelerator)):
        monkeypatch.setattr(yolov8_trainer.Trainer, "preprocess_batch", failure)
        with pytest.raises(RefusedError, match="batchSize 4 and imageSize 64") as caught:
            yolov8.FAMILY.train(*make_job(tmp_path / str(number), make_request("yolov8n", *version)))
        assert caught.value.failure.reason is Reason.OUT_OF_MEMORY


def test_it_starts_from_a_checkpoint_with_other_classes(tmp_path: Path, version: tuple[str, str]) -> None:
    start = tmp_path / "start.pt"
    donor = DetectionModel("yolov8n.yaml", nc=80, verbose=False)
    torch.save({"epoch": -1, "model": donor, "train_args": {}}, start)
    job, _ = make_job(tmp_path / "job", make_request("yolov8n", *version), start)
    found = yolov8._start(job)
    assert torch.equal(found["model.0.conv.weight"], donor.state_dict()["model.0.conv.weight"])
    assert "model.22.cv3.0.2.weight" not in found, "the classification branch depends on the classes"


def test_a_checkpoint_of_another_size_is_refused(tmp_path: Path, version: tuple[str, str]) -> None:
    start = tmp_path / "start.pt"
    torch.save({"epoch": -1, "model": DetectionModel("yolov8s.yaml", nc=2, verbose=False)}, start)
    with pytest.raises(RefusedError, match="not one of yolov8n") as caught:
        yolov8.FAMILY.train(*make_job(tmp_path / "job", make_request("yolov8n", *version), start))
    assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID


@pytest.mark.parametrize("architecture", [*YOLOV8.architectures, *YOLOV8_CLS.architectures])
def test_checkpoints_of_every_size_are_below_the_usual_ceiling(architecture: str) -> None:
    """Counts the weights and two optimizer moments in single precision, which is more than ultralytics keeps."""
    model = (ClassificationModel if architecture.endswith("-cls") else DetectionModel)(f"{architecture}.yaml", nc=80)
    held = sum(tensor.numel() * 4 for tensor in model.state_dict().values())

    assert 3 * held < Ceilings().checkpoint_mebibytes * MEBIBYTE


@pytest.mark.parametrize(("images", "size"), [(1, 1), (1, 4), (2, 1), (3, 1), (5, 4), (6, 4), (8, 4)])
def test_at_32_pixels_no_batch_has_a_single_image(images: int, size: int) -> None:
    loader = build_dataloader(list(range(images)), size, workers=0)
    yolov8_sharing.take_part(loader, distributed.ALONE, 2)
    shown = list(loader.batch_sampler.sampler)
    assert [len(batch) > 1 for batch in shown] == [True] * len(loader)
    assert {index for batch in shown for index in batch} == set(range(images))
    assert sum(map(len, shown)) - images <= 1
