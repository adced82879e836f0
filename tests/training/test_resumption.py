"""A training that is killed repeatedly ends with the same bytes as an undisturbed one, and reports the same to MLflow, once."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract.families import by_architecture
from pelagos_contract.training import TrainingRequest
from training.killed import Moment, Tracked, train
from training.shapes import make_request, make_version

DEATHS = (
    Moment("in a step", 3),  # an epoch has two steps: in the middle of epoch 2
    Moment("after the checkpoint", 2),
    Moment("before the checkpoint", 3),
)
ARCHITECTURES = ("yolov8n", "mobilenet_v3_small")


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrainingRequest]:
    return {
        name: make_request(
            name,
            *make_version(tmp_path_factory.mktemp(name), (6, 3, 3), by_architecture()[name].task),
            epochs=3,
            imageSize=64 if name.startswith("yolo") else 32,
            mosaic=True,
            earlyStopping={"patience": 2},
            resources={"cpu": 2},
        )
        for name in ARCHITECTURES
    }


def figures(folder: Path) -> list[dict[str, Any]]:
    return [row["metrics"] for row in json.loads((folder / "history.json").read_text())]


def assert_same(whole: Path, cut: Path) -> None:
    assert figures(cut) == figures(whole)
    # Raw and averaged weights, optimizer moments, best epoch and patience: everything that a checkpoint holds.
    for name in ("last.pt", "best.pt", "returned"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.timeout(900)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_killed_training_ends_with_the_same_bytes(
    architecture: str, requests: dict[str, TrainingRequest], mlflow: MlflowServer, tmp_path: Path
) -> None:
    client = MlflowClient(mlflow.uri)
    tracked = Tracked(mlflow.uri, client.create_run("0").info.run_id)
    request = requests[architecture]
    assert train(tmp_path / "whole", request) == 0
    for moment in DEATHS:
        assert train(tmp_path / "cut", request, moment, tracked) == -signal.SIGKILL, moment
    assert train(tmp_path / "cut", request, None, tracked) == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")
    for name, last in client.get_run(tracked.run).data.metrics.items():
        told = [(point.step, point.value) for point in client.get_metric_history(tracked.run, name)]
        assert [step for step, _ in told] == [1, 2, 3], f"{name} stands twice, or not at all"
        assert told[-1][1] == last
