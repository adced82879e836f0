"""What every family must fulfil. Each registered family is trained here, by its smallest architecture, on tiny images.

One training of two epochs, on a dataset that declares all that the family supports; another is cut off after its first
epoch and resumed. The other tests look at what these left, or have trainings refused.
"""

from __future__ import annotations

import io
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pelagos_contract import disk
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import FamilyDescription
from pelagos_contract.search import metrics_of
from pelagos_contract.tasks import TASKS
from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.export import parity, probes
from pelagos_pipelines.serving.predictions import Thresholds
from pelagos_pipelines.serving.predictor import Predictor
from pelagos_pipelines.training import checkpoints
from pelagos_pipelines.training.families import FAMILIES, Family, Job, offered
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.shapes import classes_of, make_request, make_version

THRESHOLDS = Thresholds(confidence=0.0001)


@dataclass(frozen=True)
class Trained:
    """A family, its request, and the folders of a complete training and of one that was cut off and resumed."""

    family: Family
    request: TrainingRequest
    whole: Path
    cut: Path
    full: disk.FullError
    """The error when the cut-off training was resumed on a full disk, before it was resumed again with room."""
    left: dict[str, bytes]
    """The files in the cut-off training's folder after that error."""

    def asked(self, **changes: object) -> TrainingRequest:
        """The request, with other hyperparameters."""
        version = self.request.dataset
        return make_request(
            self.request.model.architecture, version.uri, version.version, **{"imageSize": 32, **changes}
        )


class KilledError(Exception):
    """Raised where the process would die."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def recipe(description: FamilyDescription) -> dict[str, Any]:
    """Everything a dataset may declare for a training, as far as the family supports it."""
    declared: dict[str, Any] = {"preprocessing": {"color": "GrayWorld"}}
    if description.normalizes:
        declared["preprocessing"]["normalization"] = "DatasetStatistics"
    if description.balances:
        declared["balance"] = {"strategy": "Oversample", "target": 8}
    if description.augments:
        declared["augmentation"] = {"rotate": 10, "flipVertical": True}
    return declared


def train(family: Family, request: TrainingRequest, folder: Path, start: Path | None = None) -> int:
    folder.mkdir(exist_ok=True)
    history = TrainingHistory(folder / "history.json", Tracker("", ""))
    return family.train(Job(request, ground_truth.read(request), folder, start), history)


def train_one_epoch_and_die(family: Family, request: TrainingRequest, folder: Path) -> None:
    """Die once the first epoch is in the checkpoint to resume from, before anything else is written."""
    save = checkpoints.save_atomically

    def saved(content: Any, path: Path) -> None:
        save(content, path)
        if path.name == "last.pt":
            raise KilledError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "save_atomically", saved)
        with pytest.raises(KilledError):
            train(family, request, folder)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Limit the size of files, as a nearly full disk would: no checkpoint fits, a history does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module", params=FAMILIES.names)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    family, folder = FAMILIES.named(request.param).load(), tmp_path_factory.mktemp(request.param)
    description = family.DESCRIPTION
    version = make_version(folder, (6, 3, 3), description.task, **recipe(description))
    asked = make_request(description.architectures[0], *version, epochs=2, imageSize=32)
    train(family, asked, folder / "whole")
    train_one_epoch_and_die(family, asked, folder / "cut")
    with pytest.raises(disk.FullError) as caught, files_of_at_most(64 * 1024):
        train(family, asked, folder / "cut")
    left = {path.name: path.read_bytes() for path in (folder / "cut").iterdir() if path.is_file()}
    train(family, asked, folder / "cut")
    return Trained(family, asked, folder / "whole", folder / "cut", caught.value, left)


def test_a_training_that_was_cut_off_ends_with_the_same_bytes(trained: Trained) -> None:
    for name in ("last.pt", "best.pt"):
        assert (trained.whole / name).read_bytes() == (trained.cut / name).read_bytes(), name


def test_without_room_for_a_checkpoint_the_one_before_stays_and_nothing_half_written(trained: Trained) -> None:
    partial = trained.cut / ".best.pt.partial"
    assert str(trained.full).startswith(f"{partial} would be larger than a file on the volume /")
    assert torch.load(io.BytesIO(trained.left["last.pt"]), weights_only=True)["epoch"] == 1
    assert not [name for name in trained.left if "partial" in name]


def test_each_epoch_is_in_the_history_with_what_chooses_the_best(trained: Trained) -> None:
    history = TrainingHistory(trained.whole / "history.json", Tracker("", ""))

    assert [epoch.number for epoch in history.epochs] == [1, 2]
    # They include the metrics by which trials of a search may be compared.
    want = {"train/loss", "validation/loss", *metrics_of(trained.request.task)}
    assert all(want <= epoch.metrics.keys() for epoch in history.epochs)


def test_the_exported_graph_answers_as_the_checkpoint_does_and_a_probe_tells_it_from_others(
    trained: Trained, tmp_path: Path
) -> None:
    family, best, onnx = trained.family, trained.whole / "best.pt", tmp_path / "model.onnx"
    settings = family.export(best, onnx)
    assert (settings.task, settings.labels, settings.image_size) == (
        trained.request.task,
        classes_of(trained.request.task),
        32,
    )

    predictor = Predictor(onnx.read_bytes(), settings, threads=1)
    samples = ground_truth.read(trained.request).samples("test")
    images = [sample.pixels() for sample in samples]
    fitted = [predictor.fitted(image) for image in images]
    expected = list(family.predict(best, images, THRESHOLDS))
    served = [
        predictor.task.decode(raw, image, settings, THRESHOLDS)
        for raw, image in zip(predictor.outputs(fitted), fitted, strict=True)
    ]
    found = parity.compare(expected, served, THRESHOLDS.confidence)
    assert (found.images, found.scores < 1e-4, found.boxes < 0.1) == (3, True, True)

    exported = predictor.outputs(fitted)
    candidates = [
        probes.Candidate(image, raw, graph, known)
        for image, (raw, known), graph in zip(fitted, family.prove(best, images, THRESHOLDS), exported, strict=True)
    ]
    for one in candidates:
        outputs = (
            zip(one.trained, one.exported, strict=True)
            if isinstance(one.trained, tuple)
            else [(one.trained, one.exported)]
        )
        assert all(np.allclose(theirs, ours, atol=1e-2) for theirs, ours in outputs)
    chosen, sketch = probes.choose(predictor, candidates, THRESHOLDS)
    assert chosen in range(3)
    assert sketch["labels"] == list(classes_of(trained.request.task))


def test_nothing_that_it_imports_holds_up_the_end_of_the_process(trained: Trained) -> None:
    """A step is ended by SIGTERM. Accelerators must be free at once, and resuming uses what the checkpoints hold."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_goes_on_from_its_own_model_where_users_give_it_as_weights(trained: Trained, tmp_path: Path) -> None:
    assert train(trained.family, trained.asked(epochs=1), tmp_path / "job", trained.whole / "best.pt") == 1


def test_weights_of_something_else_are_refused(trained: Trained, tmp_path: Path) -> None:
    torch.save({"strange.weight": torch.zeros(3)}, tmp_path / "start.pt")

    with pytest.raises(RefusedError, match=f"not one of {trained.request.model.architecture}: ") as caught:
        train(trained.family, trained.request, tmp_path / "job", tmp_path / "start.pt")
    assert caught.value.failure.reason is Reason.CHECKPOINT_INVALID


def test_a_learning_rate_at_which_the_loss_diverges_is_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as caught:
        train(trained.family, trained.asked(epochs=3, learningRate="1e30", optimizer="SGD"), tmp_path / "job")
    assert caught.value.failure.reason is Reason.TRAINING_DIVERGED
    assert caught.value.failure.field == "hyperparameters.learningRate"


def test_weights_that_are_no_numbers_never_become_a_model(trained: Trained, tmp_path: Path) -> None:
    """The epoch's only optimizer step turns a finite loss into weights that are not finite."""
    with pytest.raises(RefusedError) as caught:
        train(trained.family, trained.asked(batchSize=64, learningRate="1e30", optimizer="SGD"), tmp_path / "job")
    assert caught.value.failure.reason is Reason.TRAINING_DIVERGED
    assert not list((tmp_path / "job").glob("*.pt"))


def test_an_image_that_is_damaged_meanwhile_is_refused_by_its_name(trained: Trained, tmp_path: Path) -> None:
    sample = ground_truth.read(trained.request).trained_on()[0]
    content = sample.file.read_bytes()
    sample.file.write_bytes(content[:100] + bytes(len(content) - 100))
    try:
        with pytest.raises(RefusedError, match=r"the image \S+") as caught:
            train(trained.family, trained.request, tmp_path / "job")
    finally:
        sample.file.write_bytes(content)
    assert caught.value.failure.reason is Reason.DATASET_NOT_READABLE


def test_exhausted_memory_is_refused(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhaust(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.Tensor, "backward", exhaust)
    with pytest.raises(RefusedError, match="batchSize 4 and imageSize 32") as caught:
        train(trained.family, trained.request, tmp_path / "job")
    assert caught.value.failure.reason is Reason.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "architecture", [name for family in FAMILIES for name in family.description.architectures], ids=str
)
def test_every_architecture_is_taken_for_its_task_alone(architecture: str) -> None:
    request = make_request(architecture)

    assert architecture in offered(request).description.architectures
    for task in set(TASKS) - {request.task}:
        with pytest.raises(RefusedError, match=f"{architecture} is for {request.task}, ") as caught:
            offered(request.model_copy(update={"task": task}))
        assert caught.value.failure.reason is Reason.TASK_MISMATCH
