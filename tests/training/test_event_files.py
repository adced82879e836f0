"""Event files hold every epoch exactly once, as TensorBoard reads them, whatever happened to the training."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from PIL import Image

import event_files as tensorboard
from loopback import free_port
from mlflow_servers import MlflowServer
from pelagos_contract.event_files import EVALUATION, TRAINING
from pelagos_contract.tasks import Task
from pelagos_pipelines.steps import runs
from pelagos_pipelines.steps.train import train
from pelagos_pipelines.training import event_files
from pelagos_pipelines.training.tracking import Tracker, TrackingError
from pelagos_pipelines.training.training_history import Epoch
from training.killed import Moment, perform
from training.shapes import make_request, make_version

AT = 1_700_000_000.25


def epochs(count: int) -> list[Epoch]:
    return [
        Epoch(number, AT + number, {"train/loss": 1 / number, "validation/mAP50/Noctiluca scintillans": 0.25})
        for number in range(1, count + 1)
    ]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pictures = [tmp_path / "confusion-matrix.png", tmp_path / "strange.png"]
    Image.new("RGB", (300, 200)).save(pictures[0])
    pictures[1].write_bytes(b"GIF89a")
    folder = tmp_path / "events"
    event_files.write(folder / TRAINING, event_files.of_training(epochs(300)))
    event_files.write(folder / EVALUATION, event_files.of_evaluation({"test/F1": 0.5}, pictures, 300, AT + 400))

    found = tensorboard.read(folder)

    assert found["scalars"].keys() == {"train/loss", "validation/mAP50/Noctiluca scintillans", "test/F1"}
    loss = found["scalars"]["train/loss"]
    assert [[step, at] for step, _, at in loss] == [[number, AT + number] for number in range(1, 301)]
    assert [value for _, value, _ in loss] == pytest.approx([1 / number for number in range(1, 301)])
    assert found["scalars"]["test/F1"] == [[300, 0.5, AT + 400]]
    assert found["images"] == {"figures/confusion-matrix": [[300, 300, 200, pictures[0].stat().st_size]]}


def test_a_file_that_is_cut_off_or_has_too_much_is_made_whole(tmp_path: Path) -> None:
    path, whole = tmp_path / TRAINING, event_files.of_training(epochs(3))
    for before in (b"", whole[:-7], event_files.of_training(epochs(4))):
        path.write_bytes(before)
        event_files.write(path, whole)
        assert path.read_bytes() == whole


def test_what_is_there_already_is_not_written_again(tmp_path: Path) -> None:
    path, whole = tmp_path / TRAINING, event_files.of_training(epochs(3))
    event_files.write(path, whole)
    before = path.stat()
    event_files.write(path, whole)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_without_an_epoch_there_is_no_file(tmp_path: Path) -> None:
    event_files.write(tmp_path / TRAINING, event_files.of_training([]))
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_is_killed_again_and_again_leaves_each_epoch_once(tmp_path: Path) -> None:
    version = make_version(tmp_path / "version", (6, 3, 3), Task.CLASSIFICATION)
    request = make_request("mobilenet_v3_small", *version, epochs=3, imageSize=32, resources={"cpu": 1})
    text, read = request.model_dump_json(by_alias=True), []
    for moment in (Moment("after the checkpoint", 1), Moment("before the checkpoint", 3), None):
        assert perform(tmp_path, text, moment) == (0 if moment is None else -signal.SIGKILL)
        path = tmp_path / "workspace" / "tensorboard" / TRAINING
        read.append(tensorboard.read(path)["scalars"]["train/loss"] if path.exists() else [])

    history = json.loads((tmp_path / "workspace" / "history.json").read_text())
    told = [[row["number"], pytest.approx(row["metrics"]["train/loss"]), row["at"]] for row in history]
    assert read == [[], told[:2], told]


def test_what_mlflow_missed_while_it_was_away_the_next_attempt_brings(
    mlflow: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_version(tmp_path / "version", (6, 3, 3), Task.CLASSIFICATION)
    request = make_request("mobilenet_v3_small", *version, epochs=2, imageSize=32, resources={"cpu": 1})
    text = request.model_dump_json(by_alias=True)
    data, store, report, workspace = (str(tmp_path / name) for name in ("data", "store", "report", "workspace"))
    client = MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    with monkeypatch.context() as patched:
        patched.setattr(Tracker.__init__, "__defaults__", (1.0,))
        with pytest.raises(TrackingError, match="nothing is lost"):
            train(text, data, store, report, workspace, f"http://127.0.0.1:{free_port()}", run)
    history = (tmp_path / "workspace" / "history.json").read_bytes()

    train(text, data, store, report, workspace, mlflow.uri, run)

    assert (tmp_path / "workspace" / "history.json").read_bytes() == history, "nothing is trained again"
    brought = Path(client.download_artifacts(run, f"tensorboard/{TRAINING}", str(tmp_path))).read_bytes()
    assert brought == (tmp_path / "workspace" / "tensorboard" / TRAINING).read_bytes()
    assert [point.step for point in client.get_metric_history(run, "train/loss")] == [1, 2]
    assert client.get_run(run).data.tags["pelagos.dev/cost.missing"] == "nothing", "both attempts are counted"


def test_mlflow_that_goes_away_in_the_middle_of_a_training_stops_no_epoch_and_misses_nothing(
    mlflow: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make_version(tmp_path / "version", (6, 3, 3), Task.CLASSIFICATION)
    request = make_request("mobilenet_v3_small", *version, epochs=3, imageSize=32, resources={"cpu": 1})
    client = MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    keep_epoch, kept = runs.Run.keep_epoch, list[int]()

    def keep(training: runs.Run) -> bool:
        kept.append(len(kept) + 1)
        if kept[-1] == 1:
            mlflow.kill()
        if kept[-1] == 3:
            mlflow.start()
        return keep_epoch(training)

    monkeypatch.setattr(runs.Run, "keep_epoch", keep)
    data, store, report, workspace = (str(tmp_path / name) for name in ("data", "store", "report", "workspace"))
    train(request.model_dump_json(by_alias=True), data, store, report, workspace, mlflow.uri, run)

    assert kept == [1, 2, 3]
    assert [point.step for point in client.get_metric_history(run, "train/loss")] == [1, 2, 3]
    assert client.get_run(run).data.metrics["cost/cpu_hours"] > 0
