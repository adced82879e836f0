"""Documents of a model: what they get to say about it and its data, and where status says that they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from builders import (
    VERSION,
    dataset_seen,
    dataset_version,
    make_tracked,
    make_training_observed,
    trained,
    training_result,
    training_run_spec,
)
from pelagos.decisions import training_run
from pelagos.decisions.effects import SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity
from pelagos.decisions.training_run.observed import ObservedDataset
from pelagos_contract.metadata import Metadata
from pelagos_contract.model_card import About
from pelagos_contract.training import TrainingRequest

SAID = Metadata.model_validate(
    {
        "title": "Fish of the bay",
        "description": "Long " * 1000,
        "creators": [{"name": f"Curie, {number}"} for number in range(60)],
        "license": "CC-BY-4.0",
        "identifier": "10.5281/zenodo.1",
    }
)


def asked(dataset: ObservedDataset, **spec: Any) -> About:
    """A training's input for its documents."""
    parsed = training_run_spec(**spec)
    frozen = identity.freeze(parsed, dataset_version())
    seen = make_training_observed(spec=parsed, frozen=frozen, tracked=make_tracked(), dataset=dataset)
    (effect,) = training_run.decide(seen).effects
    assert isinstance(effect, SubmitRun)
    request = TrainingRequest.model_validate_json(effect.request.parameters["request"])
    assert request.about is not None
    return request.about


def test_a_training_is_told_what_people_say_of_the_model_and_of_the_data() -> None:
    card = {"title": "Finder", "intendedUse": "Counting.", "contact": {"name": "Roe, Jo", "email": "jo@example.org"}}
    seen = replace(dataset_seen(candidate=dataset_version()), metadata=SAID, dois={VERSION: "10.5281/zenodo.2"})

    about = asked(seen, card=card)

    assert about.resource == "default/detector"
    assert about.card is not None
    assert (about.card.title, about.card.intended_use) == ("Finder", "Counting.")
    assert about.card.contact is not None
    assert about.dataset is not None
    assert (about.dataset.title, about.dataset.license) == ("Fish of the bay", "CC-BY-4.0")
    assert (about.dataset.doi, about.dataset.identifier) == ("10.5281/zenodo.2", "10.5281/zenodo.1")
    assert len(about.dataset.creators) == 20, "as many as a citation names"


def test_the_doi_is_that_of_the_version_that_was_trained_on() -> None:
    seen = replace(dataset_seen(candidate=dataset_version()), dois={"sha256:other": "10.5281/zenodo.3"})
    assert asked(seen).dataset is None, "another version's DOI says nothing of this one"


def test_of_what_nobody_says_nothing_is_told() -> None:
    about = asked(dataset_seen(candidate=dataset_version()))
    assert (about.card, about.dataset) == (None, None)


def told(documents: Any, **changes: Any) -> list[dict[str, Any]] | None:
    report = Report(result=training_result() | {"documents": documents})
    found: list[dict[str, Any]] | None = training_run.decide(trained(report=report, **changes)).status.get("documents")
    return found


def test_status_says_where_documents_are_and_by_which_digest_they_are_known() -> None:
    uri = training_result()["model"]["uri"]

    found = told(
        [{"name": "report.html", "sha256": "a" * 64, "bytes": 9}, {"name": "model-card.md", "sha256": "b" * 64}]
    )

    assert found is not None
    page, card = found
    assert page["uri"] == f"{uri}.documents/report.html"
    assert page["sha256"] == "a" * 64
    assert page["url"].endswith("/artifacts/report/report.html")
    assert card["url"].endswith("/artifacts/card/model-card.md")


@pytest.mark.parametrize(
    "stated",
    [
        {"name": "../package.json", "sha256": "a" * 64},
        {"name": "report.html", "sha256": "not a digest"},
        {"name": "report.html"},
        {"sha256": "a" * 64},
    ],
)
def test_what_is_no_document_is_not_shown(stated: dict[str, str]) -> None:
    assert told([stated]) is None


def test_trainings_of_earlier_releases_have_none() -> None:
    assert training_run.decide(trained(report=Report(result=training_result()))).status.get("documents") is None
