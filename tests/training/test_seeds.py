"""Several trainings of one run that differ in their seed: each its own, judged together, and the best one packaged."""

from __future__ import annotations

import json
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract import sealing
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.flows import TRAINING
from pelagos_contract.model_card import REPORT, folder_of
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest, TrainingResult, Weights
from pelagos_pipelines.metering.meter import Meter
from pelagos_pipelines.steps import runs, seeds
from pelagos_pipelines.steps import train as step_of_training
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.storage import Place
from pelagos_pipelines.training import remote_weights
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training import killed
from training.killed import Moment
from training.shapes import make_request, make_version

SEEDS = [3, 1]
EVALUATION = {"perClassThresholds": True}


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("version"), (6, 3, 3), Task.CLASSIFICATION)


def request_for(version: tuple[str, str], **changes: Any) -> TrainingRequest:
    return make_request("mobilenet_v3_small", *version, imageSize=32, **changes)


def parameters(folder: Path, request: TrainingRequest, *tracked: str) -> tuple[str, str, str, str, str, str, str]:
    data, store, report, workspace = (str(folder / name) for name in ("data", "store", "report", "workspace"))
    uri, run = tracked or ("", "")
    return request.model_dump_json(by_alias=True), data, store, report, workspace, uri, run


def result_of(folder: Path) -> TrainingResult:
    return TrainingResult.model_validate_json((folder / "report" / "result.json").read_text())


@pytest.fixture(scope="module")
def whole(version: tuple[str, str], mlflow: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of two seeds: its folder, its result, and MLflow with the id of its run."""
    folder, client = tmp_path_factory.mktemp("whole"), MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    request = request_for(version, seed=SEEDS[0], seeds=SEEDS, epochs=2, evaluation=EVALUATION)
    perform(TRAINING.stages, *parameters(folder, request, mlflow.uri, run))
    return folder, result_of(folder), client, run


def test_metrics_are_means_with_sample_standard_deviations(whole: Any) -> None:
    _, result, _, _ = whole

    assert [each.seed for each in result.seeds] == SEEDS
    for name in ("test/accuracy", "test/F1", "test/recall"):
        values = [each.metrics[name] for each in result.seeds]
        assert result.metrics[name] == pytest.approx(statistics.fmean(values))
        assert result.deviations[name] == pytest.approx(statistics.stdev(values))
    assert result.warnings[0] == f"metrics are means of 2 trainings; the model is that of seed {result.seed}"


def test_each_seed_is_trained_as_if_it_were_alone(whole: Any, version: tuple[str, str], tmp_path: Path) -> None:
    folder, result, _, _ = whole
    chosen = result.seed
    perform(
        ("train", "evaluate"), *parameters(tmp_path, request_for(version, seed=chosen, epochs=2, evaluation=EVALUATION))
    )

    def left(workspace: Path, state: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((workspace / f"{state}.json").read_text())
        return found

    alone = left(tmp_path / "workspace", "train")
    assert left(folder / f"workspace/seeds/{chosen}", "train") == alone, "with the same weights, by their digest"
    (told,) = [each for each in result.seeds if each.seed == chosen]
    assert told.metrics == left(tmp_path / "workspace", "evaluation")["metrics"]
    assert left(folder / "workspace", "train")["bestSha256"] == alone["bestSha256"], "what is packaged"
    assert not list((folder / "workspace" / "seeds").rglob("last.pt"))


def test_the_model_is_that_of_the_fittest_seed_and_of_equals_of_the_lowest(whole: Any) -> None:
    folder, result, _, _ = whole
    found = {seed: json.loads((folder / f"workspace/seeds/{seed}/train.json").read_text())["metrics"] for seed in SEEDS}

    fit = {seed: (metrics["validation/F1"], -metrics["validation/loss"]) for seed, metrics in found.items()}
    assert result.seed == min(SEEDS, key=lambda seed: (-fit[seed][0], -fit[seed][1], seed))


def test_the_report_is_of_all_seeds_and_shows_the_model_that_is_kept(whole: Any) -> None:
    _, result, *_ = whole

    page = (Path(folder_of(result.model.uri)) / REPORT).read_text(encoding="utf-8")

    assert (
        f"Mean of 2 seeds, standard deviation {result.deviations['test/accuracy']:.3f}." in page or "Interval" in page
    )
    assert [f"<tr><td class=n>{seed}</td>" in page for seed in SEEDS] == [True, True]
    assert page.count("<td>kept</td>") == 1
    assert page.count("data:image/webp;base64,") >= 3, "its curves and its pictures"


def test_the_package_has_the_thresholds_of_the_chosen_seed_alone(whole: Any) -> None:
    folder, result, _, _ = whole
    package = json.loads((Path(result.model.uri) / "package.json").read_text())
    found = {
        seed: json.loads((folder / f"workspace/seeds/{seed}/measurement.json").read_text())["calibration"]["thresholds"]
        for seed in SEEDS
    }

    assert package["thresholds"]["classes"] == found[result.seed]
    assert found[SEEDS[0]] != found[SEEDS[1]]


def test_every_seed_has_a_run_below_that_of_the_training(whole: Any) -> None:
    _, result, client, parent = whole
    nested = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent}'")

    assert {run.info.run_name: run.info.status for run in nested} == {f"seed {seed}": "FINISHED" for seed in SEEDS}
    by_seed = {run.data.params["seed"]: run.data.metrics for run in nested}
    for each in result.seeds:
        assert by_seed[str(each.seed)]["test/accuracy"] == pytest.approx(each.metrics["test/accuracy"])
        assert by_seed[str(each.seed)]["progress/epoch"] == 2
    above = client.get_run(parent).data
    assert above.params["seed"] == "3, 1"
    assert above.metrics["test/accuracy"] == pytest.approx(result.metrics["test/accuracy"])
    assert above.metrics["deviation/test/accuracy"] == pytest.approx(result.deviations["test/accuracy"])
    assert above.metrics["progress/epoch"] == 4, "epochs of all trainings together"


def test_the_run_that_models_are_registered_from_has_the_checkpoint_of_the_chosen_seed(
    whole: Any, mlflow: MlflowServer, tmp_path: Path
) -> None:
    folder, result, client, parent = whole
    chosen = folder / f"workspace/seeds/{result.seed}/checkpoints/best.pt"
    weights = Weights(uri=f"runs:/{parent}/checkpoint/best.pt", sha256=sealing.digest_of(chosen))

    got = remote_weights.bring(weights, tmp_path / "start.pt", mlflow.uri)

    assert got.read_bytes() == chosen.read_bytes()
    assert client.get_run(parent).data.tags["pelagos.dev/checkpoint-sha256"] == weights.sha256


def test_a_run_that_is_killed_in_its_second_training_goes_on_there(
    whole: Any, version: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = request_for(version, seed=SEEDS[0], seeds=SEEDS, epochs=2)
    # An epoch has two steps, so the sixth is in the first epoch of the second training.
    assert killed.perform(tmp_path, request.model_dump_json(by_alias=True), Moment("in a step", 6)) == -signal.SIGKILL
    first = (tmp_path / "workspace/seeds/3/train.json").stat()
    trained: list[int] = []
    real = step_of_training._train

    def noted(run: Any, *rest: Any) -> None:
        trained.append(run.request.seed)
        real(run, *rest)

    monkeypatch.setattr(step_of_training, "_train", noted)
    perform(("train",), *parameters(tmp_path, request))
    perform(("train",), *parameters(tmp_path, request))

    assert trained == [1]
    assert (tmp_path / "workspace/seeds/3/train.json").stat() == first
    for seed in SEEDS:
        cut, uncut = (
            json.loads((folder / f"workspace/seeds/{seed}/train.json").read_text()) for folder in (tmp_path, whole[0])
        )
        assert cut == uncut


def test_a_seed_that_diverges_is_named(version: tuple[str, str], tmp_path: Path) -> None:
    request = request_for(version, seed=4, seeds=[4, 5], learningRate="1e30", optimizer="SGD", epochs=3)
    with pytest.raises(RefusedError, match=r"^seed 4: the loss became") as refused:
        perform(TRAINING.stages, *parameters(tmp_path, request))
    assert refused.value.failure.reason is Reason.TRAINING_DIVERGED


def test_figures_of_a_run_that_a_seed_ended_are_said_to_be_those_of_that_seed(tmp_path: Path) -> None:
    place = Place(str(tmp_path), tmp_path)
    places = runs.Places("", place, place, place, tmp_path, None)
    run = runs.Run(make_request("mobilenet_v3_small"), places, "", "", Meter(tmp_path / "cost.json"))
    training = run.one_of(runs.Part("seeds/4", "seed 4"), run.request)
    history = TrainingHistory(training.history, Tracker("", ""))
    history.record(1, {"validation/F1": 0.5})
    history.keep()

    with (
        pytest.raises(RefusedError),
        step_of_training._keeping_what_there_is(training, history, Tracker("", "")),
    ):
        raise RefusedError(Reason.TRAINING_DIVERGED, "the loss became infinite")

    assert run.measured["warnings"] == [
        "the training of seed 4 ended in epoch 2: figures are those of epoch 1, its best one"
    ]


def test_a_metric_that_one_training_lacks_has_no_mean() -> None:
    means, deviations = seeds.together([{"a": 1.0, "b": None}, {"a": 2.0, "b": 3.0}, {"a": 3.0}])

    assert means == {"a": 2.0, "b": None}
    assert deviations == {"a": 1.0}
