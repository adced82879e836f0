"""Trials that run at the same time behave as if each were alone, whatever ends the step, and no process is left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.tracking import MlflowClient

from mlflow_servers import MlflowServer
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.progress import DOCUMENT
from pelagos_contract.tasks import Task
from pelagos_pipelines.steps import runs
from pelagos_pipelines.steps.runs import Part
from pelagos_pipelines.steps.side_by_side import HaltedError, SideBySide
from pelagos_pipelines.steps.stages import perform
from pelagos_pipelines.training import processes
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.processes import ProcessFailedError
from pelagos_pipelines.training.tracking import Tracker
from pelagos_pipelines.training.training_history import TrainingHistory
from training.searching import GRID, PRUNED, VALUES, Trainer, history_of, make_run, make_trials, nothing, parameters
from training.shapes import make_request, make_version

RANGE = {"learningRate": {"minimum": "0.0001", "maximum": "0.1", "scale": "Log"}}
REAL = {
    "method": "Grid",
    "trials": 3,
    "parallelism": 2,
    "space": {"learningRate": {"values": ["0.001", "0.02", "1e30"]}},
}
"""A search with real trainings, the last of which diverges."""


def mixed(works: Sequence[Callable[[], None]]) -> None:
    """Run the trials of a round in a shuffled order, as they might end."""
    for work in random.Random(len(works)).sample(works, len(works)):
        work()


class Distant(Trainer):
    """Each trial has three epochs and scores better the closer its learning rate is to 0.01."""

    def __init__(self, die_at: int | None = None) -> None:
        super().__init__({}, die_at)

    def __call__(self, training: runs.Run, after: Any) -> None:
        rate = training.request.hyperparameters.learning_rate
        self.values[rate] = [1 - abs(float(rate) - 0.01) - 0.01 * epoch for epoch in (3, 2, 1)]
        super().__call__(training, after)


@pytest.mark.parametrize("method", ["Random", "Tpe"])
def test_what_is_tried_follows_from_earlier_rounds_alone_also_after_interruptions(method: str, tmp_path: Path) -> None:
    wanted = {"method": method, "trials": 15, "space": RANGE, "pruning": {"startupTrials": 2}}
    told = []
    for name, parallelism, together in (("one", 1, mixed), ("three", 3, mixed), ("ordered", 3, None)):
        more = {} if together is None else {"together": together}
        make_trials(tmp_path / name, Distant(), wanted | {"parallelism": parallelism}, **more).perform(nothing)
        told.append(history_of(tmp_path / name, wanted))
    cut, trained = wanted | {"parallelism": 3}, []
    for _ in range(60):
        trainer = Distant(die_at=4)
        with suppress(KeyboardInterrupt):
            make_trials(tmp_path / "cut", trainer, cut, mixed).perform(nothing)
        trained += trainer.trained
        if not trainer.trained:
            break

    alone, three, ordered = told
    assert three == ordered == history_of(tmp_path / "cut", wanted)
    assert len(set(trained)) == len(trained) == sum(trial.epochs for trial in three), "no epoch is trained again"
    tried = [trial.parameters["learningRate"] for trial in three]
    assert len(set(tried)) == 15, "trials of a round keep away from each other"
    assert (tried == [trial.parameters["learningRate"] for trial in alone]) is (method == "Random")


def test_a_trial_is_pruned_by_earlier_rounds_alone(tmp_path: Path) -> None:
    make_trials(tmp_path, Trainer(VALUES), PRUNED | {"parallelism": 2}, mixed).perform(nothing)
    told = history_of(tmp_path, PRUNED)

    # One at a time, the second trial would be pruned: see test_search.
    assert [(each.state, each.epochs) for each in told] == [("Completed", 3)] * 3 + [("Failed", 0)]


def test_of_trials_that_may_have_ended_the_process_each_goes_on_alone(tmp_path: Path) -> None:
    wanted, deadly, rounds = GRID | {"parallelism": 3}, {"0.01"}, list[int]()

    def train(training: runs.Run, after: Any) -> None:
        if training.request.hyperparameters.learning_rate in deadly or len(rounds) == 1:
            raise KeyboardInterrupt
        Trainer(VALUES)(training, after)

    def together(works: Sequence[Callable[[], None]]) -> None:
        """Start all of them; if any of them ends the process, it ends after all have started."""
        rounds.append(len(works))
        ends = []
        for work in works:
            try:
                work()
            except KeyboardInterrupt as end:
                ends.append(end)
        if ends:
            raise ends[0]

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            make_trials(tmp_path, train, wanted, together).perform(nothing)
    make_trials(tmp_path, train, wanted, together).perform(nothing)

    told = history_of(tmp_path, wanted)
    assert [each.state for each in told] == ["Completed", "Failed", "Completed", "Failed"]
    assert [each.reason for each in told] == [None, "PipelineInterrupted", None, Reason.OUT_OF_MEMORY]
    # All three; the first, which completes; the second, which ends the process again; the second, which is given up;
    # the third; an empty rest of the round; the next round.
    assert rounds == [3, 1, 1, 1, 1, 0, 1]


# ---- processes


class Calling:
    """Unpickling it calls ``called``: a process does so as soon as it receives what to train."""

    def __init__(self, called: Callable[..., Any], *arguments: Any) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self) -> Any:
        return self.called, self.arguments


def refuse() -> None:
    raise RefusedError(Reason.OUT_OF_MEMORY, "memory ran out")


def children(process: int) -> list[int]:
    """Training processes, started by any thread of this one."""
    listed = " ".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children"))
    return [int(one) for one in listed.split() if is_there(int(one))]


def is_there(process: int) -> bool:
    try:
        return processes.__name__ in Path(f"/proc/{process}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return False


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_when_one_dies_the_others_are_ended_and_a_refusal_is_for_its_trial_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path, GRID)
    beside, ended = SideBySide(run, 3), dict[int, Exception]()

    def work(number: int, truth: Any) -> None:
        training = run.one_of(Part(f"trials/{number}", f"trial {number}"), run.request)
        history = TrainingHistory(training.history, Tracker("", ""))
        try:
            beside.train(training, Job(run.request, truth, tmp_path, None), history)
        except RefusedError as refused:
            ended[number] = refused
        except Exception as error:
            ended[number] = error
            raise

    beside.perform([lambda: work(0, Calling(refuse))])
    assert isinstance(ended.pop(0), RefusedError)
    truths = (Calling(time.sleep, 600), Calling(os.kill, Calling(os.getpid), signal.SIGKILL), Calling(time.sleep, 600))
    with pytest.raises(
        ProcessFailedError, match="the process of the training was ended with SIGKILL; if nobody did that"
    ):
        beside.perform([partial(work, *one) for one in enumerate(truths)])

    assert [type(ended[number]) for number in range(3)] == [HaltedError, ProcessFailedError, HaltedError]
    assert not children(os.getpid())
    assert not run.places.workspace.changing


@pytest.mark.parametrize(
    ("asked", "visible", "count", "want"),
    [
        (4, "", 2, ["0,1", "2,3"]),
        (5, "", 2, ["0,1", "2,3"]),
        (3, "GPU-a,GPU-b,GPU-c", 3, ["GPU-a", "GPU-b", "GPU-c"]),
        # One machine with fewer GPUs than requested.
        (8, "7,9", 4, ["7", "9"]),
        (0, "", 2, ["0"]),
    ],
)
def test_each_has_whole_gpus(
    asked: int, visible: str, count: int, want: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(visible.split(",")) if visible else 6)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    run = make_run(tmp_path, GRID)
    request = run.request.model_copy(update={"resources": run.request.resources.model_copy(update={"gpus": asked})})
    training = run.one_of(Part("trials/0", "trial 0"), request)

    seats = SideBySide(training, count)._free
    assert [seat.variables(training)["CUDA_VISIBLE_DEVICES"] for seat in seats] == want
    assert all(seat.cpu == 1 for seat in seats)


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_version(tmp_path_factory.mktemp("version"), (6, 3, 3), Task.CLASSIFICATION)


def step_that_is_killed(*arguments: str) -> None:
    """A step killed by SIGKILL once two trials have finished two of their three epochs."""
    keep, epochs = runs.Run.keep_epoch, []

    def deadly(self: runs.Run) -> bool:
        epochs.append(keep(self))
        if len(epochs) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    runs.Run.keep_epoch = deadly  # type: ignore[method-assign]
    perform(("train",), *arguments)


def test_a_search_goes_on_after_the_step_was_killed_as_if_each_trial_were_alone(
    version: tuple[str, str], mlflow: MlflowServer, tmp_path: Path
) -> None:
    request = make_request("mobilenet_v3_small", *version, imageSize=32, optimizer="SGD", epochs=3, search=REAL)
    workspace, client = tmp_path / "workspace", MlflowClient(mlflow.uri)
    parent = client.create_run("0").info.run_id

    step = multiprocessing.get_context("fork").Process(target=step_that_is_killed, args=parameters(tmp_path, request))
    step.start()
    assert step.pid is not None
    started = wait_for(lambda: found if len(found := children(step.pid or 0)) == 2 else None)
    step.join()
    assert step.exitcode == -signal.SIGKILL
    wait_for(lambda: not any(map(is_there, started)))

    told = json.loads((tmp_path / "report" / DOCUMENT).read_text())
    assert json.dumps(told).count("Running") == 2, "both are shown"
    before = [row for trial in range(2) for row in rows(workspace, trial)]
    perform(("train",), *parameters(tmp_path, request, mlflow.uri, parent))

    assert not children(os.getpid())
    after = [row for trial in range(2) for row in rows(workspace, trial)]
    assert len(before) >= 2
    assert len(after) == 6
    assert sum(row in after for row in before) >= 2, "epochs that were kept are not trained again"
    journal = json.loads((workspace / "search-journal.json").read_text())["trials"]
    assert [trial["state"] for trial in journal] == ["Completed", "Completed", "Failed"]
    assert journal[2]["reason"] == Reason.TRAINING_DIVERGED
    nested = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert {run.info.run_name: run.info.status for run in nested} == {
        "trial 0": "FINISHED",
        "trial 1": "FINISHED",
        "trial 2": "FAILED",
    }
    assert client.get_run(parent).data.metrics["progress/epoch"] == 12, "of trials and training together"

    best = max(journal[:2], key=lambda trial: trial["value"])["parameters"]
    single = make_request(
        "mobilenet_v3_small", *version, imageSize=32, optimizer="SGD", epochs=3, resources={"cpu": 1}, **best
    )
    perform(("train",), *parameters(tmp_path / "alone", single))
    taken, alone = (json.loads((each / "workspace/train.json").read_text()) for each in (tmp_path, tmp_path / "alone"))
    assert taken == alone, "what a training with one core leaves"


def rows(workspace: Path, trial: int) -> list[Any]:
    path = workspace / f"trials/{trial}/history.json"
    return json.loads(path.read_text()) if path.exists() else []
