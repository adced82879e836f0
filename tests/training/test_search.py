"""A search: trials are separate trainings, judged on validation and kept in a journal; the final model follows the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.flows import TRAINING
from pelagos_contract.search import TrialState
from pelagos_contract.tasks import Task
from pelagos_contract.training import TrainingRequest, TrainingResult
from pelagos_pipelines.steps import evaluate, runs, train
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.training.processes import ProcessFailedError
from pelagos_pipelines.training.tracking import Tracker, TrackingError
from pelagos_pipelines.training.training_history import TrainingHistory
from training.searching import GRID, PRUNED, VALUES, Trainer, history_of, make_run, make_trials, nothing, parameters
from training.shapes import make_request, make_version

SAMPLE = Path(__file__).parents[2] / "manifests/samples/search/trainingrun.yaml"
REAL = {"method": "Grid", "trials": 3, "space": {"learningRate": {"values": ["0.001", "0.02", "1e30"]}}}
"""A search with real trainings, the last of which diverges."""


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("version"), (6, 3, 3), Task.CLASSIFICATION)


def request_for(version: tuple[str, str], **changes: Any) -> TrainingRequest:
    return make_request("mobilenet_v3_small", *version, imageSize=32, optimizer="SGD", **changes)


def result_of(folder: Path) -> TrainingResult:
    return TrainingResult.model_validate_json((folder / "report" / "result.json").read_text())


@pytest.fixture(scope="module")
def whole(version: tuple[str, str], mlflow: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished search with three real trials, one of which diverges: its folder, its result, and MLflow with its run's id."""
    folder, client = tmp_path_factory.mktemp("whole"), MlflowClient(mlflow.uri)
    run = client.create_run("0").info.run_id
    perform(TRAINING.stages, *parameters(folder, request_for(version, search=REAL, epochs=2), mlflow.uri, run))
    return folder, result_of(folder), client, run


def test_trials_are_told_and_one_that_diverges_is_a_failed_trial(whole: Any) -> None:
    _, result, _, _ = whole
    told = result.search

    assert (told.metric, told.trials) == ("validation/F1", 3)
    assert [each.state for each in told.history] == ["Completed", "Completed", "Failed"]
    assert [each.parameters for each in told.history] == [{"learningRate": rate} for rate in ("0.001", "0.02", "1e30")]
    assert told.history[2].reason == Reason.TRAINING_DIVERGED
    assert "now 1e30" in (told.history[2].message or "")
    assert told.best == max(told.history[:2], key=lambda each: each.value).number


def test_the_model_is_that_of_the_best_trial_which_is_not_trained_again(
    whole: Any, version: tuple[str, str], tmp_path: Path
) -> None:
    folder, result, _, _ = whole
    best = result.search.history[result.search.best]
    perform(("train", "evaluate"), *parameters(tmp_path, request_for(version, epochs=2, **best.parameters)))

    alone, taken = (json.loads((each / "workspace" / "train.json").read_text()) for each in (tmp_path, folder))
    assert taken == alone, "what a training with these hyperparameters leaves"
    measured = json.loads((tmp_path / "workspace" / "evaluation.json").read_text())
    assert {name: value for name, value in result.metrics.items() if name.startswith("test/")} == measured["metrics"]
    left = {
        path.relative_to(folder / "workspace" / "trials").parts[0] for path in folder.rglob("trials/*/checkpoints/*.pt")
    }
    assert left == {str(best.number)}, "weights of other trials fill the storage"


def test_the_seed_of_the_trials_takes_the_best_of_them_and_the_others_are_trained(
    version: tuple[str, str], tmp_path: Path
) -> None:
    wanted = {"method": "Grid", "trials": 1, "space": {"learningRate": {"values": ["0.001"]}}}
    perform(("train",), *parameters(tmp_path, request_for(version, search=wanted, seed=3, seeds=[3, 4])))
    workspace = tmp_path / "workspace"

    tried = (workspace / "trials/0/history.json").read_bytes()
    assert (workspace / "seeds/3/history.json").read_bytes() == tried, "with the time that each epoch took"
    assert (workspace / "seeds/4/history.json").read_bytes() != tried
    states = [json.loads((workspace / "seeds" / seed / "train.json").read_text()) for seed in "34"]
    assert states[0]["bestSha256"] != states[1]["bestSha256"]
    assert json.loads((workspace / "train.json").read_text())["seed"] in (3, 4)


def test_mlflow_has_a_run_for_each_trial_and_the_hyperparameters_that_won(whole: Any) -> None:
    _, result, client, parent = whole
    nested = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent}'")
    best = result.search.history[result.search.best]

    assert {run.info.run_name: run.info.status for run in nested} == {
        "trial 0": "FINISHED",
        "trial 1": "FINISHED",
        "trial 2": "FAILED",
    }
    assert {run.data.params["learningRate"] for run in nested} == {"0.001", "0.02", "1e30"}
    assert not any(name.startswith("test/") for run in nested for name in run.data.metrics), (
        "nobody looks at the test split"
    )
    above = client.get_run(parent).data
    assert above.params["learningRate"] == best.parameters["learningRate"]
    assert above.metrics["search/best"] == pytest.approx(best.value)
    assert json.loads(above.tags["pelagos.dev/search"])["number"] == best.number
    assert above.metrics["progress/epoch"] == 8, "of trials and training together"


def test_the_sample_works_in_a_tiny_configuration(version: tuple[str, str], tmp_path: Path) -> None:
    """The sample of manifests/samples/search, with fewer and shorter trainings on smaller images."""
    spec = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))["spec"]
    wanted = spec["search"] | {"trials": 2, "epochs": 1}
    seeds = spec["seeds"][:2]
    request = make_request(
        spec["model"]["architecture"], *version, imageSize=32, epochs=2, search=wanted, seed=seeds[0], seeds=seeds
    )
    perform(("train", "evaluate"), *parameters(tmp_path, request))
    workspace = tmp_path / "workspace"

    tried = json.loads((workspace / "search-journal.json").read_text())["trials"]
    assert [trial["state"] for trial in tried] == ["Completed", "Completed"]
    assert {tuple(trial["parameters"]) for trial in tried} == {tuple(spec["search"]["space"])}
    measured = json.loads((workspace / "evaluation.json").read_text())
    assert [each["seed"] for each in measured["seeds"]] == seeds
    # Trials use the trials' number of epochs, the final trainings their own.
    assert len(json.loads((workspace / "trials/0/history.json").read_text())) == 1
    assert [each["epochs"] for each in measured["seeds"]] == [2, 2]


# ---- the journal, with trainings that take no time


def test_a_search_goes_on_where_it_was_interrupted_and_tries_the_same(tmp_path: Path) -> None:
    uncut = Trainer(VALUES)
    best = make_trials(tmp_path / "uncut", uncut, PRUNED).perform(nothing)
    epochs = []
    for deaths in range(1, len(uncut.trained) + 1):
        trainer = Trainer(VALUES, die_at=1 if deaths < len(uncut.trained) else None)
        if deaths < len(uncut.trained):
            with pytest.raises(KeyboardInterrupt):
                make_trials(tmp_path / "cut", trainer, PRUNED).perform(nothing)
        else:
            assert make_trials(tmp_path / "cut", trainer, PRUNED).perform(nothing).number == best.number
        epochs += trainer.trained

    assert epochs == uncut.trained
    assert history_of(tmp_path / "cut", PRUNED) == history_of(tmp_path / "uncut", PRUNED)


def test_a_trial_that_does_worse_than_its_predecessors_is_pruned(tmp_path: Path) -> None:
    trainer = Trainer(VALUES)
    best = make_trials(tmp_path, trainer, PRUNED).perform(nothing)
    told = history_of(tmp_path, PRUNED)

    assert [each.state for each in told] == ["Completed", "Pruned", "Completed", "Failed"]
    assert [each.epochs for each in told] == [3, 1, 3, 0]
    assert (best.number, best.value) == (2, 0.7), "the metric of its best epoch"
    assert told[3].reason == Reason.OUT_OF_MEMORY


def test_the_smallest_loss_is_the_best(tmp_path: Path) -> None:
    class Losing(Trainer):
        def __call__(self, training: runs.Run, after: Any) -> None:
            history = TrainingHistory(training.history, Tracker("", ""))
            loss = float(training.request.hyperparameters.learning_rate)
            history.record(1, {"validation/F1": 0.5, "validation/loss": loss})
            after(history.epochs[-1])

    best = make_trials(tmp_path, Losing({}), GRID | {"metric": "validation/loss"}).perform(nothing)

    assert best.parameters == {"learningRate": "0.001"}


@pytest.mark.parametrize("death", [KeyboardInterrupt, ProcessFailedError])
def test_a_trial_that_takes_its_process_with_it_twice_is_given_up(death: type[BaseException], tmp_path: Path) -> None:
    """As when the kernel kills the step, or a process sharing the training, for lack of memory: the step is started again."""
    values = VALUES | {"0.001": [0.5] * 3}
    for _ in range(2):
        with pytest.raises(death):
            make_trials(tmp_path, Trainer(values, die_at=0, death=death), GRID).perform(nothing)
    make_trials(tmp_path, Trainer(values), GRID).perform(nothing)
    first, second, *_ = history_of(tmp_path, GRID)

    assert (first.state, first.reason) == ("Failed", "PipelineInterrupted")
    assert first.message == "its process was ended from outside 2 times in epoch 1; most likely memory ran out"
    assert second.state == "Completed"


def test_a_trial_whose_tracker_stays_away_is_not_given_up(tmp_path: Path) -> None:
    """Each attempt fails with an error after its epochs are trained, which says nothing against the hyperparameters."""

    def away(training: runs.Run, after: Any) -> None:
        Trainer(VALUES)(training, after)
        raise TrackingError("MLflow did not take it")

    for _ in range(4):
        with pytest.raises(TrackingError):
            make_trials(tmp_path, away, GRID).perform(nothing)
    make_trials(tmp_path, Trainer(VALUES), GRID).perform(nothing)

    first, *_ = history_of(tmp_path, GRID)
    assert (first.state, first.value, first.epochs) == ("Completed", 0.6, 3)


def test_what_follows_a_search_has_the_hyperparameters_that_won(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise Weights & Biases would receive the spec's hyperparameters after the evaluation."""
    make_trials(tmp_path, Trainer(VALUES), GRID).perform(nothing)
    told: list[str] = []
    monkeypatch.setattr(evaluate, "_measure", nothing)
    monkeypatch.setattr(evaluate, "_tell", lambda run, _: told.append(train.parameters(run.request)["learningRate"]))
    evaluate.stage(make_run(tmp_path, GRID))

    assert told == ["0.02"]


def test_a_search_of_which_no_trial_is_completed_says_why(tmp_path: Path) -> None:
    values = {rate: [float("inf")] for rate in VALUES}
    with pytest.raises(
        RefusedError, match="none of 4 trials was completed; the last one, with learningRate 1e30"
    ) as refused:
        make_trials(tmp_path, Trainer(values), GRID).perform(nothing)
    assert (refused.value.failure.reason, refused.value.failure.field) == (Reason.SEARCH_FAILED, "search.space")
    # Someone has corrected the cause and asks for another attempt: all trials are tried again.
    again = Trainer(VALUES)
    assert make_trials(tmp_path, again, GRID).perform(nothing).number == 2
    assert again.trained[0] == (0, 1)


def test_a_search_by_what_the_validation_split_does_not_have_ends_after_one_trial(tmp_path: Path) -> None:
    def unmeasured(training: runs.Run, after: Any) -> None:
        history = TrainingHistory(training.history, Tracker("", ""))
        history.record(1, {"validation/loss": 0.5})
        after(history.epochs[-1])

    with pytest.raises(
        RefusedError, match="trials cannot be compared by validation/F1: the validation split has nothing"
    ):
        make_trials(tmp_path, unmeasured, GRID).perform(nothing)


def test_what_no_trial_can_help_ends_the_search(tmp_path: Path) -> None:
    def full(training: runs.Run, after: Any) -> None:
        raise RefusedError(Reason.DISK_FULL, "no space is left")

    with pytest.raises(RefusedError, match="no space is left"):
        make_trials(tmp_path, full, GRID).perform(nothing)
    (trial,) = history_of(tmp_path, GRID)
    assert trial.state is TrialState.RUNNING
