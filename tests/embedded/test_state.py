"""The supervisor's report survives whatever happens to its file, and its lock shows who runs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pelagos.embedded import daemon, locking, logs, state
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.embedded.state import PartState, Phase, State
from pelagos.embedded.supervisor import Supervisor
from pelagos.engines.processes.groups import ProcessId
from supervised import QUICK, FakeParts

_STATE = State(Phase.READY, ProcessId(1, 2), ports={"etcd": 3}, parts={"etcd": PartState(session=ProcessId(4, 5))})


def test_a_report_reads_as_it_was_written(layout: Layout) -> None:
    state.write(layout.state, _STATE)
    assert state.read(layout.state) == _STATE


@pytest.mark.parametrize("content", ["", "{", '{"phase": "Ready"', '{"phase": "Well"}', "\x00\x01"])
def test_a_report_that_cannot_be_understood_is_no_report(layout: Layout, content: str) -> None:
    layout.state.write_text(content)
    assert state.read(layout.state) is None
    assert not daemon.look(layout).crashed
    assert not daemon.stop(layout)


async def test_a_full_disk_does_not_stop_supervision(
    layout: Layout, fake: FakeParts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running = Supervisor(layout, {}, QUICK)
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(state, "write", full)
        await running.start(fake("server")).until_ready()
        running.ready()
        assert "No space left on device" in caplog.text
    await running.stop()
    reported = state.read(layout.state)
    assert reported is not None
    assert reported.phase is Phase.STOPPED


def test_one_home_has_one_supervisor(layout: Layout) -> None:
    assert not locking.is_locked(layout)
    with locking.lock(layout):
        assert locking.is_locked(layout)
        with pytest.raises(locking.AlreadyRunningError, match="already runs"):
            locking.lock(layout, patience=0.1)
    assert not locking.is_locked(layout)


def test_a_stale_report_of_a_machine_that_went_down(layout: Layout) -> None:
    """Its process ids belong to other programs by now: none is killed, and the ports are kept."""
    mine = os.getpid()
    stale = State(
        Phase.READY,
        ProcessId(mine, 1),
        ports={"etcd": 3},
        parts={"etcd": PartState(pid=mine, session=ProcessId(mine, 1))},
    )
    state.write(layout.state, stale)
    assert daemon.look(layout).crashed
    assert not daemon.stop(layout)
    after = state.read(layout.state)
    assert after is not None
    assert (after.phase, after.ports) == (Phase.STOPPED, {"etcd": 3})


def test_a_lock_without_a_report_says_how_to_find_its_holder(layout: Layout) -> None:
    with locking.lock(layout), pytest.raises(StartError, match="fuser"):
        daemon.stop(layout)


def test_large_logs_are_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROTATE_BYTES", 10)
    monkeypatch.setattr(logs, "LIMIT_BYTES", 20)
    log = tmp_path / "server.log"
    logs.rotate(log)
    with log.open("a") as running:
        running.write("x" * 30)
        running.flush()
        logs.limit(log)
        running.write("after")
    assert log.read_text() == "after"
    assert (tmp_path / "server.log.1").read_text() == "x" * 30
    log.write_text("y" * 11)
    logs.rotate(log)
    assert not log.exists()
    assert (tmp_path / "server.log.1").read_text() == "y" * 11
