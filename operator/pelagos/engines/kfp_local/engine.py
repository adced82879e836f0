"""The Pipelines port on one machine: kfp.local runs the compiled flows, each run in its own detached process group.

Chosen by wiring for the embedded mode. The state of a run is in its folder and in the lock that its runner holds (records); this
module only keeps a queue in memory, which it can rebuild from the folders at any time. So the operator may end between any two
steps, and a new one adopts all runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from pelagos.api import reasons
from pelagos.api.meta import UID_LABEL
from pelagos.engines.kfp_local import records
from pelagos.engines.kfp_local.launch import Launcher, Login, keyless
from pelagos.engines.kfp_local.records import RunFolder
from pelagos.engines.kfp_local.room import Room, Share, share
from pelagos.engines.processes import groups, orderly
from pelagos.ports.errors import OutageError, RejectedError, refusing_full_disk
from pelagos.ports.owned import Owned
from pelagos.ports.pipelines import (
    FINISHED,
    PipelineRun,
    RunName,
    RunRequest,
    RunState,
    is_valid_name,
    require_valid_name,
)
from pelagos_contract.flows import PREPARATION, TRAINING, Flow
from pelagos_contract.remote_sources import lacking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from datetime import datetime

    from pelagos.engines.kfp_local.launch import StepKeys

    FindSecret = Callable[[str, str], Awaitable[Mapping[str, str] | None]]
    """Returns the content of a Secret by namespace and name; None when it does not exist."""

logger = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

DEFAULT_CAPACITY: Mapping[Flow, Room] = MappingProxyType({PREPARATION.name: Room(runs=2), TRAINING.name: Room(runs=1)})
GRACE_SECONDS = 3.0
"""Time between SIGTERM and SIGKILL."""
WARM_UP_BACKLOG = 4
"""With at least this many waiting runs, a fork server pays off."""
_LOCK_SECONDS = 5.0
"""How long to wait for a runner that has the lock but has not begun; it needs milliseconds to begin or to exit."""
HELD_SECONDS = 60.0
"""How long the place of an interrupted run is kept for its next attempt, which follows within 30 seconds."""
_INTERRUPTED = "the processes of the run ended without an outcome: killed, or the machine was restarted"


@dataclass(frozen=True)
class _Held:
    """The place that is kept for an interrupted run, and the timer that releases it."""

    flow: Flow
    share: Share
    release: asyncio.TimerHandle


@dataclass(frozen=True, order=True)
class _Waiting:
    """A run in its flow's queue. Instances sort in the order of the queue."""

    is_new: bool
    since: datetime
    name: RunName
    flow: Flow
    share: Share


@dataclass(frozen=True)
class _Running:
    """A run that has a place; ``process`` is None if it began before the machine was restarted."""

    flow: Flow
    share: Share
    process: groups.ProcessId | None


async def no_secret(namespace: str, name: str) -> None:
    """A FindSecret that finds none."""
    del namespace, name


class KfpLocal:
    """Implements Pipelines. Keeps its state below ``home``; runs ``compiled`` flows with the pipelines environment's ``python``.

    Of each flow, as many runs are active at once as its ``capacity`` allows; others wait. Runs that have begun before go first,
    then the oldest, and none overtakes one that needs more. The place of an interrupted run is kept for its next attempt.
    """

    def __init__(  # noqa: PLR0913 - its dependencies, all named
        self,
        home: Path,
        python: Path,
        compiled: Path,
        *,
        capacity: Mapping[Flow, Room] = DEFAULT_CAPACITY,
        login: Login | None = None,
        keys: StepKeys = keyless,
        secrets: FindSecret = no_secret,
    ) -> None:
        self._runs = home / "runs"
        self._launcher = Launcher(home=home, python=python, compiled=compiled, login=login, keys=keys)
        self._secrets = secrets
        self._capacity = dict(capacity)
        self._waiting: dict[RunName, _Waiting] = {}
        self._held: dict[RunName, _Held] = {}
        self._running: dict[RunName, _Running] = {}
        self._owners: dict[RunName, str] = {}
        self._loaded = False
        self._admission = asyncio.Lock()
        self._submission = asyncio.Lock()
        self._watches: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, name: RunName) -> PipelineRun | None:
        """The state of a run; None when it does not exist. Also starts waiting runs when there is room."""
        look = await self._look(name)
        if look is None:
            self._forget(name)
            return None
        if await self._note(look):
            look = await self._look(name)
        return self._seen(look) if look else None

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """All runs of a resource, finished ones too."""
        names = [folder.name for folder in await _blocking(records.all_runs, self._runs)]
        # Cache the owners: a run's labels never change, and reading those of hundreds of runs takes a third of a second.
        there = set(names)
        self._owners = {name: owner for name, owner in self._owners.items() if name in there}
        owned = []
        for name in names:
            if self._owners.get(name, uid) != uid:
                continue
            look = await self._look(name)
            if look is None:
                continue
            self._owners[name] = look.stored.request.labels.get(UID_LABEL, "")
            if self._owners[name] == uid:
                owned.append(look.run())
        return tuple(owned)

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All runs on this machine that belong to a resource; ``namespaces`` is ignored."""
        del namespaces
        found = []
        for folder in await _blocking(records.all_runs, self._runs):
            look = await self._look(folder.name)
            if look is not None:
                request = look.stored.request
                uid = request.labels.get(UID_LABEL, "")
                found.append(Owned(request.name, uid, request.namespace, look.stored.submitted_at))
        return tuple(owned for owned in found if owned.uid)

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Record the attempt, exactly once, and start it when there is room.

        Raises RejectedError for a name, a flow or a Secret that cannot be used here.
        """
        require_valid_name("pipelines", request.name)
        if not await _blocking(self._launcher.pipeline(request).is_file):
            raise RejectedError("pipelines", f"there is no compiled flow {self._launcher.pipeline(request)}")
        await self._require_secret(request)
        # One at a time, so that two submissions of the same run do not both find nothing, or both the previous attempt.
        async with self._submission:
            look = await self._look(request.name)
            # Record an unnoticed end first, since only a finished attempt may be followed by another.
            if look is not None and await self._note(look):
                look = await self._look(request.name)
            # Adopt the existing attempt if it is not finished, or if the request is for the same or an earlier one.
            is_adopted = look is not None and (
                look.state not in FINISHED or request.attempt <= look.stored.request.attempt
            )
            if not is_adopted:
                # Attempts are limited per retry key, and a new key from a person starts the count again.
                attempts = 1
                if look is not None and look.stored.request.retry_key == request.retry_key:
                    attempts = look.stored.attempts_with_key + 1
                # Record the run before anything starts. From here on it exists: if we die, the next operator starts it.
                await _blocking(self._folder(request.name).request, records.Stored(request, attempts, records.now()))
        run = await self.find(request.name)
        if run is None:
            raise OutageError("pipelines", f"run {request.name} was deleted while it was being submitted")
        return run

    async def cancel(self, name: RunName) -> None:
        """End a run: SIGTERM to its whole session, and SIGKILL to processes that remain after GRACE_SECONDS."""
        look = await self._look(name)
        # Write the mark before sending signals: an attempt that has not begun never will, and for one that has, a later operator
        # also knows that it was ended on purpose.
        if look is not None and look.state not in FINISHED:
            await _blocking(self._folder(name).mark_canceled, look.stored.request.attempt)
            look = await self._look(name)
        if look is not None and not look.settled:
            await self._settle(look)
        self._forget(name)
        await self._admit()

    async def delete(self, name: RunName) -> None:
        """End a run and remove its folder; no effect on unknown runs."""
        if not is_valid_name(name):
            return
        await self.cancel(name)
        folder = self._folder(name)
        # Only after its processes have ended: one whose folder was removed would keep writing unnoticed.
        await _blocking(folder.remove)
        await _blocking(self._launcher.clear_temporary, folder)

    async def interrupt_all(self) -> None:
        """For a shutdown: end the processes of all runs and the fork server. The next engine finds the runs interrupted."""
        looks = [await self._look(folder.name) for folder in await _blocking(records.all_runs, self._runs)]
        # Runs that have begun are known from their records; those that we started but have not begun, only from memory.
        alive = {look.begun.process for look in looks if look and look.locked and look.begun}
        started = {running.process for running in self._running.values()}
        # Stop watching before the first signal: each end would make room, and start the next run in the queue.
        await self.close()
        every = (alive | started | {await _blocking(self._launcher.server)}) - {None}
        await asyncio.gather(*(groups.kill_group(process, GRACE_SECONDS) for process in every if process))

    async def close(self) -> None:
        """Stop watching processes; runs continue."""
        for descriptor in list(self._watches):
            self._unwatch(descriptor)
        for held in self._held.values():
            held.release.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _note(self, look: records.Look) -> bool:
        """Record an unrecorded end, and admit waiting runs into free room; True if this may have changed the run's state."""
        name = look.stored.request.name
        changed = not look.settled
        if changed:
            await self._settle(look)
        self._enlist(look)
        if look.state is RunState.PENDING or (look.state in FINISHED and name in self._running):
            await self._admit()
            changed = True
        return changed

    def _seen(self, look: records.Look) -> PipelineRun:
        """The run in the port's terms; if it is pending, the message says what it waits for."""
        run, place = look.run(), self._waiting.get(look.stored.request.name)
        if run.state is not RunState.PENDING:
            return run
        if place is None:
            return replace(run, message="its process is being started")
        flow, room = place.flow, self._capacity[place.flow]
        before = sum(each < place for each in self._waiting.values() if each.flow == flow)
        why = room.obstacle(flow, place.share, self._taken(flow)) or (
            "runs start in order" if before else "it starts now"
        )
        return replace(run, message=f"{why}; {before} before it in the queue")

    def _taken(self, flow: Flow) -> list[Share]:
        """The shares of the flow's active runs, and those kept for interrupted ones."""
        having: list[_Running | _Held] = [*self._running.values(), *self._held.values()]
        return [each.share for each in having if each.flow == flow]

    def _enlist(self, look: records.Look) -> None:
        """Add the run to the queue or to the active runs, no matter which operator submitted it."""
        name, flow = look.stored.request.name, look.stored.request.flow
        if name in self._running:
            return
        if look.state is RunState.PENDING:
            self._forget_place(name)
            self._waiting[name] = _Waiting(
                look.begun is None, look.stored.submitted_at, name, flow, share(look.stored.request)
            )
        elif look.state is RunState.INTERRUPTED:
            self._hold(look)
        elif look.state is RunState.RUNNING:
            process = look.begun.process if look.begun else None
            self._forget(name)
            self._running[name] = _Running(flow, share(look.stored.request), process)
            if process is not None:
                self._watch(process)

    def _hold(self, look: records.Look) -> None:
        """Keep an interrupted run's place for HELD_SECONDS; otherwise others would take it before its next attempt."""
        name = look.stored.request.name
        since = look.ended.finished_at if look.ended else records.now()
        left = HELD_SECONDS - (records.now() - since).total_seconds()
        if name not in self._held and 0 < left <= HELD_SECONDS:
            release = asyncio.get_running_loop().call_later(left, self._release, name)
            self._held[name] = _Held(look.stored.request.flow, share(look.stored.request), release)

    def _release(self, name: RunName) -> None:
        self._forget_place(name)
        self._wake()

    async def _settle(self, look: records.Look) -> None:
        """End the remaining processes of an attempt that was canceled or has died, and record its end."""
        folder = self._folder(look.stored.request.name)
        # The end may only be written while nobody holds the runner's lock. A runner that was starting when the mark was written
        # holds it for milliseconds, so retry for as long as that can last.
        for _ in range(int(_LOCK_SECONDS / 0.05)):
            if look.begun and look.begun.process:
                # After a crash there is no grace: nothing is left to shut down cleanly, and remaining children must stop writing.
                grace = GRACE_SECONDS if look.canceled else 0
                await groups.kill_group(look.begun.process, grace)
            message = "the run was canceled" if look.canceled else orderly.WORDS if look.in_order else _INTERRUPTED
            if await _blocking(folder.write_outcome, look.stored.request.attempt, look.state, message):
                break
            await asyncio.sleep(0.05)
            again = await self._look(folder.name)
            if again is None or again.settled:
                break
            look = again
        await _blocking(self._launcher.clear_temporary, folder)

    async def _admit(self) -> None:
        """Start waiting runs while there is room: first those that have begun before, then the oldest."""
        async with self._admission:
            # Load all records once before admitting anything: runs of an earlier operator may occupy room that seems free.
            if not self._loaded:
                for folder in await _blocking(records.all_runs, self._runs):
                    try:
                        look = await self._look(folder.name)
                    except OutageError as error:
                        logger.warning(
                            "The record of pipeline run %s cannot be read; others continue: %s", folder.name, error
                        )
                        continue
                    if look is not None:
                        self._enlist(look)
                self._loaded = True
            # Free places first: a run that ended unnoticed would keep the next one waiting.
            for name in list(self._running):
                await self._check(name)
            for flow, room in self._capacity.items():
                queue = sorted(waiting for waiting in self._waiting.values() if waiting.flow == flow)
                fit = room.first(flow, [waiting.share for waiting in queue], self._taken(flow))
                if len(queue) - fit >= WARM_UP_BACKLOG and flow == PREPARATION.name:
                    await _blocking(self._launcher.warm_up)
                for waiting in queue[:fit]:
                    await self._start(waiting.name)

    async def _check(self, name: RunName) -> None:
        """Free the place of a run that is counted as active but is not."""
        look = await self._look(name)
        if look is not None and not look.settled:
            await self._settle(look)
        if look is not None and look.state is RunState.RUNNING:
            return
        counted = self._running.get(name)
        if counted is None:  # deleted during the await above
            return
        process = counted.process
        if look is not None and look.state is RunState.PENDING:
            # Our runner is alive but has not taken the lock yet: it is about to begin.
            if process is not None and groups.is_alive(process):
                return
            # The runner has ended. Look again after that: if no other process has begun the attempt, none ever will.
            again = await self._look(name)
            if again is not None and again.state is RunState.PENDING and not again.locked:
                folder = self._folder(name)
                message = f"the runner process ended before the run started: {await _blocking(folder.tail)}"
                await _blocking(folder.write_outcome, again.stored.request.attempt, RunState.FAILED, message)
        self._forget(name)
        if look is not None and look.state is RunState.INTERRUPTED:
            self._hold(look)

    async def _start(self, name: RunName) -> None:
        self._waiting.pop(name, None)
        # Look again: the run may have been canceled, deleted, or started by another operator since it was queued.
        look = await self._look(name)
        if look is None or look.state is not RunState.PENDING:
            return
        if look.begun and look.begun.process:
            # A child of the previous attempt may have outlived its runner, and two must not write to one workspace.
            await groups.kill_group(look.begun.process, 0)
        folder = self._folder(name)
        request = look.stored.request
        # Read the Secret now rather than from the record: corrections since then count, and its content is never recorded.
        secret = await self._secrets(request.namespace, request.secret.name) if request.secret is not None else None
        process = await _blocking(self._launcher.start, folder, request, secret)
        self._running[name] = _Running(request.flow, share(request), process)
        self._watch(process)

    async def _require_secret(self, request: RunRequest) -> None:
        """Raise RejectedError when the Secret is missing or lacks keys, because the step would fail for lack of it anyway."""
        if request.secret is None:
            return
        name, keys = request.secret.name, request.secret.keys
        found = await self._secrets(request.namespace, name)
        lacks = "it does not exist" if found is None else lacking(keys, found)
        if lacks:
            literals = " ".join(f"--from-literal={key}=..." for key in (keys[0] if keys else ()))
            message = (
                f"the Secret {name}, which secretRef names, cannot be used: {lacks}. "
                f"kubectl -n {request.namespace} create secret generic {name} {literals}".rstrip()
            )
            raise RejectedError("pipelines", message, reason=reasons.SOURCE_SECRET_INCOMPLETE)

    def _watch(self, process: groups.ProcessId) -> None:
        """Have the event loop notify us when the process ends, so that the next run starts at once."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:
            # It has ended already, so no notification would ever come.
            self._wake()
            return
        self._watches.add(descriptor)
        asyncio.get_running_loop().add_reader(descriptor, self._process_ended, descriptor, process)

    def _process_ended(self, descriptor: int, process: groups.ProcessId) -> None:
        self._unwatch(descriptor)
        groups.is_alive(process)  # collects the exit status if it is a child of ours
        self._wake()

    def _unwatch(self, descriptor: int) -> None:
        self._watches.remove(descriptor)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)

    def _wake(self) -> None:
        task = asyncio.create_task(self._admit_and_log())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _admit_and_log(self) -> None:
        try:
            await self._admit()
        except (OutageError, RejectedError) as error:
            logger.warning(
                "Waiting pipeline runs were not started; the next check of one of them tries again: %s", error
            )

    def _forget(self, name: RunName) -> None:
        self._waiting.pop(name, None)
        self._running.pop(name, None)
        self._forget_place(name)

    def _forget_place(self, name: RunName) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            held.release.cancel()

    def _folder(self, name: RunName) -> RunFolder:
        return RunFolder(self._runs, name)

    async def _look(self, name: RunName) -> records.Look | None:
        if not is_valid_name(name):
            return None
        return await _blocking(self._folder(name).look)


async def _blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread. File system errors become OutageError, a full disk RejectedError."""
    try:
        with refusing_full_disk("pipelines", Path("/")):  # errors of everything that writes here name the file
            return await asyncio.to_thread(function, *args, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise OutageError("pipelines", f"{type(error).__name__}: {error}") from error
