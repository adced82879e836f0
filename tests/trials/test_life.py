"""A Trial from its creation to its end: who gets a place, what is created for it, and that it is removed."""

from __future__ import annotations

import hashlib

from pelagos.ports.cluster import Key
from simulation import SERVICE
from trials.worlds import TOKEN, Trials


def test_a_trial_on_a_running_service_opens_at_once_and_says_where(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN)
    trials.world.run(0.5)

    status = trials.status(key)
    assert (status["phase"], trials.reason(key), status["model"]) == ("Open", "Open", "detector")
    assert status["url"] == "https://models.example.org/default/detector"
    assert status["endpoints"] == {"http": status["url"], "grpc": "models.example.org:8443"}
    assert status["service"] == {"name": "detector", "namespace": "default"}
    assert status["tokenSha256"] == TOKEN
    assert status["onnxSha256"] == trials.get(SERVICE).status["model"]["onnxSha256"]
    assert "tokenSecretRef" not in status
    assert trials.world.cluster.tokens == {}
    assert status["duration"] == "10m"


def test_it_is_over_after_its_time_and_the_object_goes_a_while_later(trials: Trials) -> None:
    key = trials.create("t", tokenSha256=TOKEN, duration="2m")
    trials.world.run(0.5)
    trials.world.run(118)
    assert trials.phase(key) == "Open"
    trials.world.run(2)

    status = trials.status(key)
    assert (status["phase"], trials.world.ready(key)["status"], trials.reason(key)) == ("Expired", "False", "Expired")
    assert {"url", "endpoints", "tokenSha256"}.isdisjoint(status)
    trials.world.run(590)
    assert trials.phase(key) == "Expired"
    trials.world.run(20)
    assert trials.phase(key) == "Gone"


def test_without_a_token_of_its_own_the_operator_makes_one_into_a_secret_that_goes_at_the_end(trials: Trials) -> None:
    key = trials.create("t", duration="1m")
    trials.world.run(0.5)

    ((place, token),) = trials.world.cluster.tokens.items()
    status = trials.status(key)
    assert place == ("default", status["tokenSecretRef"]["name"])
    assert token.startswith("pt_")
    assert len(token) == 46
    assert status["tokenSha256"] == hashlib.sha256(token.encode()).hexdigest()
    assert token not in str(trials.get(key))
    trials.world.run(61)
    assert trials.phase(key) == "Expired"
    assert trials.world.cluster.tokens == {}
    assert "tokenSecretRef" not in trials.status(key)


def test_a_registered_model_gets_a_server_of_its_own_and_the_time_begins_when_it_answers(trials: Trials) -> None:
    trials.world.serving.automatic = False
    key = trials.create("t", registry={"model": "detector", "alias": "champion"}, tokenSha256=TOKEN, duration="1m")
    child = Key("ModelService", "default", "trial-t")
    trials.world.run(30)
    assert (trials.phase(key), trials.reason(key)) == ("Starting", "Starting")
    assert trials.get(child).owners == (trials.get(key).uid,)
    trials.world.serving.finish_loading(trials.get(child).uid)
    trials.world.run_until(lambda: trials.phase(key) == "Open", within=10)

    status = trials.status(key)
    assert status["service"] == {"name": "trial-t", "namespace": "default"}
    assert status["model"] == "detector@champion"
    trials.world.run(55)
    assert trials.phase(key) == "Open"
    trials.world.run(10)
    assert trials.phase(key) == "Expired"
    assert trials.world.cluster.get(child) is None
    assert trials.get(SERVICE).status["model"]


def test_a_server_of_its_own_is_like_the_one_that_is_named(trials: Trials) -> None:
    trials.world.cluster.edit(SERVICE, {"thresholds": {"confidence": "0.4"}, "scaling": {"min": 2, "max": 3}})
    trials.create("t", isolation="Dedicated", tokenSha256=TOKEN)
    child = Key("ModelService", "default", "trial-t")
    trials.world.run(5)

    found = trials.get(child).spec
    assert found["thresholds"]["confidence"] == "0.4"
    assert found["model"] == {"trainingRunRef": {"name": "detector"}}
    assert (found["scaling"]["min"], found["scaling"]["max"]) == (1, 1)
    assert found["deletionPolicy"] == "Delete"


def test_who_stops_it_deletes_it_and_everything_that_was_made_for_it_goes(trials: Trials) -> None:
    key = trials.create("t", isolation="Dedicated")
    trials.world.run_until(lambda: trials.phase(key) == "Open")
    trials.world.cluster.delete(key)
    trials.world.run(5)

    assert trials.phase(key) == "Gone"
    assert trials.world.cluster.tokens == {}
    assert trials.world.cluster.get(Key("ModelService", "default", "trial-t")) is None
    assert trials.world.ready(SERVICE)["status"] == "True"
