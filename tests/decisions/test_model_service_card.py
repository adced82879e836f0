"""The card of a service says enough for strangers, or lists what is missing; it never prevents serving."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from builders import RIGHT, make_service, make_service_observed
from pelagos.api.model_service import ModelServiceSpec
from pelagos.decisions import model_service
from pelagos.decisions.verdicts import ConditionState, Decision, summary
from pelagos.ports.serving import ServiceState
from pelagos_contract.model_card import Card

COMPLETE = {
    "title": "Fish of the harbour",
    "summary": "Finds fish.",
    "intendedUse": "Counting.",
    "limitations": "Not at night.",
    "contact": {"name": "Roe, Jo"},
    "license": "CC-BY-4.0",
}


def spec(**fields: Any) -> ModelServiceSpec:
    return ModelServiceSpec.model_validate({**builders.MODEL_SERVICE, **fields})


def decide(of: ModelServiceSpec, trained: Card | None = None) -> Decision:
    return model_service.decide(
        make_service_observed(spec=of, service=make_service(ServiceState.LOADED), probe=RIGHT, trained_card=trained)
    )


def message(decision: Decision) -> str:
    return next(verdict.message for verdict in decision.verdicts if verdict.type == "CardComplete")


def test_a_service_without_a_card_has_no_condition_about_one() -> None:
    assert "CardComplete" not in builders.conditions(decide(spec()))


def test_a_complete_card_says_when_the_service_is_in_the_catalogue() -> None:
    decision = decide(spec(card=COMPLETE, publish={"catalogue": "Public"}))

    assert builders.conditions(decision)["CardComplete"] == ("Done", "CardFilledIn")
    assert "in the catalogue (Public)" in message(decision)


@pytest.mark.parametrize("field", COMPLETE)
def test_each_field_that_strangers_need_is_named_when_it_is_missing(field: str) -> None:
    card = {name: value for name, value in COMPLETE.items() if name != field}

    decision = decide(spec(card=card, publish={"catalogue": "Namespace"}))

    assert builders.conditions(decision)["CardComplete"] == ("Noted", "CardIncomplete")
    assert f"does not say {field}, and" in message(decision)
    assert "in no catalogue" in message(decision)


def test_a_card_that_leaves_everything_out_blocks_nothing() -> None:
    decision = decide(spec(publish={"catalogue": "Public"}))

    assert "title, summary, intendedUse, limitations, contact, license" in message(decision)
    assert summary(decision).state is ConditionState.DONE


def test_what_the_card_of_the_training_says_need_not_be_said_again() -> None:
    trained = Card.model_validate(COMPLETE)

    decision = decide(spec(publish={"catalogue": "Public"}), trained)

    assert builders.conditions(decision)["CardComplete"] == ("Done", "CardFilledIn")


def test_the_card_of_the_service_is_stronger_than_that_of_the_training() -> None:
    own = spec(card={"title": "Cod", "doi": "10.5281/zenodo.7"}).card
    assert own is not None

    both = own.after(Card.model_validate(COMPLETE))

    assert (both.title, both.summary, both.doi) == ("Cod", "Finds fish.", "10.5281/zenodo.7")


def test_a_card_without_a_place_in_the_catalogue_says_who_finds_it() -> None:
    assert "nobody yet" in message(decide(spec(card=COMPLETE)))


def test_a_suspended_service_is_told_about_its_card() -> None:
    decision = decide(spec(card=COMPLETE, suspend=True))

    assert builders.conditions(decision)["CardComplete"] == ("Done", "CardFilledIn")
    assert summary(decision).state is ConditionState.PAUSED


def test_a_change_of_the_card_changes_nothing_that_runs() -> None:
    card = COMPLETE | {"title": "Another title"}

    assert decide(spec(card=card)).effects == decide(spec()).effects == ()
