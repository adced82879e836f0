"""Many waiting runs start through a fork server. It saves time; nothing depends on it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.processes import groups
from pelagos.ports.pipelines import RunName, RunState
from pipeline_worlds import KfpLocalWorld, reach, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NAMES = [f"prepare-{number}" for number in range(7)]


@pytest.fixture
async def world(tmp_path: Path, compiled: Path) -> AsyncIterator[KfpLocalWorld]:
    """One run at a time, in a folder whose path is too long for the address of a socket."""
    deep = tmp_path / ("a-long-name-" * 10)
    deep.mkdir()
    real = KfpLocalWorld(deep, compiled, capacity=1)
    yield real
    await real.close()


async def warm(world: KfpLocalWorld) -> groups.ProcessId:
    """Submit enough runs that a fork server is started; returns it once it answers."""
    for name in NAMES:
        await world.engine.submit(world.request(name))
    await until((world.home / "fork-server.sock").exists, "the fork server's start")
    server = world.launcher().server()
    assert server is not None
    return server


def parent(process: groups.ProcessId) -> int:
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_few_runs_start_no_server(world: KfpLocalWorld) -> None:
    for name in NAMES[:3]:
        await world.engine.submit(world.request(name))

    assert world.launcher().server() is None


async def test_runs_are_forked_from_a_server_into_sessions_of_their_own(world: KfpLocalWorld) -> None:
    server = await warm(world)
    await world.succeed(NAMES[0])
    await world.begin(NAMES[1])

    process = world.process(NAMES[1])

    assert parent(process) == server.pid
    assert os.getsid(process.pid) == process.pid
    # The step prints this after it has recorded that it began.
    await until(lambda: "the step is at work" in world.log(NAMES[1]), "the step's words")


async def test_the_servers_sudden_death_harms_no_run(world: KfpLocalWorld) -> None:
    server = await warm(world)
    await world.succeed(NAMES[0])
    await world.begin(NAMES[1])
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not groups.is_alive(server), "the server's death")

    for name in NAMES[1:4]:
        await world.succeed(name)
        await reach(world, name, RunState.SUCCEEDED)

    assert [world.begun(name) for name in NAMES[:4]] == [1, 1, 1, 1]


async def test_a_forked_run_is_ended_with_all_its_processes(world: KfpLocalWorld) -> None:
    server = await warm(world)
    await world.succeed(NAMES[0])
    await world.begin(NAMES[1])
    process = world.process(NAMES[1])

    await world.engine.cancel(RunName(NAMES[1]))

    assert not groups.is_alive(process)
    assert groups.is_alive(server)


async def test_an_idle_server_ends_and_takes_its_socket_along(
    world: KfpLocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pelagos.engines.kfp_local.launch.IDLE_SECONDS", 0.2)
    launcher = world.launcher()
    launcher.warm_up()
    server = launcher.server()
    assert server is not None

    await until(lambda: not groups.is_alive(server), "the idle server's end")

    assert not (world.home / "fork-server.sock").exists()


async def test_a_socket_behind_which_nobody_listens_is_passed_over(world: KfpLocalWorld) -> None:
    (world.home / "fork-server.sock").write_text("")
    await world.engine.submit(world.request(NAMES[0]))
    await world.succeed(NAMES[0])

    await reach(world, NAMES[0], RunState.SUCCEEDED)
