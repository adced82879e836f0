"""What the catalogue says about models: conditions, figures and cards as they are, and Unknown where nothing is reported."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import catalogued
from catalogued import collected, condition, served, trained
from pelagos_hub.catalogue import browsing, index
from pelagos_hub.catalogue.browsing import Query, browse
from pelagos_hub.catalogue.entries import Entry, entry
from pelagos_hub.cluster import MemoryCluster


def the(service: dict[str, Any] | None = None, **training: Any) -> Entry:
    """One model."""
    return entry(service or served(), trained(**training), collected())


def many(number: int = 60) -> list[Entry]:
    """Models that differ in every property that they are filtered by."""
    cluster = MemoryCluster()
    catalogued.fill(cluster, number, pictures=False)
    kinds = cluster.kinds
    return index.Index().entries(kinds["ModelService"], kinds["TrainingRun"], kinds["Dataset"])


def ask(**pairs: str) -> Query:
    return Query.parse(pairs.items())


# What is known of one model


def test_a_model_has_the_primary_metric_of_its_task_with_interval_and_version_of_the_data() -> None:
    found = the()

    assert found.numbers.primary is not None
    assert found.numbers.primary.words == "0.853 (0.81 to 0.891)"
    assert found.data.short == "a1b2a1b2a1b2"
    assert [figure.name for figure in found.numbers.overall] == ["mAP50", "mAP50-95", "precision", "recall", "F1"]


def test_figures_of_sites_that_were_not_trained_on_are_sorted_with_the_worst_first() -> None:
    group = the().numbers.unseen

    assert group is not None
    assert (group.mean and group.mean.words, [part.value for part in group.parts]) == (
        "0.65 ± 0.03",
        ["Bergen", "Ostend", "Texel"],
    )
    assert group.parts[2].figure is None


def test_what_lies_behind_the_gateway_is_told_to_nobody() -> None:
    service = served()
    behind = {"http": "http://server.reef.svc:8080", "grpc": "server.reef.svc:9000"}
    before = {"gatewayHttp": "https://models.example.org/reef/plankton", "gatewayGrpc": "models.example.org:443"}

    service["status"]["endpoints"] = {**behind, "metrics": "http://server.reef.svc:8082/metrics"}
    assert the(service).endpoints == behind
    service["status"]["endpoints"] = {**behind, **before}
    assert the(service).endpoints == before


def test_a_model_that_no_training_of_its_namespace_made_has_no_figures() -> None:
    found = entry(served(), None, None)

    assert (found.numbers.primary, found.task, found.data.name) == (None, "", "")
    assert found.is_listed  # its card says all that strangers need


def test_a_training_of_another_package_is_not_asked() -> None:
    services = {("reef", "plankton"): served()}
    other = trained(model={"uri": "file:///objects/models/reef/another"})

    (found,) = index.Index().entries(services, {("reef", "plankton"): other}, {})

    assert found.origin.training == ""


def test_a_training_of_another_namespace_is_not_asked() -> None:
    services = {("reef", "plankton"): served()}
    stranger = trained(namespace="other", model={"uri": "file:///objects/models/reef/plankton"})

    (found,) = index.Index().entries(services, {("other", "plankton"): stranger}, {})

    assert found.numbers.primary is None


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ([condition("Ready"), condition("Probed")], "Right"),
        ([condition("Ready", reason="ScaledToZero"), condition("Probed", "Unknown")], "Idle"),
        ([condition("Ready", "False", "Suspended"), condition("Probed", "Unknown")], "Off"),
        ([condition("Ready", "False"), condition("Probed", "False")], "Wrong"),
        ([condition("Ready", "False"), condition("Probed", "Unknown")], "Wrong"),
        ([condition("Ready", "Unknown"), condition("Probed", "True")], "Unknown"),
        ([condition("Ready", "Unknown"), condition("Probed", "Unknown")], "Unknown"),
        ([condition("Ready", "True")], "Unknown"),
        ([], "Unknown"),
        ([condition("Ready", "Yes"), condition("Probed", "True")], "Unknown"),
        ("nonsense", "Unknown"),
    ],
)
def test_whether_it_answers_right_is_told_by_conditions_alone(conditions: Any, state: str) -> None:
    assert the(served(status={"conditions": conditions})).proof.state == state


def test_since_when_it_answers_right_is_told() -> None:
    assert the().proof.since == datetime(2026, 6, 1, 11, 48, tzinfo=UTC)


@pytest.mark.parametrize(
    ("service", "listed"),
    [
        (served(), True),
        (served(catalogue="Namespace"), True),
        (served(catalogue="Private"), False),
        (served(spec={"publish": None}), False),
        (served(card={"limitations": None}), False),
        (served(status={"model": {}, "conditions": []}), False),
        (served(status={"conditions": [condition("Ready", "False"), condition("Probed", "False")]}), True),
    ],
    ids=["public", "of its group", "private", "unpublished", "incomplete card", "never proven", "proven once"],
)
def test_who_is_in_the_catalogue(service: dict[str, Any], listed: bool) -> None:
    assert entry(service, None, None).is_listed is listed


def test_what_the_card_leaves_out_is_taken_from_the_training() -> None:
    training = trained()
    training["spec"]["card"] = {"limitations": "Not at night."}

    found = entry(served(card={"limitations": None}), training, None)

    assert (found.card.limitations, found.missing) == ("Not at night.", ())


def test_facts_of_a_newer_version_of_the_data_are_not_told_of_the_one_that_was_trained_on() -> None:
    newer = collected()
    newer["status"]["version"] = "sha256:" + "c" * 64

    found = entry(served(), trained(), newer)

    assert (found.data.is_current, found.data.images, found.data.classes) == (False, None, ())
    assert found.data.license == "CC-BY-4.0"


HOSTILE: list[Any] = [
    None,
    [],
    "text",
    7,
    {"metrics": {"test/mAP50": "NaN", "test/F1": "1e999", "test/x": []}},
    {"metrics": {f"test/m{number}": "0.5" for number in range(10_000)}},
    {"intervals": {"test/mAP50": "0.1"}, "metrics": {"test/mAP50": "0.5"}},
    {"leaveOneOut": {"metric": "x", "groups": "many"}},
    {"leaveOneOut": {"metric": "x", "groups": [{"value": "a" * 10**6, "metric": "x"}] * 5000}},
    {"slices": [{"worst": {"metric": "m", "figure": "0.1"}}] * 5000},
    {"documents": [{"name": "../../etc/passwd", "uri": 5, "sha256": None}] * 100},
    {"dataset": {"name": ["a"], "version": {}}},
    {"tracking": {"url": "javascript:alert(1)"}, "finishedAt": "yesterday", "warnings": [1, "x" * 10**6] * 100},
    {"resampling": {"why": "\x1b[31m" * 10_000}},
]


@pytest.mark.parametrize("status", HOSTILE, ids=range(len(HOSTILE)))
def test_a_status_that_is_not_as_the_api_says_makes_a_small_and_plain_entry(status: Any) -> None:
    training = trained()
    training["status"] = status
    found = entry(served(), training, {"status": status, "spec": status, "metadata": status})

    assert len(repr(found)) < 200_000
    assert "\x1b" not in repr(found)
    assert found.origin.tracking == ""


@pytest.mark.parametrize("part", ["metadata", "spec", "status"])
@pytest.mark.parametrize("value", [None, [], "text", {"model": 5, "card": [], "publish": "Public", "conditions": {}}])
def test_a_service_that_is_not_as_the_api_says_is_not_in_the_catalogue_or_is_harmless(part: str, value: Any) -> None:
    service = served()
    service[part] = value

    found = entry(service, None, None)

    assert found.title is not None
    json.dumps(repr(found))


def test_entries_are_made_anew_only_where_an_object_changed() -> None:
    made = index.Index()
    first, second = served("a"), served("b")
    for body in (first, second):
        body["metadata"]["resourceVersion"] = "1"
    before = made.entries({("reef", "a"): first, ("reef", "b"): second}, {}, {})

    changed = served("b", card={"title": "Another"})
    changed["metadata"]["resourceVersion"] = "2"
    after = made.entries({("reef", "a"): first, ("reef", "b"): changed}, {}, {})

    assert after[0] is before[0]
    assert (before[1].title, after[1].title) == (catalogued.CARD["title"], "Another")


# Looking for models


def test_values_of_one_filter_are_alternatives_and_filters_go_together() -> None:
    entries = many()
    query = Query.parse([("task", "Detection"), ("task", "Classification"), ("license", "MIT")])

    found = browse(entries, query)

    assert found.total > 0
    assert {each.task for each in found.entries} == {"Detection", "Classification"}
    assert {each.card.license for each in found.entries} == {"MIT"}


def test_a_count_is_how_many_there_are_when_its_value_is_chosen() -> None:
    entries = many()
    for query in (ask(), ask(task="Detection"), ask(task="Detection", license="MIT", q="north sea")):
        for facet, choices in browse(entries, query).facets:
            for choice in choices:
                if not query.values(facet.key):
                    address = choice.address.partition("?")[2]
                    asked = Query.parse([tuple(pair.split("=")) for pair in address.replace("+", " ").split("&")])  # type: ignore[misc]
                    assert browse(entries, asked).total == choice.count


def test_a_query_survives_its_address() -> None:
    query = Query.parse(
        [("q", "a & b=c"), ("task", "Detection"), ("taxon", "Ælurus ø"), ("sort", "name"), ("page", "3")]
    )

    assert Query.parse(query.pairs) == query


def test_what_an_address_says_too_much_or_wrongly_is_left_out() -> None:
    pairs = [("page", "-1"), ("sort", "evil"), ("unknown", "x"), ("q", "x" * 5000)]
    many_values = [(facet, f"{facet}{number}") for number in range(1000) for facet in ("taxon", "license")]
    query = Query.parse([*pairs, ("task", "Detection"), *many_values])

    assert (query.page, query.order, len(query.text)) == (1, "newest", 200)
    # A bound for all filters together: where nothing matches, each one costs a scan of all models.
    assert query.values("task") == ("Detection",)
    assert sum(len(values) for _, values in query.chosen) == 20
    assert browse(many(3), Query.parse([("page", "²")])).query.page == 1


def test_pages_are_cut_from_the_order_and_leave_nobody_out() -> None:
    entries = many(60)

    for order in browsing.ORDERS:
        names = [each.name for page in (1, 2, 3) for each in browse(entries, ask(sort=order, page=str(page))).entries]
        assert sorted(names) == sorted(each.name for each in entries)
    assert browse(entries, ask(page="99")).query.page == 3


def test_orders_are_what_they_say() -> None:
    entries = many(60)

    names = [each.title.casefold() for each in browse(entries, ask(sort="name"), 60).entries]
    newest = [str(each.created) for each in browse(entries, ask(), 60).entries]
    proven = [each.proof.state for each in browse(entries, ask(sort="proven"), 60).entries]
    assert names == sorted(names)
    assert newest == sorted(newest, reverse=True)
    assert proven == sorted(proven)  # Right comes before Wrong
    assert proven[0] == "Right"


def test_an_empty_result_says_what_to_leave_out_and_how_many_there_are_then() -> None:
    entries = many()

    found = browse(entries, ask(q="no such thing", task="Detection"))

    assert found.total == 0
    assert [(way.words, way.count) for way in found.ways] == [
        ("the words “no such thing”", sum(each.task == "Detection" for each in entries))
    ]  # not the task: without it there is nothing either


def test_words_are_found_in_titles_taxa_and_classes_whatever_their_case() -> None:
    entries = [*many(8), the()]

    for words in ("NORTH SEA phyto", "bacillariophyceae", "chaetoceros", "flowcam frames"):
        assert "plankton" in {each.name for each in browse(entries, ask(q=words)).entries}
