"""Stopping in any way leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import supervised
from pelagos.embedded import daemon, orphans, state
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import Phase
from pelagos.embedded.supervisor import Supervisor
from pelagos.engines.processes import groups
from supervised import QUICK, FakeParts, eventually, is_running

_SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


async def test_stop_ends_parts_workers_and_detached_processes(layout: Layout, fake: FakeParts) -> None:
    supervisor = Supervisor(layout, {}, QUICK)
    children = [supervisor.start(fake(name, fake.worker_file(name))) for name in ("etcd", "apiserver", "operator")]
    for child in children:
        await child.until_ready()
    marked = {**os.environ, groups.INSTALLATION: str(layout.home)}
    detached = groups.start_detached(_SLEEP, environment=marked, output=layout.log("run"))

    await supervisor.stop()

    pids = [
        pid for name in ("etcd", "apiserver", "operator") for what in ("pid", "worker") for pid in fake.pids(name, what)
    ]
    assert len(pids) == 6
    assert [pid for pid in pids if is_running(pid)] == []
    assert not groups.is_alive(detached)
    assert orphans.find(layout.home) == set()
    reported = state.read(layout.state)
    assert reported is not None
    assert reported.phase is Phase.STOPPED


async def test_everything_that_ignores_the_order_is_gone_within_ten_seconds(layout: Layout, fake: FakeParts) -> None:
    supervisor = Supervisor(layout, {}, QUICK)
    for name in ("etcd", "apiserver", "operator"):
        await supervisor.start(fake(name, "stubborn")).until_ready()
    marked = {**os.environ, groups.INSTALLATION: str(layout.home)}
    command = [sys.executable, "-S", "-c", _STUBBORN]
    detached = groups.start_detached(command, environment=marked, output=layout.log("run"))
    await eventually(lambda: layout.log("run").read_text() == "up\n", "the process ignores SIGTERM")

    began = time.monotonic()
    await supervisor.stop()

    assert time.monotonic() - began < 10
    assert not groups.is_alive(detached)
    assert orphans.find(layout.home) == set()


async def test_processes_of_other_installations_and_of_people_are_spared(layout: Layout) -> None:
    other = {**os.environ, groups.INSTALLATION: f"{layout.home}-other"}
    people = {**os.environ, "PELAGOS_HOME": str(layout.home)}
    bystanders = [_sleep(environment) for environment in (other, people)]
    try:
        assert await orphans.end(layout.home, 0) == 0
        assert [bystander.poll() for bystander in bystanders] == [None, None]
    finally:
        for bystander in bystanders:
            bystander.kill()
            bystander.wait()


_SUPERVISE = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])  # the tests' helpers
from supervised import FakeParts, QUICK
from pelagos.embedded import locking, supervisor
from pelagos.embedded.layout import Layout
layout = Layout.of(Path(sys.argv[1]))
async def main():
    lock = locking.lock(layout)
    running = supervisor.Supervisor(layout, {}, QUICK)
    fake = FakeParts(layout)
    await running.start(fake("etcd", fake.worker_file("etcd"))).until_ready()
    running.ready()
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_a_killed_supervisor_takes_parts_and_their_workers_along(layout: Layout, fake: FakeParts) -> None:
    running = _start(layout)
    try:
        await eventually(
            lambda: (found := state.read(layout.state)) is not None and found.phase is Phase.READY, "ready"
        )
        pids = fake.pids("etcd") + fake.pids("etcd", "worker")
        assert [is_running(pid) for pid in pids] == [True, True]
        assert daemon.look(layout).runs
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    await eventually(lambda: not any(is_running(pid) for pid in pids), "all are gone")
    found = daemon.look(layout)
    assert (found.runs, found.crashed) == (False, True)


async def test_the_next_supervisor_ends_what_a_killed_one_left(layout: Layout, fake: FakeParts) -> None:
    """Workers whose wrapper was killed together with the supervisor. Processes that the operator started live on."""
    first = Supervisor(layout, {}, QUICK)
    child = first.start(fake("mlflow", fake.worker_file("mlflow")))
    await child.until_ready()
    assert child.state.session is not None
    before = state.read(layout.state)
    worker = fake.pids("mlflow", "worker")[0]
    marked = {**os.environ, groups.INSTALLATION: str(layout.home)}
    training = groups.start_detached(_SLEEP, environment=marked, output=layout.log("run"))
    for task in first._tasks.values():  # a supervisor that does nothing any more
        task.cancel()
    os.kill(child.state.session.pid, signal.SIGKILL)
    await eventually(lambda: not is_running(fake.pids("mlflow")[0]), "the server is gone with its wrapper")
    assert is_running(worker)

    await Supervisor(layout, {}, QUICK).end_earlier(before)

    assert not is_running(worker)
    assert groups.is_alive(training)
    assert await asyncio.to_thread(daemon.stop, layout)
    assert not groups.is_alive(training)


def _sleep(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(_SLEEP, env=environment)


def _start(layout: Layout) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _SUPERVISE, str(layout.home), str(Path(supervised.__file__).parent)])


async def test_a_child_that_was_given_another_environment_is_ended_with_its_session(layout: Layout) -> None:
    marked = {**os.environ, groups.INSTALLATION: str(layout.home)}
    program = (
        "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], env={})"
    )
    runner = groups.start_detached([sys.executable, "-c", program], environment=marked, output=layout.log("run"))
    await eventually(lambda: len(orphans.find(layout.home)) == 2, "runner and child are found")

    assert await orphans.end(layout.home, 2) == 2

    assert not groups.is_alive(runner)
    assert orphans.find(layout.home) == set()
