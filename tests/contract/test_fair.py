"""The built-in FAIR evaluation: RDA's indicators, FAIR EVA's score, and advice that has the promised effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from described_datasets import FULL
from pelagos_contract.fair import evaluation
from pelagos_contract.fair.checks import Found
from pelagos_contract.fair.evaluation import Evaluation, built_in
from pelagos_contract.fair.facts import Facts, of_resource
from pelagos_contract.fair.indicators import INDICATORS, PRINCIPLES
from pelagos_contract.metadata import InvalidMetadataError, Metadata

PUBLISHED = {name: value for name, value in FULL.items() if name != "identifier"}
VERSION = "sha256:" + "a1" * 32
WEIGHTS = {
    20: "F1-01M F1-01D F1-02M F1-02D F2-01M F3-01M F4-01M A1-02M A1-02D A1-03M A1-03D A1-04M A1-04D A1.1-01M A2-01M R1-01M "
    "R1.1-01M R1.3-01M R1.3-01D R1.3-02M",
    15: "A1-01M A1-05D A1.1-01D I1-01M I1-01D I1-02M I1-02D I2-01M I3-01M I3-03M R1.1-02M R1.1-03M R1.2-01M R1.3-02D",
    10: "A1.2-01D I2-01D I3-01D I3-02M I3-02D I3-04M R1.2-02M",
}
"""The weights of FAIR EVA 1.5: x-level in its fair-api.yaml."""


def facts(metadata: dict[str, Any], **changes: Any) -> Facts:
    known = Facts(Metadata.model_validate(metadata), VERSION, ("cod", "eel"))
    return replace(known, **changes)


def points(found: Evaluation) -> dict[str, float | None]:
    return {code: each.points for code, each in found.found.items()}


def test_the_indicators_and_their_weights_are_those_of_fair_eva() -> None:
    told = {f"RDA-{code}": weight for weight, codes in WEIGHTS.items() for code in codes.split()}

    assert {each.code: each.weight for each in INDICATORS} == told
    assert len(INDICATORS) == 41
    assert [each.method for each in INDICATORS if each.code == "RDA-A1.1-01M"] == ["rda_a1_1_01m"]


def test_the_score_is_the_mean_by_weight_of_what_was_evaluated() -> None:
    found = dict.fromkeys((each.code for each in INDICATORS), Found(None, ""))
    found |= {"RDA-A1-01M": Found(100, ""), "RDA-A1-02M": Found(0, ""), "RDA-R1.2-02M": Found(50, "")}

    told = Evaluation(found)

    assert told.of("accessible") == round(15 * 100 / 35, 2)
    assert told.of("findable") is None
    assert told.score == round((15 * 100 + 10 * 50) / 45, 2)
    assert told.failed == ("RDA-A1-02M", "RDA-R1.2-02M")
    assert len(told.not_evaluated) == 38


def test_without_a_version_what_is_about_data_is_no_zero() -> None:
    found = built_in(Facts())

    assert found.found["RDA-R1.3-01D"].points is None
    assert found.score == 0
    assert "RDA-R1.3-01D" in found.not_evaluated
    assert "RDA-R1.3-01D" not in found.failed


def test_a_dataset_of_which_nobody_says_anything_is_told_what_helps_most() -> None:
    found = built_in(facts({}))

    assert 0 < (found.score or 0) < 20
    first, gives = found.advice[0]
    assert "publish it" in first
    assert gives > 20


def test_a_published_dataset_that_says_all_misses_only_what_its_classes_lack() -> None:
    found = built_in(facts(FULL))

    assert found.score == pytest.approx(99.26)
    assert [code for code, each in points(found).items() if each != 100] == ["RDA-I2-01D"]
    assert found.found["RDA-I2-01D"].points == 50
    assert "name eel in spec.metadata.taxa" in found.found["RDA-I2-01D"].advice


def test_what_will_be_published_counts_as_published() -> None:
    assert points(built_in(facts(PUBLISHED, repository="Zenodo"))) == points(built_in(facts(FULL)))
    assert (built_in(facts(PUBLISHED)).score or 0) < 60


def test_restricted_images_can_be_had_where_somebody_can_be_asked() -> None:
    silent = {name: value for name, value in FULL.items() if name != "contact"} | {"access": "Restricted"}

    asked, alone = built_in(facts(FULL | {"access": "Restricted"})), built_in(facts(silent))

    assert (asked.found["RDA-A1-02D"].points, asked.found["RDA-A1-05D"].points) == (100, 50)
    assert (alone.found["RDA-A1-02D"].points, alone.found["RDA-A1-02M"].points) == (0, 100)
    assert "contact" in alone.found["RDA-A1-02D"].advice


def test_the_source_that_it_was_fetched_from_is_a_reference_to_data() -> None:
    bare = {name: value for name, value in FULL.items() if name != "related"}

    assert built_in(facts(bare)).found["RDA-I3-01D"].points == 0
    fetched = built_in(facts(bare, source_doi="10.5281/zenodo.7")).found["RDA-I3-01D"]
    assert (fetched.points, "10.5281/zenodo.7" in fetched.evidence) == (100, True)


@pytest.mark.parametrize("field", sorted(set(FULL) - {"issued", "contributors", "access"}))
def test_nothing_that_somebody_says_makes_it_worse(field: str) -> None:
    without = built_in(facts({name: value for name, value in FULL.items() if name != field}))
    whole = built_in(facts(FULL))

    assert (without.score or 0) <= (whole.score or 0)
    for code, each in points(without).items():
        assert (each or 0) <= (points(whole)[code] or 0), code


def test_following_all_advice_leaves_none() -> None:
    taxa = [{"name": "cod", "aphiaId": 126436}, {"name": "eel", "aphiaId": 126281}]

    found = built_in(facts(FULL | {"taxa": taxa}))

    assert found.score == 100
    assert found.advice == ()
    assert all(found.of(principle) == 100 for principle in PRINCIPLES)


def test_classes_that_a_register_was_asked_for_use_a_vocabulary() -> None:
    bare = {name: value for name, value in FULL.items() if name not in {"taxa", "subjects"}}
    status = {"version": VERSION, "classes": [{"name": "cod", "aphiaId": 126436}, {"name": "eel"}]}

    found = built_in(of_resource({"metadata": bare}, status)).found

    assert (found["RDA-I2-01D"].points, found["RDA-I2-01M"].points) == (50, 100)
    assert found["RDA-I2-01D"].advice == "name eel in spec.metadata.taxa, with aphiaId, or in spec.labels.taxonomy.ids"


def test_every_indicator_below_100_says_why_and_what_to_do() -> None:
    for known in (facts({}), facts(PUBLISHED), facts(FULL | {"access": "Restricted"})):
        for code, each in built_in(known).found.items():
            assert each.evidence, code
            assert each.points is not None, code
            assert bool(each.advice) is (each.points < 100), code


def test_a_resource_is_judged_by_what_the_server_has_of_it() -> None:
    status = {"version": VERSION, "classes": [{"name": "cod"}, {"name": "eel"}], "source": {"doi": "10.5281/zenodo.7"}}

    assert of_resource({"metadata": FULL}, status) == facts(FULL, source_doi="10.5281/zenodo.7")
    assert of_resource({}, {}) == Facts()
    with pytest.raises(InvalidMetadataError, match=r"spec\.metadata\.license: .*'ours' is not a licence"):
        of_resource({"metadata": {"license": "ours"}}, {})


@pytest.mark.parametrize(
    ("given", "called"), [(None, "not evaluated"), (0, "fail"), (50, "fail"), (50.5, "indeterminate"), (75, "pass")]
)
def test_an_indicator_passes_and_fails_as_fair_eva_says(given: float | None, called: str) -> None:
    assert evaluation.status(given) == called


ZENODO: dict[str, Any] = {"zenodo": {"url": "https://zenodo.org/", "secretRef": {"name": "zenodo"}}}
SANDBOX: dict[str, Any] = {"zenodo": {"secretRef": {"name": "zenodo"}}}
OUT = {"state": "Published", "version": VERSION, "doi": "10.5281/zenodo.7"}


@pytest.mark.parametrize(
    ("publish", "publication", "doi", "repository"),
    [
        (ZENODO, OUT, "10.5281/zenodo.7", "Zenodo"),
        (ZENODO, {**OUT, "version": "sha256:" + "b2" * 32}, None, "Zenodo"),
        (ZENODO, {**OUT, "state": "Draft"}, None, "Zenodo"),
        (SANDBOX, {**OUT, "doi": "10.5072/zenodo.7"}, None, None),
        (None, OUT, "10.5281/zenodo.7", None),
        (None, None, None, None),
    ],
)
def test_what_is_published_counts_and_what_is_a_trial_does_not(
    publish: Any, publication: Any, doi: str | None, repository: str | None
) -> None:
    spec = {"metadata": PUBLISHED, "publish": publish}
    found = of_resource(spec, {"version": VERSION, "publication": publication})

    assert (found.identifier, found.repository) == (doi, repository)
    assert (points(built_in(found))["RDA-F1-01M"] == 100) == bool(doi or repository)
