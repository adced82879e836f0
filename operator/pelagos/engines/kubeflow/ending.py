"""Ends runs on a Kubeflow Pipelines server, and knows which have ended although the server reports otherwise. Used by the engine.

A server accepts the request and ends the run later. It may never confirm that: a run whose workflow somebody deleted keeps its
last state forever, and some servers report a run as failed that they were asked to end. So the requests, and their times, are
remembered here.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from pelagos.engines.kubeflow import reading
from pelagos.engines.kubeflow.rest import SYSTEM, AbsentError, BrokenError, KubeflowRest
from pelagos.engines.kubeflow.sight import SHORTEST
from pelagos.ports.errors import OutageError, RejectedError, UnfinishedError
from pelagos.ports.leadership import NotLeadingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

logger = logging.getLogger(__name__)
Struct = dict[str, Any]


@dataclass(frozen=True)
class Timeouts:
    """How long the engine waits for the server, and how often it looks, in seconds unless the type says otherwise."""

    end: float = 1.0
    """How long to wait for runs to end after the request; then the caller gets UnfinishedError and comes back later."""
    unconfirmed: float = 300.0
    """After this long without confirmation, as when the run's workflow was deleted, the run counts as canceled."""
    poll: float = 0.25
    silence: timedelta = reading.SILENCE
    grace: timedelta = reading.SILENCE_GRACE
    relist: float = 60.0
    """How often all attempts of a run are listed, in seconds; in between only the latest is read."""
    look: timedelta = SHORTEST
    """Shortest pause between two looks at the pods of a run, used when its state has just changed."""


class Endings:
    """Ends runs through ``rest``. Memory only saves waiting: after a restart the engine asks the server, and waits, again."""

    def __init__(self, rest: KubeflowRest, timeouts: Timeouts) -> None:
        self._rest = rest
        self._timeouts = timeouts
        self._asked: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._given_up: set[str] = set()

    def has_ended(self, run: Struct) -> bool:
        """Whether we ended this run, although the server does not report it as canceled."""
        identifier = str(run.get("run_id", ""))
        # A server accepts a request to end a run only while it is running; some report that run as failed afterwards.
        return identifier in self._given_up or (identifier in self._accepted and run.get("state") == "FAILED")

    def is_due(self, run: Struct) -> bool:
        """Whether to ask for the run's end: not if that was done within the last ``unconfirmed`` seconds."""
        return monotonic() - self._asked.get(str(run.get("run_id", "")), -inf) > self._timeouts.unconfirmed

    async def end(self, runs: Sequence[Struct], is_finished: Callable[[Struct], bool]) -> None:
        """End the runs that the server reports as running, and wait for it. Raises UnfinishedError when that takes longer."""
        alive = [run for run in runs if not reading.is_over(run) and run["run_id"] not in self._given_up]
        # Send all requests before waiting: the server ends the runs in parallel, and one deadline covers them all.
        for run in alive:
            await self._terminate(run)
        deadline = monotonic() + self._timeouts.end
        for run in alive:
            if is_finished(run):
                # It was silent for so long that it counts as lost; a server that lost its workflow would never confirm the end.
                self._given_up.add(run["run_id"])
            else:
                await self._wait(run["run_id"], deadline)

    async def end_quietly(self, runs: Sequence[Struct]) -> None:
        """Ask for the end of runs without waiting; those that the server cannot end now are left for the next look."""
        for run in runs:
            try:
                await self._terminate(run)
            except NotLeadingError:  # only the leader ends runs
                return
            except (OutageError, RejectedError) as error:
                logger.warning("Pipeline run %s could not be ended: %s", run.get("display_name"), error)

    async def delete(self, identifier: str) -> None:
        """Delete a run that has ended; no effect if it no longer exists. Raises OutageError if the server still has it."""
        with suppress(AbsentError):
            await self._rest.delete_run(identifier)
        # Verify the deletion: after this the resource is forgotten, and nobody would end a run that remained.
        if await self._get(identifier) is not None:
            message = f"the server said that run {identifier} is deleted, but still has it; it is asked again later"
            raise OutageError(SYSTEM, message)
        self._asked.pop(identifier, None)
        self._accepted.discard(identifier)
        self._given_up.discard(identifier)

    async def _terminate(self, run: Struct) -> None:
        identifier = run["run_id"]
        # Keep the time of the first request, however often the reconciler comes back: else no run would ever be given up.
        self._asked.setdefault(identifier, monotonic())
        if reading.is_being_ended(run):
            return
        try:
            await self._rest.terminate_run(identifier)
        except AbsentError:
            return
        except BrokenError as error:
            # The server also answers like this when the run's workflow was deleted. Polling shows whether the run ends.
            logger.warning("Pipeline run %s could not be ended at once: %s", run.get("display_name"), error)
        except RejectedError:
            # The run may have ended since it was read, or somebody else may be ending it: then the rejection does not matter.
            # It counts only if the run keeps running.
            now = await self._get(identifier)
            if now is not None and not reading.is_over(now) and not reading.is_being_ended(now):
                raise
        else:
            self._accepted.add(identifier)

    async def _wait(self, identifier: str, deadline: float) -> None:
        while True:
            run = await self._get(identifier)
            if run is None or reading.is_over(run):
                return
            if monotonic() - self._asked[identifier] > self._timeouts.unconfirmed:
                self._given_up.add(identifier)
                return
            if monotonic() > deadline:
                message = f"run {run.get('display_name')} is being ended; it is checked again later"
                raise UnfinishedError(SYSTEM, message)
            await asyncio.sleep(self._timeouts.poll)

    async def _get(self, identifier: str) -> Struct | None:
        try:
            return await self._rest.get_run(identifier)
        except AbsentError:
            return None
