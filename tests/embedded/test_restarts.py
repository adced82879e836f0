"""A part that ends or hangs is restarted with growing pauses, and its end is visible."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from dataclasses import replace

from pelagos.embedded import state
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartPhase, Phase
from pelagos.embedded.supervisor import Supervisor
from supervised import FakeParts, eventually, is_running


async def test_a_killed_part_starts_again_and_its_end_is_reported(
    supervisor: Supervisor, fake: FakeParts, layout: Layout
) -> None:
    child = supervisor.start(fake("server"))
    await child.until_ready()
    supervisor.ready()

    os.kill(fake.pids("server")[-1], signal.SIGKILL)
    await eventually(lambda: supervisor.state.phase is Phase.DEGRADED, "the installation is degraded")
    await eventually(lambda: supervisor.state.phase is Phase.READY, "the installation is ready again")

    reported = state.read(layout.state)
    assert reported is not None
    part = reported.parts["server"]
    assert (part.phase, part.restarts, part.last_exit) == (PartPhase.READY, 1, "was ended by SIGKILL")
    assert part.pid == fake.pids("server")[-1] != fake.pids("server")[0]
    assert part.last_exit_at.endswith("Z")


async def test_a_hung_part_is_killed_and_starts_again(supervisor: Supervisor, fake: FakeParts) -> None:
    child = supervisor.start(fake("server"))
    await child.until_ready()
    hung = fake.pids("server")[-1]

    os.kill(hung, signal.SIGSTOP)
    await eventually(lambda: child.state.restarts == 1, "it was started again")
    await child.until_ready()

    assert "health checks" in child.state.last_exit
    assert not is_running(hung)


async def test_a_part_that_never_gets_going_is_started_anew(supervisor: Supervisor, fake: FakeParts) -> None:
    child = supervisor.start(fake("server", "never-alive", start_seconds=0.5))
    await eventually(lambda: child.state.restarts >= 1, "it was started again")
    assert child.state.last_exit.startswith("was not ready within")
    assert not child.was_ready


async def test_a_part_that_waits_for_others_from_its_start_is_left_alone(
    supervisor: Supervisor, fake: FakeParts
) -> None:
    """An operator without its kinds: restarting it would not bring them."""
    part = fake("server", "never-ready", start_seconds=3)
    child = supervisor.start(part)

    await eventually(lambda: child.state.phase is PartPhase.UNREADY, "it shows as not ready")
    await asyncio.sleep(0.5)
    assert (child.state.restarts, child.was_ready) == (0, False)

    child.part = replace(part, ready=part.alive)
    await child.until_ready()
    assert child.state.restarts == 0


async def test_a_part_that_works_but_is_not_ready_is_left_alone(supervisor: Supervisor, fake: FakeParts) -> None:
    """An API server without its etcd: restarting it would not help."""
    part = fake("server", "never-ready")
    child = supervisor.start(replace(part, ready=part.alive, alive=part.alive))
    await child.until_ready()
    child.part = part
    await eventually(lambda: child.state.phase is PartPhase.UNREADY, "it shows as not ready")
    assert child.state.restarts == 0


async def test_pauses_double_up_to_the_longest(supervisor: Supervisor, fake: FakeParts) -> None:
    child = supervisor.start(fake("server", "fail=5"))
    began = time.monotonic()
    await child.until_ready()

    assert child.state.last_exit == "ended with exit code 3"
    # 0.2 + 0.4 + 0.8 + 0.8 + 0.8 seconds of pauses
    assert time.monotonic() - began >= 3.0
    assert len(fake.pids("server")) == 6


async def test_a_taken_port_is_named(supervisor: Supervisor, fake: FakeParts) -> None:
    part = fake("server")
    with socket.socket() as other:
        other.bind(("127.0.0.1", part.ports[0]))
        other.listen()
        child = supervisor.start(part)
        await eventually(lambda: child.state.phase is PartPhase.RESTARTING, "it cannot start")
        assert child.state.last_exit == f"another program uses port {part.ports[0]} of 127.0.0.1"
        assert fake.pids("server") == []
    await child.until_ready()


async def test_a_missing_program_is_named(supervisor: Supervisor, fake: FakeParts) -> None:
    part = fake("server")
    child = supervisor.start(replace(part, command=("/nonexistent/program",)))
    await eventually(lambda: child.state.phase is PartPhase.RESTARTING, "it cannot start")
    assert child.state.last_exit == "ended with exit code 127"
    assert "/nonexistent/program" in child.log.read_text()
