"""Leave-one-group-out: each group's model is a separate training, measured on that group; the run's own model is unaffected."""

from __future__ import annotations

import json
import shutil
import signal
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract import sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.flows import TRAINING
from pelagos_contract.progress import DOCUMENT, Progress, SeedState, Stage
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest, TrainingResult
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation import ground_truth
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.steps import evaluate, leaving_out
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.training import yolov8, yolov8_view
from training import killed
from training.killed import Moment
from training.shapes import make_request, make_version

CAPTURE = {"from": "Folder", "pattern": "{*}/{platform}/{deployment}-{site}.png"}
"""For images such as train/disc/train-0.png: the class is the platform, the split the deployment, the number the site."""
COUNTS = (3, 2, 2)
SITES = ["0", "1", "2"]
"""The last site has images in the training split only."""


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("version"), COUNTS, Task.CLASSIFICATION, capture=CAPTURE)


def request_for(version: tuple[str, str], field: str | None = "site", **changes: Any) -> TrainingRequest:
    if field is not None:
        changes["evaluation"] = {"leaveOneOut": field}
    return make_request("mobilenet_v3_small", *version, **{"imageSize": 32, "epochs": 2, **changes})


def parameters(folder: Path, request: TrainingRequest, *tracked: str) -> tuple[str, str, str, str, str, str, str]:
    data, store, report, workspace = (str(folder / name) for name in ("data", "store", "report", "workspace"))
    uri, run = tracked or ("", "")
    return request.model_dump_json(by_alias=True), data, store, report, workspace, uri, run


def state(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "workspace" / f"{name}.json").read_text())
    return found


@pytest.fixture(scope="module")
def alone(version: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that leaves no group out."""
    folder = tmp_path_factory.mktemp("alone")
    perform(("train", "evaluate"), *parameters(folder, request_for(version, None)))
    return folder


@pytest.fixture(scope="module")
def whole(version: tuple[str, str], mlflow: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that leaves out each site in turn: its folder, its result, and the MLflow client with the id of its run."""
    folder, client = tmp_path_factory.mktemp("whole"), MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    perform(TRAINING.stages, *parameters(folder, request_for(version), mlflow.uri, run))
    result = TrainingResult.model_validate_json((folder / "report" / "result.json").read_text())
    return folder, result, client, run


def test_a_result_has_the_metrics_of_each_group_and_their_mean_and_deviation(whole: Any) -> None:
    folder, result, _, _ = whole

    assert [(group.value, group.images) for group in result.leave_one_out.groups] == [
        ("0", 3),
        ("1", 3),
        ("2", 1),
    ]
    each = [state(folder, f"groups/{number}/evaluation")["metrics"]["test/accuracy"] for number in range(len(SITES))]
    assert [result.metrics[f"leave-one-out/site/{site}/accuracy"] for site in SITES] == each
    assert result.metrics["leave-one-out/site/accuracy"] == pytest.approx(statistics.fmean(each))
    assert result.deviations["leave-one-out/site/accuracy"] == pytest.approx(statistics.stdev(each))


def test_the_card_of_the_model_has_each_group_with_its_images(whole: Any) -> None:
    folder, result, _, _ = whole
    (path,) = (folder / "store").glob("*.documents/model-card.md")
    lines = path.read_text().splitlines()
    start = lines.index("## Groups that a model did not see: site")
    mean, *groups = [line for line in lines[start:] if line.startswith("|")][2 : 3 + len(SITES)]

    name = "leave-one-out/site/accuracy"
    deviation = f"± {result.deviations[name]:.3f} over groups"
    assert mean == f"| mean of all groups |  | {result.metrics[name]:.3f} | {deviation} |"
    each = [(group.value, group.images) for group in result.leave_one_out.groups]
    each.sort(key=lambda one: result.metrics[f"leave-one-out/site/{one[0]}/accuracy"])
    assert groups == [
        f"| {value} | {images} | {result.metrics[f'leave-one-out/site/{value}/accuracy']:.3f} |  |"
        for value, images in each
    ]


def test_the_model_is_that_of_a_run_without_them(whole: Any, alone: Path) -> None:
    folder, result, _, _ = whole

    assert state(folder, "train") == state(alone, "train"), "with the same weights, by their digest"
    own = state(alone, "evaluation")["metrics"]
    assert own.items() <= result.metrics.items()
    assert all(name.startswith(("leave-one-out/", "validation/", "export/")) for name in result.metrics.keys() - own)
    assert not list((folder / "workspace" / "groups").rglob("last.pt"))


def test_every_group_has_a_run_below_that_of_the_training(whole: Any) -> None:
    _, result, client, parent = whole

    def ask() -> Any:
        return client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent}'")

    try:
        nested = ask()
    except MlflowException:  # the server has closed the kept-alive connection
        nested = ask()

    assert {run.info.run_name: run.info.status for run in nested} == {
        f"without site {site}": "FINISHED" for site in SITES
    }
    for run in nested:
        site = run.info.run_name.removeprefix("without site ")
        assert run.data.metrics["test/accuracy"] == pytest.approx(result.metrics[f"leave-one-out/site/{site}/accuracy"])
    above = client.get_run(parent).data.metrics
    for name in ("leave-one-out/site/accuracy", "leave-one-out/site/1/accuracy"):
        assert above[name] == pytest.approx(result.metrics[name])
    assert above["progress/epoch"] == 2, "epochs of the model alone"


def test_a_run_that_is_killed_in_its_second_group_goes_on_there(
    whole: Any, version: tuple[str, str], tmp_path: Path
) -> None:
    request = request_for(version)
    # An epoch has one optimizer step and each training two epochs: step six is the last one of the second group's training.
    assert killed.perform(tmp_path, request.model_dump_json(by_alias=True), Moment("in a step", 6)) == -signal.SIGKILL
    assert (tmp_path / "workspace/groups/0/train.json").exists()
    assert not (tmp_path / "workspace/groups/1/train.json").exists()
    first = (tmp_path / "workspace/groups/0/train.json").stat()
    told = Progress.model_validate(sealing.opened(sealing.document(tmp_path / "report" / DOCUMENT), sealing.PROGRESS))
    assert told.stage is Stage.LEAVE_ONE_OUT
    assert told.left_out is not None
    assert [each.state for each in told.left_out.groups] == [
        SeedState.TRAINED,
        SeedState.TRAINING,
        SeedState.WAITING,
    ]

    perform(("train",), *parameters(tmp_path, request))

    assert (tmp_path / "workspace/groups/0/train.json").stat() == first
    for number in range(len(SITES)):
        again = state(tmp_path, f"groups/{number}/train")
        assert again == state(whole[0], f"groups/{number}/train"), "with the same weights, by their digest"


def test_an_evaluation_that_breaks_off_measures_no_group_twice(
    whole: Any, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = shutil.ignore_patterns("evaluation.json", "measurement.json", "leave-one-out.json", "figures")
    shutil.copytree(whole[0] / "workspace", tmp_path / "workspace", ignore=done)
    shutil.copytree(whole[0] / "workspace/groups/0", tmp_path / "workspace/groups/0", dirs_exist_ok=True)
    asked = parameters(tmp_path, request_for(version))
    measured: list[str | None] = []
    real = evaluate._measure

    def breaking(run: Any, *known: Any) -> None:
        if len(measured) == 2:
            measured.append(None)
            raise ConnectionError("gone")
        real(run, *known)
        measured.append(None if run.part is None else run.part.folder)

    monkeypatch.setattr(evaluate, "_measure", breaking)
    with pytest.raises(ConnectionError):
        perform(("evaluate",), *asked)
    perform(("evaluate",), *asked)
    perform(("evaluate",), *asked)

    assert measured == [None, "groups/1", None, "groups/2"], "groups/0 had been measured before"
    assert state(tmp_path, "evaluation")["metrics"] == state(whole[0], "evaluation")["metrics"]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (
            "depthBand",
            r"names depthBand, which no image has; fields that images have: site, deployment, platform$",
        ),
        ("month", r"names month, which no image has"),
    ],
)
def test_a_field_that_no_image_has_is_refused_before_anything_is_trained(
    version: tuple[str, str], tmp_path: Path, field: str, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        perform(TRAINING.stages, *parameters(tmp_path, request_for(version, field)))
    assert (refused.value.failure.reason, refused.value.failure.field) == (
        Reason.LEAVE_ONE_OUT_IMPOSSIBLE,
        "spec.evaluation.leaveOneOut",
    )
    assert not list((tmp_path / "workspace").rglob("*.pt"))


def test_a_group_whose_training_diverges_is_named(whole: Any, version: tuple[str, str], tmp_path: Path) -> None:
    request = request_for(version)
    shutil.copytree(whole[0] / "workspace", tmp_path / "workspace")
    shutil.rmtree(tmp_path / "workspace/groups/1")
    worse = request.hyperparameters.model_copy(update={"learning_rate": "1e30", "optimizer": "SGD", "epochs": 3})
    with pytest.raises(RefusedError, match=r"^without site 1: the loss on the validation split became nan"):
        perform(("train",), *parameters(tmp_path, request.model_copy(update={"hyperparameters": worse})))


def test_yolo_sees_nothing_of_the_group_that_is_left_out(tmp_path: Path) -> None:
    capture = {"from": "Folder", "pattern": "images/{*}/{deployment}-{site}.png"}
    version = make_version(tmp_path / "made", COUNTS, Task.DETECTION, capture=capture)
    request = make_request("yolov8n", *version, evaluation={"leaveOneOut": "site"})
    known = ground_truth.read(request)
    from pelagos_pipelines.evaluation import left_out

    assert yolov8.FAMILY  # import ours before ultralytics is loaded
    groups = left_out.of(known, "site")
    for value in ("0", "1"):
        truth = left_out.without(known, groups, value)
        found = yolov8_view.data(truth)
        seen = {
            split: [Path(sample.name).stem for sample in yolov8_view.samples_of(found, split)]
            for split in ("train", "validation")
        }
        assert seen["train"] == sorted(seen["train"])
        assert not any(name.endswith(f"-{value}") for name in (*seen["train"], *seen["validation"]))
        assert len([*seen["train"], *seen["validation"]]) == sum(COUNTS) - 3


@pytest.mark.parametrize(
    ("deployments", "has_interval"), [(["dive-1"], False), (["dive-1", "dive-2"], True), ([None], True)]
)
def test_a_group_of_a_single_deployment_has_no_interval(deployments: list[str | None], has_interval: bool) -> None:
    samples = [
        Sample(
            f"{n}.png",
            Path("x"),
            np.zeros(1, int),
            np.zeros((0, 4)),
            capture=Capture("a", deployments[n % len(deployments)]),
        )
        for n in range(6)
    ]
    truth: Any = SimpleNamespace(groups=SimpleNamespace(images={"a": samples}))
    measured = {"a": {"intervals": {"test/accuracy": {"low": 0.1, "high": 0.9}}}}
    found = leaving_out._intervals("site", measured, truth)
    assert found.keys() == ({"leave-one-out/site/a/accuracy"} if has_interval else set())


def test_of_a_run_without_groups_nothing_is_planned(alone: Path) -> None:
    assert not (alone / "workspace" / f"{leaving_out.PLAN}.json").exists()
