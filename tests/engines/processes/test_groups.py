"""Processes that outlive the operator are recognized, not mistaken for others, and end with all their children."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.processes import groups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    Start = Callable[[str], Coroutine[None, None, groups.ProcessId]]


async def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.02)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start Python with a program text and wait until it has written the file ``ready``."""
    started = []

    async def run(program: str) -> groups.ProcessId:
        ready = tmp_path / "ready"
        ready.unlink(missing_ok=True)
        text = f"import os, signal, subprocess, sys, time, pathlib\nready = pathlib.Path({str(ready)!r})\n{program}"
        process = groups.start_detached(
            [sys.executable, "-c", text], environment=os.environ, output=tmp_path / "output"
        )
        started.append(process)
        await until(ready.exists)
        return process

    yield run
    for process in started:
        await groups.kill_group(process, grace_seconds=0)


async def test_a_detached_process_leads_a_session_of_its_own(start: Start) -> None:
    process = await start("ready.touch(); time.sleep(600)")

    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    assert groups.identify(process.pid) == process
    assert groups.is_alive(process)


async def test_output_is_appended_to_the_file(start: Start, tmp_path: Path) -> None:
    (tmp_path / "output").write_text("before\n")
    process = await start("print('words', flush=True); print('errors', file=sys.stderr, flush=True); ready.touch()")
    await until(lambda: not groups.is_alive(process))

    assert (tmp_path / "output").read_text() == "before\nwords\nerrors\n"


async def test_a_process_that_has_ended_is_dead_and_leaves_no_zombie(start: Start) -> None:
    process = await start("ready.touch()")

    await until(lambda: not groups.is_alive(process))

    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_another_process_with_the_same_id_is_not_mistaken_for_it(start: Start) -> None:
    process = await start("ready.touch(); time.sleep(600)")
    predecessor = replace(process, started=process.started - 1)

    assert not groups.is_alive(predecessor)
    await groups.kill_group(predecessor, grace_seconds=0)
    assert groups.is_alive(process)


async def test_a_group_ends_with_all_its_children(start: Start, tmp_path: Path) -> None:
    process = await start(
        f"child = subprocess.Popen(['sleep', '600'])\npathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "ready.touch(); time.sleep(600)"
    )
    child = groups.identify(int((tmp_path / "child").read_text()))
    assert child is not None

    await groups.kill_group(process, grace_seconds=60)

    assert not groups.is_alive(process)
    assert not groups.is_alive(child)


async def test_a_group_ends_although_its_leader_is_dead(start: Start, tmp_path: Path) -> None:
    process = await start(
        f"child = subprocess.Popen(['sleep', '600'])\npathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "ready.touch(); time.sleep(600)"
    )
    child = groups.identify(int((tmp_path / "child").read_text()))
    assert child is not None
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not groups.is_alive(process))
    assert groups.is_alive(child)

    await groups.kill_group(process, grace_seconds=60)

    assert not groups.is_alive(child)


async def test_a_process_that_ignores_the_polite_signal_is_killed_after_the_grace_period(start: Start) -> None:
    process = await start("signal.signal(signal.SIGTERM, signal.SIG_IGN); ready.touch(); time.sleep(600)")
    begin = time.monotonic()

    await groups.kill_group(process, grace_seconds=0.3)

    assert not groups.is_alive(process)
    assert 0.3 <= time.monotonic() - begin < 60


async def test_a_program_that_does_not_exist_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        groups.start_detached([tmp_path / "absent"], environment={}, output=tmp_path / "output")
