"""What every implementation of Serving promises, shown on the fake and on real Triton servers.

On a cluster the API server and Triton are real; nodes and KServe are the fake servers of tests/kserve_fake_server. The manager of
OSCAR is that of tests/oscar_fake_server.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import pytest

import model_packages
from engines.oscar import conftest as oscar
from kserve_fake_server.nodes import PODS
from oscar_fake_server import containers
from oscar_fake_server.manager import Manager
from pelagos.api import meta
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.engine import TritonLocal
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.serving import DesiredService, ObservedService, ServiceState
from serving_clusters import ServingCluster, serving_cluster, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pelagos.ports.serving import Serving

    MakeWant = Callable[..., DesiredService]


class World(Protocol):
    """An implementation, and what happens to its servers.

    ``host`` is how addresses for clients begin, ``death`` the message about a server that was killed. ``has_grpc``: its servers
    are reached by gRPC, and their metrics can be read. ``ends_first``: a restart ends a server before another one exists, and
    is counted.
    """

    serving: Serving
    host: str
    death: str
    has_grpc: bool
    ends_first: bool

    def place(self, want: DesiredService) -> DesiredService:
        """The desired state with its package where servers fetch it."""

    async def kill(self, uid: str) -> None:
        """Kill the server."""

    async def break_answers(self, uid: str) -> None:
        """Have the server report that it is ready, and fail to infer."""

    def fail_load(self, want: DesiredService) -> DesiredService:
        """A desired state whose model does not load."""

    def missing(self, want: DesiredService) -> DesiredService:
        """A desired state whose package does not exist."""


class OnThisMachine:
    """Its servers read packages from folders."""

    has_grpc = True
    ends_first = True

    def place(self, want: DesiredService) -> DesiredService:
        return want


class FakeWorld(OnThisMachine):
    host = "127.0.0.1"
    death = "the server's process has ended"

    def __init__(self) -> None:
        self.fake = ServingFake()
        self.serving: Serving = self.fake

    async def kill(self, uid: str) -> None:
        self.fake.kill(uid)

    async def break_answers(self, uid: str) -> None:
        self.fake.break_answers(uid)

    def fail_load(self, want: DesiredService) -> DesiredService:
        self.fake.fail_load(want.uid, "model.onnx: Protobuf parsing failed")
        return want

    def missing(self, want: DesiredService) -> DesiredService:
        self.fake.missing.add(want.package_uri)
        return want


class TritonWorld(OnThisMachine):
    host = "127.0.0.1"
    death = "the server's process has ended"

    def __init__(self, triton: TritonLocal, home: Path) -> None:
        self.serving: Serving = triton
        self.home = home

    def pid(self, uid: str) -> int:
        server = records.read(self.home / "services" / uid).newest
        assert server is not None
        assert server.process is not None
        return server.process.pid

    async def kill(self, uid: str) -> None:
        os.kill(self.pid(uid), signal.SIGKILL)

    async def break_answers(self, uid: str) -> None:
        for stub in children(self.pid(uid)):
            os.kill(stub, signal.SIGKILL)

    def fail_load(self, want: DesiredService) -> DesiredService:
        return altered(want, self.home / "broken", {"model.onnx": b"no graph"})

    def missing(self, want: DesiredService) -> DesiredService:
        return DesiredService(**{**vars(want), "package_uri": str(self.home / "nowhere")})


class ClusterWorld(OnThisMachine):
    host = "detector"
    death = "killed (signal 9)"

    def __init__(self, site: ServingCluster, home: Path) -> None:
        self.serving: Serving = site.serving
        self.site = site
        self.home = home

    async def _pid(self, uid: str) -> int:
        (pod,) = await self.site.cluster.list(PODS, "", {meta.UID_LABEL: uid})
        process = self.site.node.running[pod["metadata"]["name"]].process
        assert process is not None
        return process.pid

    async def kill(self, uid: str) -> None:
        os.killpg(await self._pid(uid), signal.SIGKILL)

    async def break_answers(self, uid: str) -> None:
        for stub in children(await self._pid(uid)):
            os.kill(stub, signal.SIGKILL)

    def fail_load(self, want: DesiredService) -> DesiredService:
        return altered(want, self.home / "broken", {"model.onnx": b"no graph"})

    def missing(self, want: DesiredService) -> DesiredService:
        return DesiredService(**{**vars(want), "package_uri": str(self.home / "nowhere")})


class OscarWorld:
    """Packages are on object storage. OSCAR replaces a container only when another one is ready."""

    host = "127.0.0.1"
    death = "killed (signal 9)"
    has_grpc = False
    ends_first = False

    def __init__(self, site: oscar.Site, home: Path) -> None:
        self.serving: Serving = site.engine
        self.site = site
        self.home = home
        self.folders: dict[str, str] = {}

    def place(self, want: DesiredService) -> DesiredService:
        placed = self.site.put(want)
        self.folders[placed.package_uri] = want.package_uri
        return placed

    def _triton(self, uid: str) -> int:
        (deployed,) = (each for each in self.site.manager.services.values() if uid in str(each.service["annotations"]))
        (container,) = deployed.containers
        (pid,) = (pid for pid in below(container.pid) if is_triton(pid))
        return pid

    async def kill(self, uid: str) -> None:
        os.kill(self._triton(uid), signal.SIGKILL)

    async def break_answers(self, uid: str) -> None:
        for stub in children(self._triton(uid)):
            os.kill(stub, signal.SIGKILL)

    def fail_load(self, want: DesiredService) -> DesiredService:
        local = replace(want, package_uri=self.folders[want.package_uri])
        return self.place(altered(local, self.home / "broken", {"model.onnx": b"no graph"}))

    def missing(self, want: DesiredService) -> DesiredService:
        return replace(want, package_uri=f"s3://{self.site.bucket}/objects/packages/nowhere")


def below(pid: int) -> list[int]:
    """The processes that descend from one."""
    found = children(pid)
    return [*found, *(each for child in found for each in below(child))]


def is_triton(pid: int) -> bool:
    return b"--model-repository=" in Path(f"/proc/{pid}/cmdline").read_bytes()


def altered(want: DesiredService, folder: Path, contents: dict[str, bytes]) -> DesiredService:
    """A consistent package with other contents, and the desired state for it."""
    manifest, onnx = model_packages.altered(Path(want.package_uri), folder, contents)
    return replace(want, package_uri=str(folder), onnx_sha256=onnx, manifest_sha256=manifest, digest=str(folder))


def children(pid: int) -> list[int]:
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in lists for child in text.split()]


SIDE_BY_SIDE = ("one", "two", "three")


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


@pytest.fixture(params=["fake", "triton", "deployment", "kserve", "oscar"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, uid: str) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    if request.param in ("deployment", "kserve"):
        # Packages, and copies that tests make of them, are below the folder of all tests.
        root = tmp_path.parent
        async with serving_cluster(request.getfixturevalue("plane"), request.param, root, tmp_path) as site:
            site.serving._namespace_of = lambda _uid: "default"  # the namespace of make_want
            yield ClusterWorld(site, tmp_path)
            for service in {uid, *SIDE_BY_SIDE}:
                await site.serving.remove(service)
        return
    if request.param == "oscar":
        bucket, storage = request.getfixturevalue("bucket"), request.getfixturevalue("object_storage")
        # Long enough for a test to see that a container has ended.
        request.getfixturevalue("monkeypatch").setattr(containers, "PAUSES", (2.0,))
        async with Manager() as manager:
            engine = oscar.engine(manager, storage, bucket, tmp_path)
            yield OscarWorld(oscar.Site(manager, engine, storage, bucket, tmp_path, []), tmp_path)
            for service in {uid, *SIDE_BY_SIDE}:
                await engine.remove(service)
            await engine.close()
        return
    triton = TritonLocal(tmp_path, request.getfixturevalue("environments"))
    yield TritonWorld(triton, tmp_path)
    for service in {uid, *SIDE_BY_SIDE}:
        await triton.remove(service)
    await triton.close()


@pytest.fixture
def make_want(world: World, make_want: MakeWant) -> MakeWant:
    return lambda *arguments, **changes: world.place(make_want(*arguments, **changes))


async def settled(serving: Serving, uid: str, seconds: float = 120) -> ObservedService:
    """Wait until the server has loaded the model, refused it or died; returns what is observed."""
    deadline = monotonic() + seconds
    seen = None
    while True:
        # On a busy machine the API server may be late once.
        with contextlib.suppress(OutageError):
            seen = await serving.observe(uid)
            assert seen is not None
            if seen.state not in {ServiceState.STARTING, ServiceState.WAITING}:
                return seen
        assert monotonic() < deadline, seen
        await asyncio.sleep(0.1)


async def test_an_endpoint_loads_its_model_and_answers_right(world: World, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid)
    assert await world.serving.observe(uid) is None
    await world.serving.apply(want)
    seen = await settled(world.serving, uid)
    assert (seen.state, seen.digest, seen.restarts) == (ServiceState.LOADED, want.digest, 0)
    assert seen.onnx_sha256 == want.onnx_sha256
    assert seen.http_url.startswith(f"http://{world.host}")
    assert (seen.grpc_url.startswith(world.host), seen.metrics_url.endswith("/metrics")) == (world.has_grpc,) * 2
    assert bool(seen.authorization) is not world.has_grpc, "what only answers over HTTP is behind a login"
    probe = await world.serving.probe(uid)
    assert (probe.correct, probe.message) == (True, "")
    assert 0 < probe.latency < 10


async def test_applying_again_changes_nothing(world: World, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid)
    await asyncio.gather(world.serving.apply(want), world.serving.apply(want))
    first = await settled(world.serving, uid)
    await world.serving.apply(want)
    second = await world.serving.observe(uid)
    assert second == first
    if isinstance(world, TritonWorld):
        assert len(servers(world.home)) == 1


async def test_a_model_that_does_not_load_says_why(world: World, uid: str, make_want: MakeWant) -> None:
    await world.serving.apply(world.fail_load(make_want(uid=uid)))
    seen = await settled(world.serving, uid)
    assert seen.state is ServiceState.LOAD_FAILED
    assert "protobuf parsing failed" in seen.message.lower()
    assert not (await world.serving.probe(uid)).correct


async def test_a_package_that_is_missing_is_refused(world: World, uid: str, make_want: MakeWant) -> None:
    want = world.missing(make_want(uid=uid))
    with pytest.raises(RejectedError, match=r"package\.json"):
        await world.serving.apply(want)
    assert await world.serving.observe(uid) is None


async def test_a_dead_server_is_started_again_and_counted(world: World, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid)
    await world.serving.apply(want)
    await settled(world.serving, uid)
    for deaths in (1, 2):
        await world.kill(uid)
        dead = await gone(world.serving, uid)
        assert dead.state is ServiceState.DEAD
        assert world.death in dead.message
        assert not (await world.serving.probe(uid)).correct
        await world.serving.apply(want)
        seen = await until(world.serving, uid, ServiceState.LOADED)
        assert (seen.state, seen.restarts) == (ServiceState.LOADED, deaths)
    assert (await world.serving.probe(uid)).correct


async def test_a_change_is_no_death(world: World, uid: str, make_want: MakeWant) -> None:
    await world.serving.apply(make_want(uid=uid))
    await settled(world.serving, uid)
    changed = make_want(uid=uid, confidence="0.6", instances=2)
    await world.serving.apply(changed)
    seen = await settled(world.serving, uid)
    assert (seen.state, seen.digest, seen.restarts) == (ServiceState.LOADED, changed.digest, 0)
    assert (await world.serving.probe(uid)).correct


async def test_a_server_that_answers_wrong_is_noticed_and_cured(world: World, uid: str, make_want: MakeWant) -> None:
    want = make_want(uid=uid)
    await world.serving.apply(want)
    await settled(world.serving, uid)
    await world.break_answers(uid)
    seen = await world.serving.observe(uid)
    assert seen is not None
    assert seen.state is ServiceState.LOADED, "the server itself notices nothing, which is why there are probes"
    probe = await world.serving.probe(uid)
    assert not probe.correct
    assert "not healthy" in probe.message
    await world.serving.restart(uid)
    if world.ends_first:
        # Dead here; on a cluster, which replaces it by itself, possibly starting again.
        await until(world.serving, uid, ServiceState.DEAD, ServiceState.STARTING, seconds=5)
    await world.serving.apply(want)
    for _ in range(600):
        if (await world.serving.probe(uid)).correct:
            break
        await asyncio.sleep(0.1)
    seen = await until(world.serving, uid, ServiceState.LOADED)
    assert (seen.state, seen.restarts) == (ServiceState.LOADED, int(world.ends_first))
    assert (await world.serving.probe(uid)).correct


async def test_services_live_side_by_side(world: World, make_want: MakeWant) -> None:
    wants = [
        make_want("Detection", uid="one", name="one"),
        make_want("Classification", uid="two", name="two", model_name="classifier"),
        make_want("Detection", uid="three", name="three"),
    ]
    await asyncio.gather(*(world.serving.apply(want) for want in wants))
    for want in wants:
        assert (await settled(world.serving, want.uid)).state is ServiceState.LOADED
    await world.serving.remove("one")
    assert await world.serving.observe("one") is None
    for want in wants[1:]:
        assert (await world.serving.probe(want.uid)).correct


async def test_what_is_removed_is_gone_and_can_come_back(world: World, uid: str, make_want: MakeWant) -> None:
    await world.serving.remove(uid)
    await world.serving.restart(uid)
    for keep_files in (True, False):
        await world.serving.apply(make_want(uid=uid))
        assert (await settled(world.serving, uid)).restarts == 0
        await world.serving.remove(uid, keep_files=keep_files)
        await world.serving.remove(uid, keep_files=keep_files)
        assert await world.serving.observe(uid) is None
        assert not (await world.serving.probe(uid)).correct


def servers(home: Path) -> list[int]:
    """Processes of the services of this installation."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(home) in command and b"--model-repository=" in command:
            found.append(int(path.parent.name))
    return found


async def gone(serving: Serving, uid: str) -> ObservedService:
    """Wait until a killed process has ended, which takes a moment."""
    for _ in range(50):
        seen = await serving.observe(uid)
        assert seen is not None
        if seen.state is ServiceState.DEAD:
            return seen
        await asyncio.sleep(0.1)
    raise AssertionError(seen)
