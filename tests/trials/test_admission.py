"""Who gets a place. Every refusal is final, and says what to do next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pelagos.api import kinds
from pelagos.ports.cluster import Key
from pelagos.ports.gateway import Gateway
from pelagos.ports.serving import ObservedService
from simulation import SERVICE
from trials.worlds import TOKEN, Trials, token_of

VO = "urn:mace:egi.eu:group:vo.imagine-ai.eu:role=member#aai.egi.eu"


def refused(trials: Trials, key: Key) -> tuple[str, str]:
    """Reason and message of the refusal, which is final even if its cause disappears."""
    trials.world.run(1)
    assert trials.phase(key) == "Refused"
    assert trials.world.ready(key)["status"] == "False"
    (accepted,) = [each for each in trials.status(key)["conditions"] if each["type"] == "Accepted"]
    assert (accepted["status"], accepted["reason"]) == ("False", trials.reason(key))
    assert not {"url", "tokenSha256", "expiresAt"} & trials.status(key).keys()
    return trials.reason(key), trials.message(key)


def test_three_trials_of_a_user_are_open_and_the_fourth_is_refused_for_good(trials: Trials) -> None:
    first, *_ = [trials.sign_and_create(f"t{number}", "jane") for number in range(3)]
    fourth = trials.sign_and_create("t3", "jane")
    reason, message = refused(trials, fourth)

    assert reason == "UserLimit"
    assert message.startswith(
        "3 of 3 trials of this user are in use (trialsPerUser). Stop one of t0, t1, t2, or wait: the next"
    )
    other = trials.sign_and_create("of-john", "john")
    trials.world.cluster.delete(first)
    trials.world.run(2)
    assert trials.phase(other) == "Open"
    assert trials.phase(fourth) == "Refused"
    assert trials.phase(trials.sign_and_create("t4", "jane")) == ""
    trials.world.run(1)
    assert trials.phase(Key("Trial", "default", "t4")) == "Open"


def test_a_namespace_has_five_whoever_made_them(trials: Trials) -> None:
    opened = [trials.sign_and_create(f"s{number}", f"user{number}") for number in range(2)]
    opened += [trials.create(f"t{number}", tokenSha256=token_of(f"t{number}"), user="jane") for number in range(3)]
    trials.world.run(1)
    reason, message = refused(trials, trials.sign_and_create("late", "late"))

    assert [trials.phase(key) for key in opened] == ["Open"] * 5
    assert reason == "CapacityExhausted"
    assert (
        "5 of 5 trials of namespace default are in use (trialsAtOnce). Try again later: the next one is over in"
        in message
    )


def test_a_forged_user_takes_nothing_from_that_user(trials: Trials) -> None:
    """Anyone may write Trials with any user in spec.user; a signature for another Trial, key or time is not valid."""
    trials.allow(trials_per_user=1, trials_at_once=10)
    forged = [
        trials.create("forged", user="jane", tokenSha256=token_of("forged")),
        trials.sign_and_create("of-another-key", "jane", key=b"x" * 32),
        trials.sign_and_create("of-long-ago", "jane", late=-301),
    ]
    copied = trials.get(trials.sign_and_create("hers", "jane")).annotations
    trials.world.cluster.annotate(trials.create("copied", user="jane"), *next(iter(copied.items())))
    trials.world.run(1)

    assert [(trials.phase(key), trials.status(key)["attested"]) for key in forged] == [("Open", False)] * 3
    assert trials.status(Key("Trial", "default", "hers"))["attested"] is True
    assert trials.status(Key("Trial", "default", "copied"))["attested"] is False
    assert refused(trials, trials.sign_and_create("second", "jane"))[0] == "UserLimit"


def test_a_token_is_of_one_trial_so_that_a_copy_of_its_digest_opens_nothing(trials: Trials) -> None:
    hers = trials.sign_and_create("hers", "jane", duration="1m")
    made = trials.create("made-here")
    trials.world.run(2)
    copies = [
        trials.create("a-copy", tokenSha256=token_of("hers")),
        trials.create("another", tokenSha256=trials.status(made)["tokenSha256"]),
    ]
    for copy, name in zip(copies, ("hers", "made-here"), strict=True):
        reason, message = refused(trials, copy)
        assert reason == "TokenTaken"
        assert f"spec.tokenSha256 belongs to the token of Trial {name}, and a token opens one Trial only" in message
        assert "Create another Trial with a new token, or without spec.tokenSha256" in message
    assert trials.phase(hers) == "Open"
    # A token that was issued once is not given to somebody else later.
    trials.world.run(61)
    assert trials.phase(hers) == "Expired"
    assert refused(trials, trials.create("later", tokenSha256=token_of("hers")))[0] == "TokenTaken"


def test_of_two_that_are_not_decided_on_the_first_has_the_token(trials: Trials) -> None:
    trials.world.stop()
    first = trials.create("z-first", tokenSha256=TOKEN)
    trials.world.run(1)
    second = trials.create("a-second", tokenSha256=TOKEN)
    trials.world.start()
    trials.world.run(2)
    assert trials.phase(first) == "Open"
    assert refused(trials, second)[0] == "TokenTaken"


def test_who_was_refused_may_ask_again_with_the_same_token(trials: Trials) -> None:
    assert refused(trials, trials.create("long", tokenSha256=TOKEN, duration="11m"))[0] == "DurationNotAllowed"
    again = trials.create("again", tokenSha256=TOKEN)
    trials.world.run(1)
    assert trials.phase(again) == "Open"


def test_who_lacks_the_entitlement_is_told_which_is_asked_for(trials: Trials) -> None:
    trials.allow(trials_entitlements=(VO, "urn:other"))
    entitled = trials.sign_and_create("member", "jane", entitlements=[VO])
    reason, message = refused(trials, trials.sign_and_create("guest", "john", entitlements=["urn:mine"]))
    by_hand, said = refused(trials, trials.create("by-hand", user="jane", entitlements=[VO]))

    assert trials.phase(entitled) == "Open"
    assert (reason, by_hand) == ("NotEntitled", "NotEntitled")
    assert f"one of the entitlements {VO}, urn:other, and the hub attests none of these" in message
    assert "did not make this Trial" in said


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        (
            {"modelServiceRef": {"name": "nothing"}},
            "ModelNotReady",
            'there is no ModelService "nothing" in namespace default',
        ),
        ({"duration": "11m"}, "DurationNotAllowed", "spec.duration is 11m, and the namespace allows at most 10m"),
        ({"duration": "61m"}, "InvalidSpec", "spec.duration must be from 1m to 60m"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_the_next_step(
    trials: Trials, spec: dict[str, Any], reason: str, words: str
) -> None:
    found = refused(trials, trials.create("t", **spec))

    assert found[0] == reason
    assert words in found[1]


def test_a_service_that_is_not_ready_is_not_shared(trials: Trials) -> None:
    trials.world.cluster.edit(SERVICE, {"suspend": True})
    trials.world.run(5)
    reason, message = refused(trials, trials.create("t"))

    assert reason == "ModelNotReady"
    assert "ModelService detector is not Ready: spec.suspend is true" in message
    assert "Dedicated" in message


def test_without_a_gateway_nothing_could_be_tried_and_it_is_said_how_to_set_one_up(trials: Trials) -> None:
    trials.world.stop()
    trials.world.gateway = Gateway()
    trials.world.start()
    reason, message = refused(trials, trials.create("t"))

    assert reason == "GatewayNotSetUp"
    assert "PELAGOS_GATEWAY_HTTP" in message


OSCAR = "https://oscar.example/system/services/p-1-detector/exposed"


def serve_by_http_alone(trials: Trials, authorization: str) -> None:
    """From now on the servers are those of another platform."""
    serving = trials.world.serving
    observe = serving.observe

    async def changed(uid: str) -> ObservedService | None:
        seen = await observe(uid)
        return seen and replace(seen, grpc_url="", http_url=OSCAR, metrics_url="", authorization=authorization)

    serving.observe = changed  # type: ignore[method-assign]
    trials.world.run(60)


def test_a_model_that_only_answers_over_http_is_tried_over_http(trials: Trials) -> None:
    serve_by_http_alone(trials, "Basic c2VjcmV0")
    key = trials.create("t")
    trials.world.run(5)

    assert trials.phase(key) == "Open"
    assert trials.status(key)["endpoints"] == {"http": "https://models.example.org/default/detector"}
    assert trials.world.cluster.logins["default", "detector"].url == OSCAR
    trials.world.cluster.delete(SERVICE)
    trials.world.run(60)
    assert trials.world.cluster.logins == {}


def test_a_model_whose_login_the_gateway_does_not_have_is_refused_with_the_next_step(trials: Trials) -> None:
    serve_by_http_alone(trials, "")
    reason, message = refused(trials, trials.create("t"))

    assert reason == "GatewayNotSetUp"
    assert "ModelService detector answer over HTTP alone, and only with a login" in message
    assert "docs/oscar.md" in message


def test_a_platform_may_offer_no_trials(trials: Trials) -> None:
    trials.allow(trials_enabled=False)
    assert refused(trials, trials.create("t"))[0] == "TrialsNotOffered"


def test_the_limit_of_nobody_is_none(trials: Trials) -> None:
    trials.allow(trials_at_once=0)
    reason, message = refused(trials, trials.create("t"))
    assert (reason, "Ask the platform's administrator" in message) == ("CapacityExhausted", True)


def test_a_service_of_somebody_is_never_taken_for_that_of_a_trial(trials: Trials) -> None:
    trials.world.cluster.create(kinds.MODEL_SERVICE, "trial-t", {"model": {"trainingRunRef": {"name": "detector"}}})
    key = trials.create("t", isolation="Dedicated")
    reason, message = refused(trials, key)

    assert (reason, "not created for it" in message) == ("ModelNotReady", True)
    trials.world.cluster.delete(key)
    trials.world.run(3)
    assert trials.phase(key) == "Gone"
    assert trials.world.cluster.get(Key("ModelService", "default", "trial-t")) is not None


def test_a_server_that_cannot_be_started_gives_its_place_back(trials: Trials) -> None:
    key = trials.create("t", registry={"model": "unknown", "alias": "champion"})
    trials.world.run(30)
    assert trials.phase(key) == "Starting"
    trials.world.run(15 * 60)

    assert (trials.phase(key), trials.reason(key)) == ("Refused", "ModelNotReady")
    assert (
        "did not answer correctly within 15 minutes: spec.model.registry: the registry has no model unknown"
        in trials.message(key)
    )
    assert trials.world.cluster.get(Key("ModelService", "default", "trial-t")) is None


def test_a_key_that_cannot_be_used_decides_nothing_until_it_can(trials: Trials) -> None:
    trials.world.hub_key.problem = "the key has 5 bytes"
    key = trials.sign_and_create("t", "jane")
    trials.world.run(1)
    assert (trials.phase(key), "the key has 5 bytes" in trials.message(key)) == ("", True)
    trials.world.hub_key.problem = ""
    trials.world.run(20)
    assert trials.phase(key) == "Open"


def test_after_a_restart_nobody_is_refused_because_the_model_is_looked_at_anew(trials: Trials) -> None:
    trials.world.stop()
    key = trials.create("t", tokenSha256=TOKEN)
    conditions = [
        {**each, "status": "Unknown", "reason": "Probing", "message": "the first inference is in progress"}
        if each["type"] == "Ready"
        else each
        for each in trials.get(SERVICE).status["conditions"]
    ]
    (ready,) = [each for each in conditions if each["type"] == "Ready"]
    conditions.append({**ready, "type": "Reconciling", "status": "True"})
    trials.world.cluster.change_status(SERVICE, {"conditions": conditions})
    trials.world.start()
    trials.world.run(3)
    assert trials.phase(key) == "Open"


def test_a_model_that_never_comes_is_waited_for_half_a_minute_without_a_place(trials: Trials) -> None:
    trials.world.serving.automatic = False
    trials.world.create(kinds.MODEL_SERVICE, "slow", {"model": {"trainingRunRef": {"name": "detector"}}})
    trials.world.run(1)
    key = trials.create("t", modelServiceRef={"name": "slow"})
    trials.world.run(20)
    assert (trials.phase(key), "acceptedAt" in trials.status(key)) == ("Pending", False)
    trials.world.run(12)
    assert (trials.phase(key), trials.reason(key)) == ("Refused", "ModelNotReady")
