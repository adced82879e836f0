"""A model replaces the champion if it is no worse on the same images, whatever else competes for it at the same time."""

from __future__ import annotations

import json
from typing import Any

import pytest

import builders
import simulation
from pelagos.api import kinds, meta
from pelagos.ports.cluster import Key
from pelagos_contract.tags import EVIDENCE_SHA256_TAG
from simulation import Simulation

GATE: dict[str, Any] = {"metric": "mAP50", "champion": {"alias": "champion", "require": "Better"}}


def train(world: Simulation, name: str, value: float, *gates: dict[str, Any], **spec: Any) -> Key:
    """A TrainingRun with unique inputs, whose model will have this mAP50."""
    seed = int(value * 1000)
    world.data_plane.metrics = {"test/mAP50": value}
    spec = builders.changed(builders.TRAINING_RUN, {"seeds": [seed], "gates": list(gates or (GATE,)), **spec})
    return world.create(kinds.TRAINING_RUN, name, spec)


def trained(world: Simulation, name: str, value: float, *gates: dict[str, Any], **spec: Any) -> Key:
    """The same, once it has ended."""
    key = train(world, name, value, *gates, **spec)
    world.run_until(lambda: has_ended(world, key))
    return key


def has_ended(world: Simulation, key: Key) -> bool:
    found = world.cluster.get(key)
    assert found is not None
    conditions = found.status.get("conditions", ())
    return any(each["type"] == "Succeeded" and each["status"] in {"True", "False"} for each in conditions)


def champion(world: Simulation) -> str | None:
    found = world.ask(world.registry.find_by_alias("detector", "champion"))
    return found.version if found is not None else None


def attempts(world: Simulation, key: Key) -> list[int]:
    resource = world.cluster.get(key)
    assert resource is not None
    runs = world.pipelines.runs.values()
    return [run.run.attempt for run in runs if run.request.labels[meta.UID_LABEL] == resource.uid]


def gate_of(world: Simulation, key: Key) -> dict[str, Any]:
    (gate,) = simulation.status(world, key)["gates"]
    return dict(gate)


@pytest.fixture
def one(world: Simulation) -> Simulation:
    """A champion with an mAP50 of 0.6."""
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.start()
    key = trained(world, "first", 0.6)
    assert world.condition(key, "GatesPassed")["message"] == (
        "1 of 1 passed; there is no champion of 'detector' yet to compare with"
    )
    assert gate_of(world, key) == {
        "metric": "test/mAP50",
        "value": "0.6000",
        "champion": {"model": "detector"},
        "passed": True,
    }
    assert champion(world) == "1"
    return world


def test_a_better_model_takes_its_place_and_a_worse_one_is_not_registered(one: Simulation) -> None:
    better, worse = trained(one, "better", 0.7), trained(one, "worse", 0.65)

    assert champion(one) == "2"
    assert one.ready(better)["status"] == "True"
    assert gate_of(one, better) == {
        "metric": "test/mAP50",
        "value": "0.7000",
        "champion": {
            "model": "detector",
            "version": "1",
            "value": "0.6000",
            "difference": "+0.1000",
            "interval": {"low": "+0.0900", "high": "+0.1100", "level": "0.95"},
        },
        "passed": True,
    }
    assert one.ready(worse)["reason"] == "GateFailed"
    assert one.ready(worse)["message"].startswith(
        "spec.gates[0].champion: test/mAP50 is 0.6500, and 0.7000 of version 2 of 'detector': a difference of -0.0500 (95 % "
        "interval -0.0600 to -0.0400); all of the interval must be above 0: it needs a better model"
    )
    assert one.registry.created == 2


@pytest.mark.parametrize(("tolerance", "passed"), [("0.05", False), ("0.07", True)])
def test_one_that_is_worse_by_no_more_than_the_tolerance_is_not_worse(
    one: Simulation, tolerance: str, passed: bool
) -> None:
    key = trained(one, "second", 0.55, {"metric": "mAP50", "champion": {"tolerance": tolerance}})

    assert gate_of(one, key)["passed"] is passed
    assert champion(one) == ("2" if passed else "1")


@pytest.mark.parametrize("second", [0.75, 0.65], ids=["better", "worse"])
def test_of_two_that_train_at_once_the_second_is_compared_with_the_first(one: Simulation, second: float) -> None:
    one.data_plane.halted = True
    keys = [train(one, "one", 0.7), train(one, "other", second)]
    one.run_until(lambda: all(one.ready(key).get("reason") in {"Queued", "Submitting"} for key in keys))
    one.run(3)
    for key, value in zip(keys, (0.7, second), strict=True):
        (name,) = [
            run.run.name
            for run in one.pipelines.runs.values()
            if run.request.labels["pelagos.dev/resource"].endswith(key.name)
        ]
        one.data_plane.metrics = {"test/mAP50": value}
        one.data_plane.finish(name)
    one.data_plane.halted = False
    one.run_until(lambda: all(has_ended(one, key) for key in keys))

    taken = [gate_of(one, key)["champion"]["version"] for key in keys]
    assert sorted(taken) == ["1", "2"], "each was judged by the champion that it took the place of, or would have"
    assert sorted(attempts(one, keys[0]) + attempts(one, keys[1])) == [1, 2], "nothing is trained again, but compared"
    best = max(0.7, second)
    found = one.ask(one.registry.find_by_alias("detector", "champion"))
    assert found is not None
    assert one.data_plane.known_answers[found.tags[EVIDENCE_SHA256_TAG]] == {"test/mAP50": best}


def test_a_model_that_was_registered_stays_what_it_is_when_another_one_takes_its_place(one: Simulation) -> None:
    better = trained(one, "better", 0.7)
    trained(one, "best", 0.8)
    one.run(60)

    assert champion(one) == "3"
    assert (one.ready(better)["status"], attempts(one, better)) == ("True", [1])
    assert gate_of(one, better)["champion"]["version"] == "1"


def test_a_champion_of_which_nothing_is_known_is_said_before_anything_is_made(world: Simulation) -> None:
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.registry.plant("detector", {})
    world.registry.set_alias("detector", "champion", "1")
    world.start()
    key = train(world, "one", 0.7)
    world.run_until(lambda: world.ready(key).get("status") == "False")

    assert world.ready(key)["reason"] == "ChampionNotComparable"
    assert world.ready(key)["message"].startswith(
        "spec.gates[0].champion: version 1 of 'detector' was not registered by a TrainingRun of this namespace"
    )
    assert attempts(world, key) == []
    world.cluster.edit(key, {"gates": []})
    world.run_until(lambda: world.ready(key).get("status") == "True")


def test_of_a_champion_without_evidence_a_gate_states_what_pelagos_evaluate_kept(world: Simulation) -> None:
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.data_plane.keeps_evidence = False
    world.start()
    trained(world, "first", 0.6)
    world.data_plane.keeps_evidence = True
    key = train(world, "second", 0.7)
    world.run_until(lambda: world.ready(key).get("status") == "False")

    assert world.ready(key)["reason"] == "ChampionNotComparable"
    assert world.ready(key)["message"].startswith(
        "spec.gates[0].champion: no results of version 1 of 'detector' for each image of the test split were kept; run pelagos "
        "evaluate detector/1 --dataset frames, and set evidence to what it prints, or train it"
    )

    digest = "e" * 64
    stated = {"metric": "mAP50", "champion": {"alias": "champion", "require": "Better", "evidence": digest}}
    world.cluster.edit(key, {"gates": [stated]})
    world.run_until(lambda: "there is no evidence" in world.ready(key).get("message", ""))
    assert attempts(world, key) == []

    world.objects.put(f"models/{key.namespace}/evidence/{digest}.npz", {})
    world.data_plane.known_answers[f"sha256:{digest}"] = {"test/mAP50": 0.6}
    world.cluster.annotate(key, "pelagos.dev/retry", "now")
    world.run_until(lambda: has_ended(world, key))

    assert gate_of(world, key)["champion"]["difference"] == "+0.1000"
    assert champion(world) == "2"
    (found,) = [
        run.request.parameters["request"]
        for run in world.pipelines.runs.values()
        if "second" in str(run.request.labels)
    ]
    (asked,) = json.loads(found)["champions"]
    assert asked["evidenceUri"] == world.objects.uri(f"models/{key.namespace}/evidence/{digest}.npz")
    assert asked["package"], "the step is told of which package it must be"


def test_other_evidence_of_the_same_version_is_compared_with_anew(one: Simulation) -> None:
    key = trained(one, "second", 0.55)
    assert gate_of(one, key)["passed"] is False
    digest = "e" * 64
    one.objects.put(f"models/{key.namespace}/evidence/{digest}.npz", {})
    one.data_plane.known_answers[f"sha256:{digest}"] = {"test/mAP50": 0.5}
    one.cluster.edit(key, {"gates": [{"metric": "mAP50", "champion": {"evidence": digest}}]})
    one.run_until(lambda: gate_of(one, key)["passed"])

    assert gate_of(one, key)["champion"]["value"] == "0.5000"
    assert attempts(one, key) == [2], "nothing is trained again"
    assert champion(one) == "2"


def test_a_version_that_there_is_not_passes_nobody(one: Simulation) -> None:
    key = trained(one, "second", 0.7, {"metric": "mAP50", "champion": {"version": 7}})

    assert one.ready(key)["reason"] == "ChampionNotComparable"
    assert "the registered model 'detector' has no version 7; name another one" in one.ready(key)["message"]


def test_while_the_registry_is_away_nobody_knows_and_afterwards_it_is_judged(one: Simulation) -> None:
    key = train(one, "second", 0.7)
    one.run_until(lambda: attempts(one, key) == [1])
    one.registry.outage = True
    one.run_until(lambda: one.ready(key).get("reason") == "RegistryUnavailable")
    assert one.condition(key, "GatesPassed")["status"] == "Unknown"
    one.registry.outage = False
    one.run_until(lambda: one.ready(key).get("status") == "True")

    assert champion(one) == "2"
    one.registry.outage = True
    one.run(30)
    assert one.ready(key)["status"] == "True", "it stands by what it was compared with"


def test_evidence_that_a_step_says_to_be_in_another_namespace_is_not_taken(world: Simulation) -> None:
    world.create(kinds.DATASET, "frames", builders.DATASET)
    world.data_plane.evidence_folder = "fake://objects/models/other/uid/evidence"
    world.start()
    key = train(world, "one", 0.7)
    world.run_until(lambda: world.ready(key).get("reason") == "ResultNotAuthentic")

    assert "names fake://objects/models/other/uid/evidence.npz, which is not below" in world.ready(key)["message"]
    assert champion(world) is None
