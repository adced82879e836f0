"""Several seeds: one run, metrics that are means with deviations, and gates that judge the mean or the worst."""

from __future__ import annotations

import json
from typing import Any

import pytest

import builders
from builders import (
    dataset_seen,
    dataset_version,
    make_run,
    make_tracked,
    make_training_observed,
    trained,
    training_result,
    training_run_spec,
)
from pelagos.api.training_run import SeedStatus
from pelagos.decisions import training_run
from pelagos.decisions.effects import SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity
from pelagos.decisions.verdicts import Decision, summary
from pelagos.ports.pipelines import RunState
from pelagos_contract.progress import Progress, SeedProgress, SeedState, Stage

SEEDS = [0, 1, 2]
VALUES = {0: 0.7, 1: 0.9, 2: 0.8}


def result(**metrics: float | None) -> dict[str, Any]:
    """The result of three trainings whose mAP50 differ; the best one by validation is that of seed 1."""
    each = [
        {"seed": seed, "epochs": 10, "bestEpoch": 8, "fitness": 0.5, "metrics": {"test/mAP50": value}}
        for seed, value in VALUES.items()
    ]
    return training_result(**metrics) | {"deviations": {"test/mAP50": 0.1}, "seeds": each, "seed": 1}


def judge(**gate: str) -> Decision:
    bound = {} if "maximum" in gate else {"minimum": "0.75"}
    spec = training_run_spec(seeds=SEEDS, gates=[{"metric": "test/mAP50", **bound, **gate}])
    frozen = identity.freeze(spec, dataset_version())
    return training_run.decide(trained(spec=spec, frozen=frozen, report=Report(result=result())))


def submitted(seeds: list[int]) -> dict[str, Any]:
    spec, candidate = training_run_spec(seeds=seeds), dataset_version()
    seen = make_training_observed(
        spec=spec,
        frozen=identity.freeze(spec, candidate),
        tracked=make_tracked(),
        dataset=dataset_seen(candidate=candidate),
    )
    (effect,) = training_run.decide(seen).effects
    assert isinstance(effect, SubmitRun)
    request: dict[str, Any] = json.loads(effect.request.parameters["request"])
    return request


def test_one_run_trains_all_seeds() -> None:
    assert (submitted([7, 3])["seed"], submitted([7, 3])["seeds"]) == (7, [7, 3])
    assert "seeds" not in submitted([7]), "what steps of earlier releases understand"


def test_figures_are_means_with_their_deviations_and_those_of_each_seed() -> None:
    status = judge().status

    assert status["metrics"]["test/mAP50"] == "0.8000"
    assert status["deviations"] == {"test/mAP50": "0.1000"}
    assert status["primaryMetric"] == "mAP50 0.800 ± 0.100"
    assert status["seeds"][1] == {
        "seed": 1,
        "state": "Evaluated",
        "epoch": 10,
        "fitness": "0.5000",
        "metrics": {"test/mAP50": "0.9000"},
        "chosen": True,
    }
    assert [seed.get("chosen") for seed in status["seeds"]] == [None, True, None]


def test_gates_judge_the_mean_unless_they_ask_for_the_worst() -> None:
    (gate,) = judge().status["gates"]
    assert (gate["value"], gate["passed"]) == ("0.8000", True)
    decision = judge(seeds="Worst")
    (gate,) = decision.status["gates"]
    assert (gate["value"], gate["seed"], gate["passed"]) == ("0.7000", 0, False)
    assert summary(decision).message.startswith(
        "spec.gates[0]: test/mAP50 is 0.7000 with seed 0, the minimum is 0.75. "
    )


def test_under_a_maximum_the_worst_is_the_largest() -> None:
    (gate,) = judge(seeds="Worst", maximum="0.85").status["gates"]

    assert gate == {"metric": "test/mAP50", "maximum": "0.85", "value": "0.9000", "seed": 1, "passed": False}


def test_the_worst_of_one_seed_is_its_value() -> None:
    spec = training_run_spec(gates=[{"metric": "test/mAP50", "minimum": "0.75", "seeds": "Worst"}])
    (gate,) = training_run.decide(trained(spec=spec)).status["gates"]

    assert gate == {"metric": "test/mAP50", "minimum": "0.75", "value": "0.8000", "passed": True}


def test_progress_is_of_all_trainings_and_tells_each() -> None:
    spec = training_run_spec(seeds=SEEDS)
    told = Progress(
        stage=Stage.TRAINING,
        seeds=[
            SeedProgress(seed=0, state=SeedState.TRAINED, epoch=10, fitness=0.25),
            SeedProgress(seed=1, state=SeedState.TRAINING, epoch=5),
            SeedProgress(seed=2, state=SeedState.WAITING),
        ],
    )
    seen = make_training_observed(
        spec=spec,
        frozen=identity.freeze(spec, dataset_version()),
        tracked=make_tracked(metrics={"progress/epoch": 15.0}),
        run=make_run(RunState.RUNNING),
        told=told,
    )
    status = training_run.decide(seen).status

    assert (status["progress"]["epoch"], status["progress"]["epochs"], status["progress"]["percent"]) == (15, 30, 50)
    assert status["seeds"] == [
        {"seed": 0, "state": "Trained", "epoch": 10, "fitness": "0.2500"},
        {"seed": 1, "state": "Training", "epoch": 5},
        {"seed": 2, "state": "Waiting"},
    ]


def test_what_was_told_stays_when_steps_say_nothing_now() -> None:
    stated = (SeedStatus(seed=0, state="Trained"), SeedStatus(seed=1, state="Training"))
    spec = training_run_spec(seeds=[0, 1])
    seen = make_training_observed(
        spec=spec,
        frozen=identity.freeze(spec, dataset_version()),
        tracked=make_tracked(),
        run=make_run(RunState.FAILED),
        stated_seeds=stated,
    )

    assert [seed["state"] for seed in training_run.decide(seen).status["seeds"]] == ["Trained", "Training"]


@pytest.mark.parametrize("seeds", [[1, 1], [0, 2, 0]])
def test_a_seed_is_named_once(seeds: list[int]) -> None:
    decision = training_run.decide(make_training_observed(spec=training_run_spec(seeds=seeds)))

    assert builders.conditions(decision)["DatasetReady"] == ("Refused", "InvalidSpec")
    assert f"spec.seeds must name each seed once; it is {seeds}" in summary(decision).message
