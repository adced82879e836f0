"""A training that fails after some epochs keeps what it has reached, and reports it together with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.tasks import Task
from pelagos_pipelines.steps.evaluate import evaluate
from pelagos_pipelines.steps.train import train
from pelagos_pipelines.training import classifiers, loop
from training.shapes import make_request, make_version
from training.test_steps import Place

SMALL = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("shapes"), (6, 3, 3), Task.CLASSIFICATION)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def asked(version: tuple[str, str], **changes: Any) -> str:
    return make_request(SMALL, *version, imageSize=32, **changes).model_dump_json(by_alias=True)


def spoil_from(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make losses NaN from that epoch on."""
    begin, now = loop.Training._train_epoch, [0]

    def begun(self: loop.Training, number: int) -> dict[str, float]:
        now[0] = number
        return begin(self, number)

    loss = classifiers._Learner.loss

    def spoilt(self: Any, *given: Any) -> Any:
        found = loss(self, *given)
        return found * float("nan") if now[0] >= epoch else found

    monkeypatch.setattr(loop.Training, "_train_epoch", begun)
    monkeypatch.setattr(classifiers._Learner, "loss", spoilt)


def test_a_training_that_diverges_keeps_and_tells_the_epochs_before(
    version: tuple[str, str], mlflow: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(mlflow.uri)
    place = Place(tmp_path, mlflow.uri, client.create_run("0").info.run_id)
    spoil_from(3, monkeypatch)

    with pytest.raises(
        RefusedError, match=r"became nan in epoch 3, over the images \S+\.png, \S+\.png, \S+\.png"
    ) as caught:
        train(*place.parameters(asked(version, epochs=5)))

    assert caught.value.failure.reason is Reason.TRAINING_DIVERGED
    failure = place.failure()
    best = int(failure["message"].rpartition("epoch ")[2])
    assert "what the 2 epochs before it came to is on record" in failure["message"]
    assert failure["warnings"] == [f"the training ended in epoch 3: figures are those of epoch {best}, its best one"]
    losses = {point.step: point.value for point in client.get_metric_history(place.run, "validation/loss")}
    assert sorted(losses) == [1, 2]
    assert failure["metrics"]["validation/loss"] == pytest.approx(losses[best])
    assert {path.name for path in (tmp_path / "workspace" / "checkpoints").glob("*.pt")} == {"last.pt", "best.pt"}


def test_a_training_that_fails_in_its_first_epoch_has_nothing_to_tell(
    version: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_from(1, monkeypatch)

    with pytest.raises(RefusedError, match=r"now 0\.002$"):
        train(*Place(tmp_path).parameters(asked(version)))
    assert Place(tmp_path).failure()["metrics"] is None


def test_an_evaluation_without_memory_is_refused_and_the_training_is_not_repeated(
    version: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, request = Place(tmp_path), asked(version)
    train(*place.parameters(request))

    def exhaust(*_: object) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patched:
        patched.setattr(classifiers.Classifiers, "predict", exhaust)
        with pytest.raises(RefusedError, match="at imageSize 32, outside of the training"):
            evaluate(*place.parameters(request))
    assert place.failure()["reason"] == Reason.OUT_OF_MEMORY

    monkeypatch.setattr(loop, "Training", None)
    for step in (train, evaluate):
        step(*place.parameters(request))
    assert (tmp_path / "workspace" / "evaluation.json").exists()
