"""Keeps one part running: starts it, checks its health, restarts it when it ends or hangs. Used by the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import aiohttp

from pelagos.embedded import addresses, logs, parent_death_wrapper, state
from pelagos.embedded.state import PartPhase, PartState
from pelagos.engines.processes import groups

if TYPE_CHECKING:
    from collections.abc import Callable

    from pelagos.embedded.parts import ManagedProcess

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """All values are in seconds, except ``misses``."""

    first_pause: float = 1.0
    """Pause before the first restart; it doubles with each."""
    longest_pause: float = 30.0
    healthy: float = 60.0
    """After running this long, the backoff is reset."""
    starting_period: float = 0.1
    """Pause between two health checks while a part starts."""
    period: float = 5.0
    """Pause between two health checks after that."""
    timeout: float = 10.0
    """Time limit of a health check."""
    misses: int = 3
    """A part counts as hung after this many failed checks in a row."""
    kill: float = 2.0
    """How long to wait for a killed part to end."""


class Child:
    """One supervised part. ``changed`` is called with each new state."""

    def __init__(
        self, part: ManagedProcess, log: Path, timing: Timing, changed: Callable[[str, PartState], None]
    ) -> None:
        self.part = part
        self.state = PartState(url=part.url, log=str(log))
        self.log = log
        self.was_ready = False
        """Whether the part was ready at least once since the supervisor started."""
        self._timing = timing
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._ready_since: float | None = None

    async def run(self) -> None:
        """Keep the part running until cancelled. Its process is left running then: see ``stop``."""
        failures = 0
        # A new connection for each check: a kept one would not show whether the server still accepts connections.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
            while True:
                reason = await self._live_once(session)
                if self._ready_since is not None and monotonic() - self._ready_since >= self._timing.healthy:
                    failures = 0
                pause = min(self._timing.first_pause * 2**failures, self._timing.longest_pause)
                failures += 1
                _LOG.warning("%s: %s; it starts again in %.0f s", self.part.name, reason, pause)
                self._ready.clear()
                self._show(
                    phase=PartPhase.RESTARTING,
                    pid=None,
                    session=None,
                    last_exit=reason,
                    last_exit_at=state.now(),
                    message=f"starts again in {pause:.0f} s",
                )
                await asyncio.sleep(pause)
                # Counted after the pause: ``restarts`` counts starts, and one that is still due must not count towards giving up.
                self._show(restarts=self.state.restarts + 1)

    async def until_ready(self) -> None:
        """Wait until the part is ready."""
        await self._ready.wait()

    async def stop(self, grace: float) -> None:
        """End the part: SIGTERM, then SIGKILL after ``grace`` seconds. Call it after ``run`` was cancelled."""
        await self._end(grace)
        self._show(phase=PartPhase.STOPPED, pid=None, session=None, message="")

    async def _live_once(self, session: aiohttp.ClientSession) -> str:
        """Run the part once, from start to end; returns how it ended."""
        self._ready.clear()
        self._ready_since = None
        # Check before the start: another program's server on the port would answer the health checks in the part's place.
        busy = [port for port in self.part.ports if not addresses.is_free(port)]
        if busy:
            return f"another program uses port {busy[0]} of {addresses.HOST}"
        try:
            process = self._process = await self._start()
        except OSError as error:
            return f"could not be started: {error}"
        ended = asyncio.create_task(process.wait())
        watched = asyncio.create_task(self._watch(session, process.pid))
        try:
            await asyncio.wait({ended, watched}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                # The process may end during a health check; its own exit says more than the check.
                code = ended.result()
                name = signal.Signals(-code).name if code < 0 else ""
                reason = f"was ended by {name}" if name else f"ended with exit code {code}"
            else:
                reason = watched.result()
        finally:
            # Also on cancellation, when the supervisor stops. The process is left running then: ``stop`` ends it in its turn,
            # since the API server needs etcd until its own end.
            watched.cancel()
            ended.cancel()
            await asyncio.gather(watched, ended, return_exceptions=True)
        # Even if it ended by itself: workers may be left, which would hold the port and lock the database.
        await self._end(grace=0)
        return reason

    async def _start(self) -> asyncio.subprocess.Process:
        logs.rotate(self.log)
        for socket in self.part.sockets:  # A killed server leaves its sockets, on which no other can listen.
            socket.unlink(missing_ok=True)
        # O_APPEND, so that the log can be truncated while the part writes to it: see logs.limit.
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", parent_death_wrapper.__file__, str(os.getpid())),
                *self.part.command,
                env=dict(self.part.environment),
                cwd=self.part.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        # Report the session before the part is ready: if the supervisor is killed now, its successor can end the part by it.
        self._show(phase=PartPhase.STARTING, pid=None, session=groups.identify(process.pid), message="")
        return process

    async def _watch(self, session: aiohttp.ClientSession, pid: int) -> str:
        """Watch the part's health; returns why it must be ended."""
        # A part has ``start_seconds`` to become ready for the first time; after that, it may miss a few checks in a row.
        deadline = monotonic() + self.part.start_seconds
        while not await self._answers(session, self.part.ready):
            if monotonic() > deadline:
                if self.part.alive == self.part.ready or not await self._answers(session, self.part.alive):
                    return f"was not ready within {self.part.start_seconds:.0f} s"
                # It is alive and waits for another part; a restart would not help.
                return await self._watch_health(session, pid)
            await asyncio.sleep(self._timing.starting_period)
        self._become_ready(pid)
        return await self._watch_health(session, pid)

    def _become_ready(self, pid: int) -> None:
        if self._ready_since is None:
            self._ready_since = monotonic()
        self._ready.set()
        self.was_ready = True
        self._show(phase=PartPhase.READY, pid=_program(pid), message="")

    async def _watch_health(self, session: aiohttp.ClientSession, pid: int) -> str:
        misses = 0
        while misses < self._timing.misses:
            await asyncio.sleep(self._timing.period)
            logs.limit(self.log)
            # Two separate checks: a part that is alive but not ready waits for another one, and a restart would only delay it. A
            # single missed check proves nothing either: the machine may be busy with a training.
            alive = await self._answers(session, self.part.alive)
            misses = 0 if alive else misses + 1
            ready = alive and (self.part.ready == self.part.alive or await self._answers(session, self.part.ready))
            if ready:
                self._become_ready(pid)
            else:
                self._show(phase=PartPhase.UNREADY, message=f"{self.part.ready} does not answer 200")
        return f"did not answer {misses} health checks in a row"

    async def _answers(self, session: aiohttp.ClientSession, url: str) -> bool:
        timeout = aiohttp.ClientTimeout(total=self._timing.timeout)
        try:
            # Loaded at every check, which takes 0.1 ms, because the server may have created a new certificate.
            trust = ssl.create_default_context(cafile=str(self.part.authority)) if self.part.authority else True
            async with session.get(url, headers=self.part.headers, timeout=timeout, ssl=trust) as answer:
                return answer.status == 200
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False

    async def _end(self, grace: float) -> None:
        """End the process with its workers."""
        # Use the session from the state rather than the process: it includes the start time, so that a process id that the
        # system has reused is not signalled.
        process, session = self._process, self.state.session
        if process is None:
            return
        for sign, seconds in ((signal.SIGTERM, grace), (parent_death_wrapper.KILL, self._timing.kill)):
            if process.returncode is None and seconds > 0:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(sign)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), seconds)
        if session is not None:
            # In case the wrapper could not do it: it may be stopped, or killed with its program's workers left over.
            await groups.kill_group(session, 0)
        self._process = None

    def _show(self, **changes: object) -> None:
        # Only report changes: the state is written to disk, and a healthy part is checked every few seconds.
        new = replace(self.state, **changes)  # type: ignore[arg-type]
        if new != self.state:
            self.state = new
            self._changed(self.part.name, new)


def _program(wrapper_pid: int) -> int:
    """The server's process id; its wrapper's if the system does not list children."""
    try:
        children = Path(f"/proc/{wrapper_pid}/task/{wrapper_pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return wrapper_pid
    return int(children[0]) if children else wrapper_pid
