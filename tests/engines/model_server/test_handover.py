"""The engine changes from deployment to kserve and back: servers are removed only when their successors have answered right.

The API server and Triton are real; nodes and KServe are fake servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from control_plane import ControlPlane
from pelagos.engines.deployment.engine import TritonDeployment
from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.kserve.engine import Kserve
from pelagos.engines.model_server import marks, object_kinds, ownership, pod_status
from pelagos.engines.model_server.engine import ClusterServing
from pelagos.ports.serving import DesiredService, Scaling, ServiceState
from serving_clusters import ServingCluster, options, serving_cluster, until

MakeWant = Callable[..., DesiredService]
UID = "uid-of-handover"
ENGINES: dict[str, type[ClusterServing]] = {"deployment": TritonDeployment, "kserve": Kserve}
MADE = {"deployment": object_kinds.BY_DEPLOYMENT, "kserve": object_kinds.BY_KSERVE}


@dataclass
class Change:
    """``old`` is the engine that is set first, ``new`` the one that a later life of the operator has."""

    site: ServingCluster
    old_name: str
    new_name: str
    lives: list[ClusterServing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.old, self.new = self.live(self.old_name), self.live(self.new_name)

    def live(self, name: str) -> ClusterServing:
        """An operator with this engine, which remembers nothing."""
        root, namespace = self.site.root, self.site.namespace
        self.lives.append(ENGINES[name](self.site.cluster, FolderObjects(root), options(root), lambda _uid: namespace))
        return self.lives[-1]

    async def left(self) -> list[str]:
        """All objects that only the old engine creates."""
        found = [body for kind in MADE[self.old_name] for body in await self.site.all(kind, UID)]
        return [body["metadata"]["name"] for body in found if ownership.is_owned(body, UID)]

    async def ready(self, *, by_kserve: bool) -> list[str]:
        """Names of the pods that serve through one of the engines."""
        pods = [pod for pod in await self.site.pods(UID) if pod_status.is_ready(pod)]
        made = marks.INFERENCE_SERVICE_LABEL
        return [pod["metadata"]["name"] for pod in pods if (made in pod["metadata"]["labels"]) == by_kserve]


@pytest.fixture(params=[("deployment", "kserve"), ("kserve", "deployment")], ids="-to-".join)
async def change(request: pytest.FixtureRequest, plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Change]:
    async with serving_cluster(plane, "kserve", tmp_path.parent, tmp_path) as site:
        made = Change(site, *request.param)
        yield made
        for engine in made.lives:
            await engine.close()


async def test_the_old_one_serves_until_the_new_one_is_proven_and_then_goes_with_all_its_objects(
    change: Change, make_want: MakeWant
) -> None:
    want = change.site.in_namespace(make_want(uid=UID), scaling=Scaling(minimum=1, maximum=2))
    await change.old.apply(want)
    await until(change.old, UID, ServiceState.LOADED)
    before = await change.left()

    seen = await change.new.observe(UID)
    assert seen is not None
    assert (seen.digest, seen.grpc_url, seen.replicas) == ("", "", 0)
    assert seen.predecessor == f"{change.old.main.kind} detector"

    await change.new.apply(want)
    seen = await until(change.new, UID, ServiceState.LOADED)
    # Its own servers answer, and not those of the other engine, which serve the same model.
    assert await change.ready(by_kserve=change.old_name == "deployment")
    assert (await change.new.probe(UID)).correct
    assert seen.predecessor == f"{change.old.main.kind} detector"
    assert await change.left() == before
    assert await change.ready(by_kserve=change.old_name == "kserve")

    await change.new.retire(UID)
    async with asyncio.timeout(60):
        while await change.left():  # noqa: ASYNC110 - others decide
            await asyncio.sleep(0.2)
        while await change.ready(by_kserve=change.old_name == "kserve"):  # noqa: ASYNC110 - others decide
            await asyncio.sleep(0.2)
    seen = await until(change.new, UID, ServiceState.LOADED)
    assert (seen.digest, seen.predecessor) == (want.digest, "")
    assert (await change.new.probe(UID)).correct
    await change.new.retire(UID)  # again, after a crash


async def test_servers_of_the_old_engine_are_not_taken_for_those_of_the_new_one(
    change: Change, make_want: MakeWant
) -> None:
    """They carry the same uid, serve the same model and are ready."""
    want = change.site.in_namespace(make_want(uid=UID))
    await change.old.apply(want)
    await until(change.old, UID, ServiceState.LOADED)
    change.site.node.faults.quota = "exceeded quota: compute"
    await change.new.apply(want)

    seen = await until(change.new, UID, ServiceState.WAITING, seconds=60)
    assert "exceeded quota: compute" in seen.message
    assert seen.lacks_room
    assert (seen.replicas, seen.restarts) == (0, 0)
    assert not (await change.new.probe(UID)).correct
    assert await change.ready(by_kserve=change.old_name == "kserve")

    # Set back again: only what was begun has to be removed.
    again = change.live(change.old_name)
    seen = await until(again, UID, ServiceState.LOADED)
    assert (seen.digest, seen.predecessor) == (want.digest, f"{change.new.main.kind} detector")
    await again.retire(UID)

    async def is_left() -> bool:
        return any(ownership.is_owned(body, UID) for body in await change.site.all(change.new.main, UID))

    async with asyncio.timeout(30):  # the finalizer is removed within a moment
        while await is_left():  # noqa: ASYNC110 - others decide
            await asyncio.sleep(0.1)
    assert (await again.probe(UID)).correct


async def test_what_waits_for_a_controller_that_is_gone_is_told_so(change: Change, make_want: MakeWant) -> None:
    """KServe was uninstalled, or a person deletes with --cascade=foreground."""
    change.site.node.faults.frozen = True
    want = change.site.in_namespace(make_want(uid=UID))
    await change.old.apply(want)
    (main,) = await change.site.all(change.old.main, UID)
    where = (change.old.main, change.site.namespace, main["metadata"]["name"])
    await change.site.cluster.patch(*where, {"metadata": {"finalizers": ["example.org/gone"]}})
    seen = await change.new.observe(UID)
    assert seen is not None
    assert seen.predecessor_held == ""

    await change.new.retire(UID)

    seen = await change.new.observe(UID)
    assert seen is not None
    assert seen.predecessor == f"{change.old.main.kind} detector"
    assert "waits for example.org/gone" in seen.predecessor_held
    await change.site.cluster.patch(*where, {"metadata": {"finalizers": None}})


async def test_the_deletion_of_the_service_removes_what_both_made(change: Change, make_want: MakeWant) -> None:
    change.site.node.faults.frozen = True
    want = change.site.in_namespace(make_want(uid=UID))
    await change.old.apply(want)
    await change.new.apply(want)

    await change.live(change.new_name).remove(UID)

    assert await change.left() == []
    assert await change.new.observe(UID) is None
    assert await change.old.observe(UID) is None


async def test_what_another_owns_is_left_alone(change: Change, make_want: MakeWant) -> None:
    """Anyone can write labels."""
    change.site.node.faults.frozen = True
    want = change.site.in_namespace(make_want(uid=UID))
    await change.old.apply(want)
    (main,) = await change.site.all(change.old.main, UID)
    theirs = {"metadata": {"ownerReferences": None}}
    await change.site.cluster.patch(change.old.main, change.site.namespace, main["metadata"]["name"], theirs)

    assert await change.new.observe(UID) is None
    await change.new.retire(UID)

    assert len(await change.site.all(change.old.main, UID)) == 1
