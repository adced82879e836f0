"""An operator with a label selector manages its share of the resources, and no others; labels move them."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import builders
from control_plane import ControlPlane
from pelagos.api import meta
from sites import Site, has_reason, is_ready

SPEC: dict[str, Any] = {"source": {"volume": {"path": "nowhere"}}, "task": "Detection"}
LABEL = "pelagos.dev/shard"
_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def operating(plane: ControlPlane, home: Path, selector: str) -> AsyncIterator[Site]:
    namespace = f"share-{next(_numbers)}"
    plane.create_namespace(namespace)
    made = Site(plane, namespace, home, watch_selector=selector)
    await made.start_operator()
    yield made
    await made.stop_operator()
    gc.collect()  # collects kopf's unclosed connections now, while conftest ignores their warnings, and not after the last test


@pytest.fixture
async def site(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Site]:
    async with operating(plane, tmp_path, f"{LABEL}=north") as made:
        yield made


async def create(site: Site, name: str, share: str | None, kind: str = "Dataset", spec: Any = SPEC) -> None:
    metadata = {"name": name, "labels": {LABEL: share} if share else {}}
    body = {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    await site.call("POST", site.path(kind), body)


async def move(site: Site, name: str, share: str) -> None:
    await site.patch("Dataset", name, {"metadata": {"labels": {LABEL: share}}})


async def test_only_the_shard_is_looked_after(site: Site) -> None:
    await create(site, "others", "south")
    await create(site, "nobodys", None)
    await create(site, "ours", "north")

    await site.wait("Dataset", "ours", has_reason("SourceNotFound"))

    for name in ("others", "nobodys"):
        body = await site.get("Dataset", name)
        assert "status" not in body
        assert "finalizers" not in body["metadata"]


async def test_an_operator_for_the_rest_takes_what_has_no_label(plane: ControlPlane, tmp_path: Path) -> None:
    async with operating(plane, tmp_path, f"{LABEL} notin (north, south)") as site:
        await create(site, "others", "south")
        await create(site, "nobodys", None)

        await site.wait("Dataset", "nobodys", has_reason("SourceNotFound"))

        assert "status" not in await site.get("Dataset", "others")


async def test_a_training_run_whose_dataset_is_in_another_shard_says_so(site: Site) -> None:
    await create(site, "frames", "south")
    await create(site, "detector", "north", "TrainingRun", builders.TRAINING_RUN)

    await site.wait("TrainingRun", "detector", has_reason("DatasetNotFound"))


async def test_what_is_given_a_label_is_taken_over(site: Site) -> None:
    await create(site, "plankton", "south")

    await move(site, "plankton", "north")

    await site.wait("Dataset", "plankton", has_reason("SourceNotFound"))


async def test_what_leaves_the_shard_is_let_go_as_it_is(site: Site) -> None:
    await create(site, "plankton", "north")
    await site.wait("Dataset", "plankton", has_reason("SourceNotFound"))
    await move(site, "plankton", "south")
    await create(site, "last", "north")
    await site.wait("Dataset", "last", has_reason("SourceNotFound"))  # By now the watch has reported the move.

    await site.patch("Dataset", "plankton", {"spec": {"suspend": True}})
    await site.patch("Dataset", "last", {"spec": {"suspend": True}})
    await site.wait("Dataset", "last", has_reason("Suspended"))

    left = await site.get("Dataset", "plankton")
    assert left["metadata"]["finalizers"] == [meta.FINALIZER]
    assert not is_ready(left)
    assert has_reason("SourceNotFound")(left)
