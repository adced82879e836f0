"""Keeps one part running: starts it, sees that it works, starts it again when it ends or hangs. Used by the supervisor."""

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
    """All in seconds, but for ``misses``."""

    first_pause: float = 1.0
    """Before the first restart; doubles with each."""
    longest_pause: float = 30.0
    healthy: float = 60.0
    """After running this long, the backoff is reset."""
    starting_period: float = 0.1
    """Between two health checks while a part starts."""
    period: float = 5.0
    """Between two health checks later."""
    timeout: float = 10.0
    """Of one health check."""
    misses: int = 3
    """Failed checks in a row after which a part counts as hung."""
    kill: float = 2.0
    """Until a killed part must be gone."""


class Child:
    """One supervised part. ``changed`` is called with each new state."""

    def __init__(
        self, part: ManagedProcess, log: Path, timing: Timing, changed: Callable[[str, PartState], None]
    ) -> None:
        self.part = part
        self.state = PartState(url=part.url, log=str(log))
        self.log = log
        self.was_ready = False
        """At least once since the supervisor started."""
        self._timing = timing
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._ready = asyncio.Event()
        self._ready_since: float | None = None

    async def run(self) -> None:
        """Keep the part running until cancelled. Its process may still run then: see ``stop``."""
        failures = 0
        # A connection for each check: one that is kept would say nothing about whether the server still accepts new ones.
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
                # After the pause: ``restarts`` counts starts, and a start that is still due must not count towards giving up.
                self._show(restarts=self.state.restarts + 1)

    async def until_ready(self) -> None:
        """Return when the part works."""
        await self._ready.wait()

    async def stop(self, grace: float) -> None:
        """End the part: SIGTERM, and SIGKILL after ``grace`` seconds. Call after ``run`` is cancelled."""
        await self._end(grace)
        self._show(phase=PartPhase.STOPPED, pid=None, session=None, message="")

    async def _live_once(self, session: aiohttp.ClientSession) -> str:
        """From start to end; returns how it ended."""
        self._ready.clear()
        self._ready_since = None
        # Before the start: a stranger's server on the port would answer the health checks in the part's place.
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
                # The process may end while it is being judged: its own end says more.
                code = ended.result()
                name = signal.Signals(-code).name if code < 0 else ""
                reason = f"was ended by {name}" if name else f"ended with exit code {code}"
            else:
                reason = watched.result()
        finally:
            # Also when this is cancelled, because the supervisor stops. The process is left running then: ``stop`` ends it in
            # its turn, since the API server needs etcd until it is gone itself.
            watched.cancel()
            ended.cancel()
            await asyncio.gather(watched, ended, return_exceptions=True)
        # Also after it has ended by itself: its workers may be left, and would keep the port and the database locked.
        await self._end(grace=0)
        return reason

    async def _start(self) -> asyncio.subprocess.Process:
        logs.rotate(self.log)
        for socket in self.part.sockets:  # A server that was killed leaves its own, on which no other can listen.
            socket.unlink(missing_ok=True)
        # Appended to, so that the log can be cut while the part writes to it: see logs.limit.
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
        # The session is reported before the part is ready: a supervisor that is killed now leaves its successor a record by
        # which to end it.
        self._show(phase=PartPhase.STARTING, pid=None, session=groups.identify(process.pid), message="")
        return process

    async def _watch(self, session: aiohttp.ClientSession, pid: int) -> str:
        """Returns why the part must be ended."""
        # Until it is ready for the first time, a part has ``start_seconds``; after that, a few checks in a row.
        deadline = monotonic() + self.part.start_seconds
        while not await self._answers(session, self.part.ready):
            if monotonic() > deadline:
                if self.part.alive == self.part.ready or not await self._answers(session, self.part.alive):
                    return f"was not ready within {self.part.start_seconds:.0f} s"
                # It is alive and waits for another part: a restart would not bring that.
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
            # Two questions: a part that is alive and not ready waits for another one, and a restart would only take longer. One
            # missed check proves nothing either: the machine may be busy with a training.
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
            # Loaded at every check, in a tenth of a millisecond: the server may have made itself a new certificate.
            trust = ssl.create_default_context(cafile=str(self.part.authority)) if self.part.authority else True
            async with session.get(url, headers=self.part.headers, timeout=timeout, ssl=trust) as answer:
                return answer.status == 200
        except (OSError, aiohttp.ClientError, TimeoutError):
            return False

    async def _end(self, grace: float) -> None:
        """End what runs, with its workers."""
        # The session from the state and not from the process: it is identified by its start time as well, so that a process
        # id that the system has reused meanwhile is not signalled.
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
            # Where the wrapper could not act: it was stopped, or killed and has left the workers of its program.
            await groups.kill_group(session, 0)
        self._process = None

    def _show(self, **changes: object) -> None:
        # Only what changed: the state is written to disk, and a healthy part is looked at every few seconds.
        new = replace(self.state, **changes)  # type: ignore[arg-type]
        if new != self.state:
            self.state = new
            self._changed(self.part.name, new)


def _program(wrapper_pid: int) -> int:
    """The server's process id; its wrapper's where the system does not tell children."""
    try:
        children = Path(f"/proc/{wrapper_pid}/task/{wrapper_pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return wrapper_pid
    return int(children[0]) if children else wrapper_pid
