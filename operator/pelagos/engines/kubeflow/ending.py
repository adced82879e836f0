"""Ends runs on a Kubeflow Pipelines server, and knows which have ended though the server does not say so. Used by the engine.

A server takes the request and ends the run later. It may never confirm that: a run whose workflow somebody deleted stays as it
was for ever, and some servers call failed what they were asked to end. So what was asked for, and when, is remembered here.
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
    """How long the engine waits for what the server does later, in seconds, and how often it looks."""

    end: float = 1.0
    """For runs to end after they were asked to; then the caller is told to come again, and can do something else meanwhile."""
    unconfirmed: float = 300.0
    """For a server that never confirms an end, because the run's workflow is gone; then the run counts as canceled."""
    poll: float = 0.25
    silence: timedelta = reading.SILENCE
    grace: timedelta = reading.SILENCE_GRACE
    relist: float = 60.0
    """Between two looks at all attempts of a run, in seconds; in between the latest alone is asked for."""
    look: timedelta = SHORTEST
    """Between two looks at the pods of a run that has just begun to do what it does."""


class Endings:
    """Ends runs by ``rest``. What is in memory saves waiting: an engine that starts anew asks the server, and waits, again."""

    def __init__(self, rest: KubeflowRest, timeouts: Timeouts) -> None:
        self._rest = rest
        self._timeouts = timeouts
        self._asked: dict[str, float] = {}
        self._accepted: set[str] = set()
        self._given_up: set[str] = set()

    def has_ended(self, run: Struct) -> bool:
        """Whether a run that does not say so was ended by us."""
        identifier = str(run.get("run_id", ""))
        # A server takes a request to end a run only while the run goes on; some call that run failed afterwards.
        return identifier in self._given_up or (identifier in self._accepted and run.get("state") == "FAILED")

    def is_due(self, run: Struct) -> bool:
        """Whether to ask for its end: not when that was done a moment ago."""
        return monotonic() - self._asked.get(str(run.get("run_id", "")), -inf) > self._timeouts.unconfirmed

    async def end(self, runs: Sequence[Struct], is_finished: Callable[[Struct], bool]) -> None:
        """End what the server says is going on, and wait for it. Raises UnfinishedError when that takes longer."""
        alive = [run for run in runs if not reading.is_over(run) and run["run_id"] not in self._given_up]
        # First all requests, then all waiting: the server ends them beside each other, within one time for all.
        for run in alive:
            await self._terminate(run)
        deadline = monotonic() + self._timeouts.end
        for run in alive:
            if is_finished(run):
                # It was silent for so long that it counts as gone; a server that lost its workflow will never answer.
                self._given_up.add(run["run_id"])
            else:
                await self._wait(run["run_id"], deadline)

    async def end_quietly(self, runs: Sequence[Struct]) -> None:
        """End runs that nobody waits for; what the server cannot end is left for the next look."""
        for run in runs:
            try:
                await self._terminate(run)
            except NotLeadingError:  # only looking; who leads ends them
                return
            except (OutageError, RejectedError) as error:
                logger.warning("Pipeline run %s could not be ended: %s", run.get("display_name"), error)

    async def delete(self, identifier: str) -> None:
        """Delete a run that has ended; no effect when it is gone. Raises OutageError for a server that keeps it."""
        with suppress(AbsentError):
            await self._rest.delete_run(identifier)
        # Believed when it is gone: after this the resource is forgotten, and nobody would end a run that is left.
        if await self._get(identifier) is not None:
            message = f"the server said that run {identifier} is deleted, and still has it; asked again later"
            raise OutageError(SYSTEM, message)
        self._asked.pop(identifier, None)
        self._accepted.discard(identifier)
        self._given_up.discard(identifier)

    async def _terminate(self, run: Struct) -> None:
        identifier = run["run_id"]
        # The first request counts, however often the reconciler comes back: else nothing would ever be given up.
        self._asked.setdefault(identifier, monotonic())
        if reading.is_being_ended(run):
            return
        try:
            await self._rest.terminate_run(identifier)
        except AbsentError:
            return
        except BrokenError as error:
            # So it answers too when the run's workflow is gone; whether the run ends is seen by looking.
            logger.warning("Pipeline run %s could not be ended at once: %s", run.get("display_name"), error)
        except RejectedError:
            # It may have ended between our look and our request, or somebody else may be ending it: then there is
            # nothing to refuse. Only a server that leaves it running has refused us.
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
                message = f"run {run.get('display_name')} is being ended; it is looked at again later"
                raise UnfinishedError(SYSTEM, message)
            await asyncio.sleep(self._timeouts.poll)

    async def _get(self, identifier: str) -> Struct | None:
        try:
            return await self._rest.get_run(identifier)
        except AbsentError:
            return None
