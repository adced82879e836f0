"""What the API server last showed: newer wins, a new resource of the same name always does, and dependents are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import builders
from pelagos.api import kinds
from pelagos.ports.cluster import Key, Resource
from pelagos.reconcilers.cache import Cache


def resource(kind: kinds.Kind = kinds.DATASET, version: str = "5", **changes: Any) -> Resource:
    usual = Resource(kind, "default", "frames", uid="uid-1", generation=1, version=version, deleting=False)
    return replace(usual, **changes)


def test_what_is_new_is_remembered() -> None:
    cache = Cache()

    assert cache.put(resource())
    assert cache.get(Key("Dataset", "default", "frames")) == resource()
    assert cache.all() == (resource(),)


@pytest.mark.parametrize(("version", "taken"), [("4", False), ("5", False), ("6", True), ("10", True)])
def test_only_what_is_newer_replaces_what_is_known(version: str, taken: bool) -> None:
    cache = Cache()
    cache.put(resource())

    assert cache.put(resource(version=version, generation=2)) is taken


@pytest.mark.parametrize(
    ("uid", "version", "news"),
    [
        ("uid-1", "4", False),
        ("uid-1", "5", False),
        ("uid-1", "6", True),
        ("uid-2", "4", False),
        ("uid-2", "6", True),
    ],
)
def test_what_is_no_news_is_told_before_the_resource_is_built(uid: str, version: str, news: bool) -> None:
    cache = Cache()
    assert cache.is_news(resource().key, "uid-1", "5")
    cache.put(resource())

    assert cache.is_news(resource().key, uid, version) is news
    assert cache.put(resource(uid=uid, version=version)) is news


def test_versions_that_are_no_numbers_replace_each_other() -> None:
    cache = Cache()
    cache.put(resource(version="abc"))

    assert not cache.put(resource(version="abc"))
    assert cache.put(resource(version="abd"))


def test_a_resource_that_was_made_anew_under_the_name_replaces_the_old_one() -> None:
    cache = Cache()
    cache.put(resource(version="8"))

    assert cache.put(resource(version="9", uid="uid-2"))
    assert not cache.put(resource(version="8")), "news of the old one that came late"
    assert not cache.remove(resource().key, "uid-1"), "likewise of its end"


def test_what_is_gone_is_forgotten() -> None:
    cache = Cache()
    cache.put(resource())

    assert cache.remove(resource().key, "uid-1")
    assert not cache.remove(resource().key, "uid-1")

    assert cache.get(resource().key) is None


def listed(cache: Cache, version: str, *found: Resource) -> list[str]:
    """The uids that a complete list makes the cache forget."""
    cache.ask_for_list("Dataset")
    gone = list(cache.take_page("Dataset", version, {each.uid: each.version for each in found}))
    for each in found:
        cache.put(each)
    gone += cache.end_list("Dataset", version, frozenset(each.uid for each in found))
    return [each.name for each in gone]


def test_what_a_list_lacks_is_forgotten_and_stays_so() -> None:
    cache = Cache()
    other = resource(name="other", uid="uid-2")
    training = referring(kinds.TRAINING_RUN, "one", builders.TRAINING_RUN)
    for known in (resource(), other, training):
        cache.put(known)

    assert listed(cache, "7", other) == ["frames"]

    assert cache.all() == (other, training)
    assert not cache.put(resource(version="6")), "news from before the list that came after it"
    assert cache.put(resource(version="8", uid="uid-3")), "made after the list"


def test_an_api_server_that_was_restored_from_a_backup_is_believed() -> None:
    cache = Cache()
    cache.put(resource(version="9", generation=5))
    cache.put(resource(version="8", name="younger", uid="uid-2"))

    assert sorted(listed(cache, "6", resource(version="4", generation=2))) == ["frames", "younger"]

    assert cache.all() == (resource(version="4", generation=2),)


def test_a_backup_is_believed_also_by_a_server_whose_versions_were_raised_since() -> None:
    """etcdutl snapshot restore --bump-revision, as etcd advises for Kubernetes."""
    cache = Cache()
    cache.put(resource(version="9", generation=5))

    assert listed(cache, "1000006", resource(version="4", generation=2)) == ["frames"]

    assert cache.all() == (resource(version="4", generation=2),)


def test_the_reply_to_a_write_is_newer_than_a_list_that_was_asked_for_before_it() -> None:
    cache = Cache()
    cache.put(resource())
    cache.ask_for_list("Dataset")
    cache.put_written(resource(version="8", status={"conditions": []}))

    assert cache.take_page("Dataset", "6", {"uid-1": "5"}) == ()
    assert not cache.put(resource())
    assert cache.end_list("Dataset", "6", frozenset({"uid-1"})) == ()

    assert [known.version for known in cache.all()] == ["8"]


def test_what_a_later_page_holds_is_known_until_it_comes() -> None:
    cache = Cache()
    cache.put(resource(version="9"))
    cache.put(resource(version="9", name="second", uid="uid-2"))
    cache.ask_for_list("Dataset")

    assert [gone.name for gone in cache.take_page("Dataset", "6", {"uid-1": "4"})] == ["frames"]

    assert [known.name for known in cache.all()] == ["second"]


def test_the_reply_to_an_own_write_is_news() -> None:
    cache = Cache()
    cache.put(resource())

    cache.put_written(resource(version="6", status={"conditions": []}))

    found = cache.get(resource().key)
    assert found is not None
    assert found.version == "6"
    assert not cache.put(resource(version="6"))


def referring(kind: kinds.Kind, name: str, spec: builders.Yaml, namespace: str = "default") -> Resource:
    return resource(kind, name=name, uid=f"uid-{name}", spec=spec, namespace=namespace)


def test_dependents_are_those_that_refer_to_a_resource_in_its_namespace() -> None:
    cache = Cache()
    for dependent in (
        referring(kinds.TRAINING_RUN, "one", builders.TRAINING_RUN),
        referring(kinds.TRAINING_RUN, "other", {"datasetRef": {"name": "others"}}),
        referring(kinds.TRAINING_RUN, "elsewhere", builders.TRAINING_RUN, namespace="another"),
        referring(kinds.MODEL_SERVICE, "service", builders.MODEL_SERVICE),
        referring(kinds.MODEL_SERVICE, "by-uri", {"model": {"uri": "/objects/model"}}),
    ):
        cache.put(dependent)

    assert cache.dependents(Key("Dataset", "default", "frames")) == (Key("TrainingRun", "default", "one"),)
    assert cache.dependents(Key("TrainingRun", "default", "detector")) == (Key("ModelService", "default", "service"),)
    assert cache.dependents(Key("ModelService", "default", "detector")) == ()


@pytest.mark.parametrize("spec", [{}, {"datasetRef": "frames"}, {"datasetRef": None}, {"datasetRef": {"name": 7}}])
def test_specs_of_any_shape_are_borne(spec: Any) -> None:
    cache = Cache()
    cache.put(referring(kinds.TRAINING_RUN, "odd", spec))

    assert cache.dependents(Key("Dataset", "default", "frames")) == ()


def test_the_reply_to_a_write_does_not_bring_back_what_has_gone_meanwhile() -> None:
    cache = Cache()

    cache.put_written(resource(version="6"))

    assert cache.all() == ()
