"""The API server in memory behaves as kube-apiserver does where reconcilers depend on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

import builders
from pelagos.api import kinds
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError
from pelagos.ports.fakes.cluster import ClusterFake, Watcher

KEY = Key("Dataset", "default", "frames")
READY = {
    "type": "Ready",
    "status": "True",
    "reason": "Fine",
    "message": "all is well",
    "observedGeneration": 1,
    "lastTransitionTime": "2026-03-01T12:00:00Z",
}


@pytest.fixture
def cluster() -> ClusterFake:
    return ClusterFake()


@pytest.fixture
def made(cluster: ClusterFake) -> Resource:
    return cluster.create(kinds.DATASET, "frames", {**builders.DATASET, "unknown": 1})


def now(cluster: ClusterFake) -> Resource:
    found = cluster.get(KEY)
    assert found is not None
    return found


def test_defaults_are_filled_in_and_unknown_fields_pruned(made: Resource) -> None:
    assert made.spec["deletionPolicy"] == "Retain"
    assert made.spec["split"]["ratios"] == {"train": 70, "validation": 15, "test": 15}
    assert "unknown" not in made.spec


def test_only_spec_and_deletion_bump_the_generation(cluster: ClusterFake, made: Resource) -> None:
    generations = [
        cluster.edit(KEY, {"refresh": "1h"}).generation,
        cluster.edit(KEY, {"refresh": "1h"}).generation,
        cluster.annotate(KEY, "a", "b").generation,
    ]

    assert (made.generation, generations) == (1, [2, 2, 2])


async def test_status_is_merged_and_an_empty_change_is_no_write(cluster: ClusterFake, made: Resource) -> None:
    first = await cluster.patch_status(made, {"conditions": [READY], "images": 3, "uri": "a"})
    again = await cluster.patch_status(made, {"images": 3})
    removed = await cluster.patch_status(made, {"uri": None})

    assert first is not None
    assert again is not None
    assert removed is not None
    assert (first.generation, again.version == first.version, cluster.status_patches) == (1, True, 2)
    assert removed.status == {"conditions": [READY], "images": 3}


async def test_status_that_the_schema_does_not_know_is_a_fault_of_the_operator(
    cluster: ClusterFake, made: Resource
) -> None:
    with pytest.raises(AssertionError, match="would drop"):
        await cluster.patch_status(made, {"conditions": [READY], "imagez": 3})


async def test_a_stale_write_of_finalizers_is_refused(cluster: ClusterFake, made: Resource) -> None:
    cluster.annotate(KEY, "a", "b")

    with pytest.raises(OutageError, match="409"):
        await cluster.set_finalizers(made, ("pelagos.dev/finalizer",))


async def test_a_write_to_an_earlier_life_of_the_name_is_refused(cluster: ClusterFake, made: Resource) -> None:
    with pytest.raises(OutageError, match="409"):
        await cluster.patch_status(replace(made, uid="earlier"), {})


async def test_a_resource_with_finalizers_waits_for_them(cluster: ClusterFake, made: Resource) -> None:
    held = await cluster.set_finalizers(made, ("a", "b"))
    assert held is not None
    cluster.delete(KEY)
    assert now(cluster).deleting

    with pytest.raises(OutageError, match="422"):
        await cluster.set_finalizers(now(cluster), ("a", "b", "c"))
    await cluster.set_finalizers(now(cluster), ("b",))
    gone = await cluster.set_finalizers(now(cluster), ())

    assert gone is not None
    assert cluster.get(KEY) is None


async def test_writes_to_what_is_gone_answer_none(cluster: ClusterFake, made: Resource) -> None:
    cluster.delete(KEY)

    assert await cluster.patch_status(made, {}) is None
    assert await cluster.set_finalizers(made, ()) is None


async def test_an_outage_fails_every_write_and_loses_events(cluster: ClusterFake, made: Resource) -> None:
    cluster.outage = True

    for call in (cluster.patch_status(made, {}), cluster.set_finalizers(made, ())):
        with pytest.raises(OutageError):
            await call
    await cluster.post_event(made, severity="Normal", reason="Fine", message="")
    assert cluster.events == []


def test_a_watcher_is_told_all_that_is_and_then_all_that_changes(cluster: ClusterFake, made: Resource) -> None:
    seen: list[str] = []
    gone: list[tuple[Key, str]] = []
    watcher = Watcher(lambda resource: seen.append(resource.version), lambda key, uid: gone.append((key, uid)))

    cluster.watch(watcher)
    cluster.annotate(KEY, "a", "b")
    cluster.delete(KEY)
    cluster.unwatch(watcher)
    cluster.create(kinds.DATASET, "frames", builders.DATASET)

    assert (seen, gone) == (["1", "2"], [(KEY, made.uid)])


def test_news_that_lag_come_later_and_in_order(cluster: ClusterFake, made: Resource) -> None:
    seen: list[str] = []
    cluster.watch(Watcher(lambda resource: seen.append(resource.version), lambda _key, _uid: None))
    cluster.lagging = True
    cluster.annotate(KEY, "a", "1")
    cluster.annotate(KEY, "a", "2")
    assert seen == ["1"]

    cluster.catch_up()

    assert seen == ["1", "2", "3"]


def test_an_expired_watch_tells_of_no_deletion_and_lists_what_is_left(cluster: ClusterFake, made: Resource) -> None:
    seen: list[str] = []
    lists: list[tuple[str, frozenset[str]]] = []
    watcher = Watcher(
        seen=lambda resource: seen.append(resource.name),
        gone=lambda _key, _uid: pytest.fail("nobody tells of a deletion"),
        list_ended=lambda kind, version, uids: lists.append((version, uids)) if kind == "Dataset" else None,
    )
    cluster.watch(watcher)
    cluster.lagging = True
    other = cluster.create(kinds.DATASET, "other", builders.DATASET)
    cluster.delete(KEY)

    cluster.expire()

    assert seen == ["frames", "other"]
    assert lists == [("1", frozenset({made.uid})), ("3", frozenset({other.uid}))]


def test_what_is_read_cannot_change_what_is_stored(cluster: ClusterFake, made: Resource) -> None:
    spec = now(cluster).spec
    assert isinstance(spec, dict)
    spec["split"]["seed"] = 99

    assert now(cluster).spec["split"]["seed"] == 0
