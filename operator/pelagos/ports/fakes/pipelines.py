"""A pipeline engine in memory, whose runs tests advance by hand. For tests of reconcilers; keeps the engines' contract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pelagos.api import reasons
from pelagos.api.meta import UID_LABEL
from pelagos.ports.clock import Clock, SystemClock
from pelagos.ports.errors import ForbiddenError, OutageError, RejectedError
from pelagos.ports.owned import Owned
from pelagos.ports.pipelines import FINISHED, PipelineRun, Queueing, RunName, RunRequest, RunState
from pelagos_contract.flows import FLOWS, Flow

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime


@dataclass
class FakeRun:
    """A run, and the request that created it."""

    request: RunRequest
    run: PipelineRun


class PipelinesFake:
    """Implements Pipelines. Runs stay PENDING until ``start``, or start by themselves within ``capacity``.

    ``outage`` makes every call of the port fail, and so does ``forbidden``. ``submitted`` counts calls of submit,
    ``attempts_begun`` attempts that started.
    """

    def __init__(self, *, clock: Clock | None = None, capacity: Mapping[Flow, int] | None = None) -> None:
        self.outage = False
        self.forbidden = False
        self.submitted = 0
        self.attempts_begun = 0
        self.runs: dict[RunName, FakeRun] = {}
        self.made_at: dict[RunName, datetime] = {}
        self._clock = clock or SystemClock()
        self._capacity = dict(capacity or {})

    async def find(self, name: RunName) -> PipelineRun | None:
        """The run of this name; None when it was never submitted, or has been deleted."""
        self._answer()
        known = self.runs.get(name)
        return known.run if known else None

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """All runs with ``uid`` in the label."""
        self._answer()
        return tuple(known.run for known in self.runs.values() if known.request.labels.get(UID_LABEL) == uid)

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All runs; ``namespaces`` is ignored."""
        del namespaces
        self._answer()
        known = (run.request for run in self.runs.values())
        return tuple(
            Owned(each.name, each.labels[UID_LABEL], each.namespace, self.made_at.get(each.name)) for each in known
        )

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Accept the run, exactly once per name and attempt."""
        self._answer()
        self.submitted += 1
        if request.flow not in FLOWS.names:
            raise RejectedError("pipelines", f"there is no flow {request.flow}")
        known = self.runs.get(request.name)
        if known is None:
            self._accept(request, attempts_with_key=1)
        elif known.run.state in FINISHED and request.attempt > known.run.attempt:
            counted = known.run.attempts_with_key + (known.run.reason != reasons.PREEMPTED)
            self._accept(request, attempts_with_key=counted if known.run.retry_key == request.retry_key else 1)
        self._admit()
        return self.runs[request.name].run

    async def cancel(self, name: RunName) -> None:
        """End the run."""
        self._answer()
        known = self.runs.get(name)
        if known is not None and known.run.state not in FINISHED:
            self._finish(name, RunState.CANCELED, "the run was canceled")

    async def delete(self, name: RunName) -> None:
        """Forget the run."""
        self._answer()
        self.runs.pop(name, None)
        self._admit()

    def start(self, name: RunName) -> None:
        """Let a pending run begin."""
        self._expect(name, RunState.PENDING)
        known = self.runs[name]
        known.run = replace(known.run, state=RunState.RUNNING, message="", reason=None, started_at=self._clock.now())
        self.attempts_begun += 1

    def succeed(self, name: RunName) -> None:
        """Let all steps of a run succeed."""
        self._begin(name)
        self._finish(name, RunState.SUCCEEDED, "")

    def fail(self, name: RunName, message: str) -> None:
        """Let a step of a run end with an error."""
        self._begin(name)
        self._finish(name, RunState.FAILED, message)

    def interrupt(self, name: RunName) -> None:
        """Let the processes of a run end without an outcome."""
        self._begin(name)
        self._finish(name, RunState.INTERRUPTED, "the processes of the run ended without an outcome")

    def queue(self, name: RunName, queueing: Queueing) -> None:
        """Put a run into a queue, or let it have been in one before it began."""
        known = self.runs[name]
        known.run = replace(known.run, queue=queueing)
        if known.run.state is RunState.PENDING:
            known.run = replace(known.run, message=queueing.reason, reason=reasons.QUEUED)

    def preempt(self, name: RunName) -> None:
        """Let a queue give the place of a run to a more important one."""
        self._begin(name)
        self._finish(name, RunState.INTERRUPTED, "step train was preempted", reasons.PREEMPTED)

    def _accept(self, request: RunRequest, *, attempts_with_key: int) -> None:
        run = PipelineRun(
            name=request.name,
            state=RunState.PENDING,
            attempt=request.attempt,
            retry_key=request.retry_key,
            attempts_with_key=attempts_with_key,
            message="",
            url=f"http://pipelines.fake/{request.name}",
            started_at=None,
            finished_at=None,
            priority=request.resources.priority,
        )
        self.runs.pop(request.name, None)  # Another attempt goes behind the runs that wait already.
        self.runs[request.name] = FakeRun(request, run)
        self.made_at[request.name] = self._clock.now()

    def _admit(self) -> None:
        for flow, capacity in self._capacity.items():
            runs = [known.run for known in self.runs.values() if known.request.flow == flow]
            room = capacity - sum(1 for run in runs if run.state is RunState.RUNNING)
            for run in [run for run in runs if run.state is RunState.PENDING][: max(room, 0)]:
                self.start(run.name)

    def _begin(self, name: RunName) -> None:
        if self.runs[name].run.state is RunState.PENDING:
            self.start(name)
        self._expect(name, RunState.RUNNING)

    def _finish(self, name: RunName, state: RunState, message: str, reason: reasons.Reason | None = None) -> None:
        known = self.runs[name]
        ended = replace(known.run, state=state, message=message, reason=reason, finished_at=self._clock.now())
        known.run = replace(ended, queue=None)
        self._admit()

    def _expect(self, name: RunName, state: RunState) -> None:
        if self.runs[name].run.state is not state:
            raise AssertionError(
                f"run {name} is {self.runs[name].run.state.value}, and should be {state.value} for this"
            )

    def _answer(self) -> None:
        if self.outage:
            raise OutageError("pipelines", "the engine does not answer")
        if self.forbidden:
            raise ForbiddenError("pipelines", "HTTP 403: the binding is gone")
