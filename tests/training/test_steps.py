"""The steps train, evaluate and export as the pipeline calls them: parameters in; package, report and MLflow run out."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

import event_files as tensorboard
from mlflow_servers import MlflowServer
from pelagos_contract import event_files, model_card
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import by_architecture
from pelagos_contract.flows import TRAINING
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingResult
from pelagos_pipelines.describing import page
from pelagos_pipelines.export import parity
from pelagos_pipelines.serving import images, predictor
from pelagos_pipelines.steps import evaluate as step_of_evaluation
from pelagos_pipelines.steps import export as step_of_export
from pelagos_pipelines.steps import train as step_of_training
from pelagos_pipelines.steps.evaluate import evaluate
from pelagos_pipelines.steps.export import export
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.steps.train import train
from pelagos_pipelines.training import torchvision_networks
from training.shapes import make_request, make_version

ARCHITECTURES = ("yolov8n", "mobilenet_v3_small")
DECLARED: dict[str, dict[str, Any]] = {
    "yolov8n": {
        "balance": {"strategy": "Oversample", "target": 24},
        "augmentation": {"rotate": 10, "flipVertical": True},
    },
    "mobilenet_v3_small": {"balance": {"strategy": "ClassWeights", "target": 5}},
}
"""What the datasets declare, by the architecture that is trained on them."""
WANDB: dict[str, dict[str, str] | None] = {
    "yolov8n": None,
    "mobilenet_v3_small": {"project": "plankton", "name": "shapes"},
}
"""What the trainings request of Weights & Biases, by architecture."""


@dataclass(frozen=True)
class Place:
    """The folders of one training, and the parameters of its steps."""

    folder: Path
    uri: str = ""
    run: str = ""

    def parameters(self, request: str) -> tuple[str, str, str, str, str, str, str]:
        names = ("data", "models", "report", "workspace")
        data, store, report, workspace = (str(self.folder / name) for name in names)
        return request, data, store, report, workspace, self.uri, self.run

    def result(self) -> TrainingResult:
        return TrainingResult.model_validate_json((self.folder / "report" / "result.json").read_text())

    def failure(self) -> dict[str, Any]:
        failure: dict[str, Any] = json.loads((self.folder / "report" / "failure.json").read_text())
        return failure


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    return {
        name: make_version(tmp_path_factory.mktemp(name), (6, 3, 3), by_architecture()[name].task, **DECLARED[name])
        for name in ARCHITECTURES
    }


SHOWN = ["classes", "report", "splits", "confusion-matrix", "examples", "learning-curves", "precision-recall"]
"""The figures that must be in MLflow, beside the labels that the model doubts."""


def shown_in(client: MlflowClient, run: str) -> list[str]:
    paths = (item.path for folder in ("dataset", "figures") for item in client.list_artifacts(run, folder))
    # Not every version has boxes or slices.
    return [stem for path in paths if not (stem := Path(path).stem).startswith(("positions", "sizes", "slice-"))]


def require_pictures(drawn: list[str], *, declares: bool) -> None:
    """All figures are there; the examples of augmentation only if the dataset declares one."""
    assert ("augmentation" in drawn) == declares
    assert {*SHOWN} <= {*drawn}


def require_documents(client: MlflowClient, run: str, result: TrainingResult) -> None:
    """Report and card lie beside the package and in MLflow, as the result says. Documents that lack required facts are absent."""
    folder = Path(model_card.folder_of(result.model.uri))
    assert {each.name for each in result.documents} == {model_card.REPORT, model_card.CARD, model_card.MLDCAT_AP}
    for each in result.documents:
        content = (folder / each.name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (each.sha256, each.bytes)
    tracked = [item.path for name in ("report", "card") for item in client.list_artifacts(run, name)]
    assert tracked == ["report/report.html", "card/mldcat-ap.jsonld", "card/model-card.md"]
    page = (folder / model_card.REPORT).read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") >= len(SHOWN) - 1
    assert "<td>disc</td><td class=n>" in page, "of each class, how often the test split has it"
    assert "Cost up to this report" in page


def require_artifacts(client: MlflowClient, run: str, result: TrainingResult, folder: Path) -> None:
    """The files about the training that people read are in MLflow."""
    require_doubts(client, run, result, folder)
    require_documents(client, run, result)


def require_doubts(client: MlflowClient, run: str, result: TrainingResult, folder: Path) -> None:
    """Doubted labels are listed in MLflow, and the result counts them if there are any."""
    content = Path(client.download_artifacts(run, "labels/doubtful-labels.json", str(folder))).read_bytes()
    listed = json.loads(content)
    assert listed["images"] == 6, "of test and validation"
    assert any("are doubted by the model" in each for each in result.warnings) is (listed["doubted"] > 0)


def require_events(client: MlflowClient, run: str, result: TrainingResult, folder: Path) -> None:
    """TensorBoard shows what MLflow shows: each epoch once with its learning rate, the test split, and the figures."""
    found = tensorboard.read(Path(client.download_artifacts(run, event_files.FOLDER, str(folder))))
    for name, points in found["scalars"].items():
        told = sorted((point.step, point.value) for point in client.get_metric_history(run, name))
        assert [(step, value) for step, value, _ in points] == [(step, pytest.approx(value)) for step, value in told], (
            name
        )
    assert {"train/loss", "train/learning-rate", "validation/loss"} <= found["scalars"].keys()
    assert {name for name in result.metrics if name.startswith("test/")} >= {
        name for name in found["scalars"] if name.startswith("test/")
    }
    assert {"figures/confusion-matrix", "figures/examples", "figures/learning-curves"} <= found["images"].keys()


@dataclass(frozen=True)
class Apart:
    """A training whose steps were each called twice, one by one, with what they left."""

    architecture: str
    place: Place
    parameters: tuple[str, str, str, str, str, str, str]
    result: TrainingResult


@pytest.fixture(scope="module", params=ARCHITECTURES)
def apart(
    request: pytest.FixtureRequest,
    versions: dict[str, tuple[str, str]],
    mlflow: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Apart:
    architecture: str = request.param
    place = Place(tmp_path_factory.mktemp("apart"), mlflow.uri, MlflowClient(mlflow.uri).create_run("0").info.run_id)
    asked = make_request(architecture, *versions[architecture], epochs=2, wandb=WANDB[architecture])
    parameters = place.parameters(asked.model_dump_json(by_alias=True))
    for step in (train, evaluate, export):
        step(*parameters)
        step(*parameters)
    return Apart(architecture, place, parameters, place.result())


def test_a_training_becomes_a_package_and_a_tracked_run(
    apart: Apart, versions: dict[str, tuple[str, str]], mlflow: MlflowServer, tmp_path: Path
) -> None:
    architecture, place, parameters, result = apart.architecture, apart.place, apart.parameters, apart.result
    client = MlflowClient(mlflow.uri)
    assert result.epochs == 2
    assert result.model.labels == ["disc", "square"]
    assert (result.model.parity.images, result.model.parity.scores < 0.001, result.metrics["export/difference"]) == (
        (3, True, result.model.parity.scores)
    )
    package = Path(result.model.uri)
    described = json.loads((package / "package.json").read_text())
    assert described["onnxSha256"] == result.model.onnx_sha256
    assert hashlib.sha256((package / "package.json").read_bytes()).hexdigest() == package.name
    assert result.model.manifest_sha256 == package.name
    assert described["thresholds"]["maxDetections"] == 3000
    assert (described["probe"]["labels"], described["dataset"]["name"]) == (result.model.labels, "shapes")
    assert described["dataset"]["version"] == versions[architecture][1]
    for name, digest in described["files"].items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == digest
    probe = images.decode_known((package / "probe.png").read_bytes())
    (answer,) = predictor.load(package, result.model.manifest_sha256).predict([probe])
    known = json.loads((package / "probe.json").read_text())
    assert answer.render(result.model.labels).keys() == known.keys()

    run = client.get_run(place.run)
    refuse_an_export(parameters, place)
    primary_metric = "test/mAP50" if architecture == "yolov8n" else "test/accuracy"
    assert {primary_metric, "test/F1", "test/precision", "test/recall"} <= result.metrics.keys()
    told = {name: value for name, value in result.metrics.items() if name.startswith("test/") and value is not None}
    assert {name: run.data.metrics[name] for name in told} == pytest.approx(told)
    require_pace(run.data.metrics)
    digests = {"onnx-sha256": result.model.onnx_sha256, "manifest-sha256": package.name}
    assert {name: run.data.tags[f"pelagos.dev/{name}"] for name in digests} == digests
    assert run.inputs.dataset_inputs[0].dataset.name == "shapes"
    require_record(architecture, run.data.params, run.data.tags, versions[architecture][1])
    require_run_directory(client, place.run, is_asked_for=WANDB[architecture] is not None)
    require_pictures(shown_in(client, place.run), declares="augmentation" in DECLARED[architecture])

    require_artifacts(client, place.run, result, tmp_path)
    # As if the process had died after reporting everything, before it noted that it had.
    (place.folder / "workspace" / "evaluation.json").unlink()
    (place.folder / "report" / "result.json").unlink()
    for step in (evaluate, export):
        step(*parameters)
    again = place.result()
    assert again.model_copy(update={"cost": result.cost}) == result, "the same package, to the last byte"
    require_cost(run.data.metrics, run.data.tags, result, again)
    for name in (name for name in run.data.metrics if not name.startswith(("cost/", "system/"))):
        steps = [point.step for point in client.get_metric_history(place.run, name)]
        assert len(steps) == len(set(steps)), f"{name} stands twice"


def require_run_directory(client: MlflowClient, run: str, *, is_asked_for: bool) -> None:
    """The directory that `wandb sync` takes is an artifact only if Weights & Biases was requested."""
    found = [item.path for item in client.list_artifacts(run, "wandb")]
    assert len(found) == is_asked_for
    for folder in found:
        assert f"{folder}/run-{run}.wandb" in [item.path for item in client.list_artifacts(run, folder)]


def require_pace(metrics: dict[str, float]) -> None:
    """The pace is reported during training; without a GPU no GPU memory is."""
    pace = {name: value > 0 for name, value in metrics.items() if name.startswith("progress/")}
    assert pace == {f"progress/{name}": True for name in ("epoch", "seconds_per_epoch", "images_per_second")}


def require_cost(
    metrics: dict[str, float], tags: dict[str, str], result: TrainingResult, again: TrainingResult
) -> None:
    """The cost is measured and reported to MLflow, and grows when a part is done again."""
    assert result.cost is not None
    assert again.cost is not None
    assert {name: metrics[name] for name in result.cost.figures()} == pytest.approx(result.cost.figures())
    assert metrics["cost/energy_kwh"] > 0
    assert metrics["cost/gpu_hours"] == 0
    assert "W for each busy core" in tags["pelagos.dev/cost.energyMethod"]
    assert tags["pelagos.dev/cost.gramsPerKwh"] == "475"
    assert again.cost.cpu_seconds > result.cost.cpu_seconds
    assert metrics["system/system_memory_usage_megabytes"] > 0


def require_record(architecture: str, parameters: dict[str, str], tags: dict[str, str], version: str) -> None:
    """The run records what the training applied of the dataset's declarations, and what the family does by default."""
    detects, balance = architecture == "yolov8n", DECLARED[architecture]["balance"]
    assert (parameters["architecture"], parameters["datasetVersion"]) == (architecture, version)
    assert parameters["balance.strategy"] == balance["strategy"]
    assert tags["pelagos.dev/balance"] == f"{balance['strategy']} to {balance['target']}"
    assert (int(parameters["balance.shown"]) >= 12) == detects
    assert parameters.get("balance.weights") == (None if detects else "disc 1, square 1")
    assert parameters["augmentation.rotate"] == ("10 degrees" if detects else "15 degrees")
    assert parameters["augmentation.flipVertical"] == "50 %"
    assert len(tags["pelagos.dev/environment.packages.sha256"]) == 64


def test_one_step_for_all_stages_makes_what_a_step_for_each_makes(
    apart: Apart, versions: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    together = Place(tmp_path)
    request = make_request(apart.architecture, *versions[apart.architecture], epochs=2).model_dump_json(by_alias=True)
    perform(TRAINING.stages, *together.parameters(request))

    made = together.result()
    assert made.model.manifest_sha256 == apart.result.model.manifest_sha256
    assert made.metrics == apart.result.metrics


def test_a_step_that_is_started_again_goes_on_with_the_stage_that_is_not_finished(
    versions: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    parameters = place.parameters(
        make_request("mobilenet_v3_small", *versions["mobilenet_v3_small"]).model_dump_json(by_alias=True)
    )
    perform(("train", "evaluate"), *parameters)
    trained = (tmp_path / "workspace" / "train.json").stat()
    done: list[str] = []
    for module, name in ((step_of_training, "_train"), (step_of_evaluation, "_measure"), (step_of_export, "_export")):
        real = getattr(module, name)

        def noted(run: Any, name: str = name, real: Any = real) -> None:
            done.append(name)
            real(run)

        monkeypatch.setattr(module, name, noted)
    perform(TRAINING.stages, *parameters)
    perform(TRAINING.stages, *parameters)

    assert done == ["_export"]
    assert (tmp_path / "workspace" / "train.json").stat() == trained
    assert place.result().epochs == 1


def test_the_smallest_training_works_and_is_measured_by_nothing(tmp_path: Path) -> None:
    """All minima at once: one image in each split, a batch of one, 32 pixels, no box to validate or test on."""
    version = make_version(tmp_path / "dataset", (1, 1, 1), Task.DETECTION, boxless=("validation", "test"))
    place = Place(tmp_path)
    request = make_request("yolov8n", *version, epochs=2, batchSize=1, imageSize=32)
    for step in (train, evaluate, export):
        step(*place.parameters(request.model_dump_json(by_alias=True)))
    result = place.result()
    assert {"validation/mAP50", "validation/recall"}.isdisjoint(result.metrics)
    assert {value for name, value in result.metrics.items() if name.startswith("test/")} == {None}
    (warning,) = result.warnings
    assert "no annotation at all" in warning


def test_a_classifier_takes_a_batch_of_one_for_two(tmp_path: Path) -> None:
    uri, version = make_version(tmp_path / "dataset", (2, 1, 1), Task.CLASSIFICATION)
    place = Place(tmp_path)
    request = make_request("mobilenet_v3_small", uri, version, batchSize=1, imageSize=32)
    for step in (train, evaluate):
        step(*place.parameters(request.model_dump_json(by_alias=True)))
    measured = json.loads((tmp_path / "workspace" / "evaluation.json").read_text())
    assert measured["metrics"]["test/recall/square"] is None
    assert measured["warnings"] == ["1 of 2 classes have no annotation in the test split, and no metrics: square"]


def refuse_an_export(parameters: tuple[str, str, str, str, str, str, str], place: Place) -> None:
    """A failing export after the evaluation leaves the evaluation's figures, and the reason."""
    result, path = place.result(), place.folder / "report" / "result.json"
    path.rename(path.with_suffix(".kept"))
    right = parity.require_labels
    try:
        parity.require_labels = lambda trained, exported: right(trained, exported[::-1])
        with pytest.raises(RefusedError, match="its classes are square, disc instead of disc, square"):
            export(*parameters)
    finally:
        parity.require_labels = right
    failure = place.failure()
    measured = {name: value for name, value in result.metrics.items() if name != "export/difference"}
    assert (failure["reason"], failure["metrics"]) == (Reason.PARITY_FAILED, measured)
    assert failure["cost"]["cpuSeconds"] > 0
    path.with_suffix(".kept").rename(path)


def test_an_untrusted_checkpoint_is_reported_and_not_executed(
    versions: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "trace"),)

    (tmp_path / "data").mkdir()
    torch.save({"model": Evil()}, tmp_path / "data" / "evil.pt")
    for number, architecture in enumerate(ARCHITECTURES):
        place = Place(tmp_path / str(number))
        (place.folder / "data").mkdir(parents=True)
        (tmp_path / "data" / "evil.pt").rename(place.folder / "data" / "evil.pt")
        model = {"architecture": architecture, "weights": {"path": "evil.pt"}}
        request = make_request(architecture, *versions[architecture], model=model)
        with pytest.raises(RefusedError):
            train(*place.parameters(request.model_dump_json(by_alias=True)))
        assert place.failure()["reason"] == Reason.UNTRUSTED_CHECKPOINT
        (place.folder / "data" / "evil.pt").rename(tmp_path / "data" / "evil.pt")
    assert not (tmp_path / "trace").exists()


def test_what_was_taken_of_a_checkpoint_is_told_also_after_another_attempt(
    versions: dict[str, tuple[str, str]], mlflow: MlflowServer, tmp_path: Path
) -> None:
    client, architecture = MlflowClient(mlflow.uri), "mobilenet_v3_small"
    place = Place(tmp_path, mlflow.uri, client.create_run("0").info.run_id)
    (tmp_path / "data").mkdir()
    torch.save(torchvision_networks.build(architecture, 1000).state_dict(), tmp_path / "data" / "official.pth")
    model = {"architecture": architecture, "weights": {"path": "official.pth"}}
    request = make_request(architecture, *versions[architecture], model=model, epochs=1, imageSize=32)

    for _ in range(2):
        train(*place.parameters(request.model_dump_json(by_alias=True)))
        told = json.loads((tmp_path / "workspace" / "train.json").read_text())["warnings"]
        assert [line.partition(", which")[0] for line in told] == [
            "model.weights: 242 of 244 tensors were taken from the checkpoint; 2 of the head"
        ]
        (tmp_path / "workspace" / "train.json").unlink()  # as if this attempt had ended before
    assert "242 of 244 tensors" in client.get_run(place.run).data.params["weights.taken"]


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"uri": "/nowhere"}, Reason.DATASET_NOT_READABLE, "/nowhere"),
        ({"version": f"sha256:{'0' * 64}"}, Reason.DATASET_NOT_READABLE, "0000"),
        ({"task": "Classification"}, Reason.TASK_MISMATCH, "annotated for Detection"),
    ],
)
def test_a_dataset_that_does_not_fit_is_reported(
    changes: dict[str, str], reason: Reason, words: str, versions: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    uri, version = versions["yolov8n"]
    task = {"task": changes["task"]} if "task" in changes else {}
    request = make_request("yolov8n", changes.get("uri", uri), changes.get("version", version), **task)
    place = Place(tmp_path)
    with pytest.raises(RefusedError):
        train(*place.parameters(request.model_dump_json(by_alias=True)))
    assert place.failure()["reason"] == reason
    assert words in place.failure()["message"]


def test_an_architecture_of_another_task_is_reported(versions: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    request = make_request("mobilenet_v3_small", *versions["yolov8n"], task="Detection")
    place = Place(tmp_path)
    with pytest.raises(RefusedError, match="name one of yolov8n"):
        train(*place.parameters(request.model_dump_json(by_alias=True)))
    assert place.failure()["reason"] == Reason.TASK_MISMATCH
    assert place.failure()["field"] == "model.architecture"


def test_a_full_disk_is_reported(versions: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    request = make_request("mobilenet_v3_small", *versions["mobilenet_v3_small"], imageSize=32)
    place = Place(tmp_path)
    (tmp_path / "workspace" / "checkpoints").mkdir(parents=True)
    (tmp_path / "workspace" / "checkpoints" / ".last.pt.partial").symlink_to("/dev/full")
    with pytest.raises(RefusedError, match="no space is left"):
        train(*place.parameters(request.model_dump_json(by_alias=True)))
    assert place.failure()["reason"] == Reason.DISK_FULL
    assert not (tmp_path / "workspace" / "train.json").exists()


def test_a_report_that_cannot_be_made_costs_no_model_and_is_said_to_lack(
    versions: dict[str, tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = make_request("mobilenet_v3_small", *versions["mobilenet_v3_small"], imageSize=32)
    place, parameters = Place(tmp_path), Place(tmp_path).parameters(request.model_dump_json(by_alias=True))
    for step in (train, evaluate):
        step(*parameters)
    measured = json.loads((tmp_path / "workspace" / "evaluation.json").read_text())

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "no space is left")

    with monkeypatch.context() as broken:
        broken.setattr(page, "made", full)
        export(*parameters)
    without = place.result()
    (tmp_path / "report" / "result.json").unlink()
    export(*parameters)

    assert without.documents == []
    assert without.warnings[-1].startswith("the report and the card of this model could not be made")
    again = place.result()
    assert again.model == without.model, "the model is as it would be"
    assert again.warnings == without.warnings[:-1] == measured["warnings"]
    assert {each.name for each in again.documents} == {model_card.REPORT, model_card.CARD, model_card.MLDCAT_AP}


def test_an_empty_split_is_reported(tmp_path: Path) -> None:
    uri, version = make_version(tmp_path / "dataset", (4, 2, 0), Task.CLASSIFICATION)
    request = make_request("mobilenet_v3_small", uri, version)
    place = Place(tmp_path)
    with pytest.raises(RefusedError, match="no images in the split 'test'"):
        train(*place.parameters(request.model_dump_json(by_alias=True)))
    assert place.failure()["reason"] == Reason.SPLIT_IMPOSSIBLE


def test_a_bug_leaves_no_failure(versions: dict[str, tuple[str, str]], tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "failure.json").write_text("{}")
    request = make_request("yolov8n", *versions["yolov8n"])
    with pytest.raises(FileNotFoundError):
        evaluate(*place.parameters(request.model_dump_json(by_alias=True)))
    assert not (tmp_path / "report" / "failure.json").exists(), "that of an earlier attempt is gone"
