"""On a node without room for one more server, an old one can end first. Both engines; nodes and KServe are fake servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane import ControlPlane
from pelagos.ports.serving import DesiredService, Scaling, ServiceState, spec_digest
from serving_clusters import ServingCluster, serving_cluster, until

MakeWant = Callable[..., DesiredService]
UID = "uid-of-rollout-order"
FULL = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."


@pytest.fixture(params=["deployment", "kserve"])
async def site(request: pytest.FixtureRequest, plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(plane, request.param, tmp_path.parent, tmp_path) as made:
        yield made


def in_order(want: DesiredService, pods: str, *, old_first: bool) -> DesiredService:
    scaling = Scaling(old_first=old_first)
    return replace(want, scaling=scaling, pods_digest=pods, digest=spec_digest(pods, scaling))


async def test_what_finds_no_room_says_how_and_then_takes_that_of_the_old_one(
    site: ServingCluster, make_want: MakeWant
) -> None:
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(in_order(want, "one", old_first=False))
    await until(site.serving, UID, ServiceState.LOADED)
    (before,) = await site.pods(UID)

    # Changing the order alone replaces no server.
    await site.serving.apply(in_order(want, "one", old_first=True))
    await asyncio.sleep(1)
    seen = await until(site.serving, UID, ServiceState.LOADED)
    assert seen.digest == spec_digest("one", Scaling(old_first=True)) != "one"
    assert [pod["metadata"]["uid"] for pod in await site.pods(UID)] == [before["metadata"]["uid"]]
    await site.serving.apply(in_order(want, "one", old_first=False))

    site.node.faults.unplaceable = FULL
    stricter = replace(want, confidence="0.6")
    await site.serving.apply(in_order(stricter, "two", old_first=False))
    seen = await until(site.serving, UID, ServiceState.WAITING, seconds=60)
    assert FULL in seen.message
    assert "the old version is still served" in seen.message
    assert "spec.rollout.order: OldFirst" in seen.message
    assert before["metadata"]["uid"] in [pod["metadata"]["uid"] for pod in await site.pods(UID)]

    await site.serving.apply(in_order(stricter, "two", old_first=True))
    async with asyncio.timeout(60):
        while before["metadata"]["uid"] in [pod["metadata"]["uid"] for pod in await site.pods(UID)]:  # noqa: ASYNC110 - others decide
            await asyncio.sleep(0.2)
    site.node.faults.unplaceable = ""
    # Only a real scheduler binds a pending pod.
    for pod in await site.pods(UID):
        await site.rest.ask("DELETE", f"/api/v1/namespaces/{site.namespace}/pods/{pod['metadata']['name']}")
    seen = await until(site.serving, UID, ServiceState.LOADED)
    assert seen.pods_digest == "two"
