"""A tracking server in memory. For tests of reconcilers; passes the same contract tests as MLflow's engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tracking import DesiredTrackedRun, Outcome, Sealing, TrackedRun
from pelagos_contract.tags import INTENT_TAG, SEAL_TAG, UID_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping

ADDRESS = "http://tracking.fake"
PLANTED = "beef"
"""Prefix of the ids of runs that the operator did not create."""


class TrackingFake:
    """Implements Tracking. ``outage`` makes every call fail, and ``denied`` does as with expired credentials.

    ``created`` counts the runs ever created.
    """

    def __init__(self) -> None:
        self.outage = False
        self.denied = False
        self.created = 0
        self.runs: dict[str, TrackedRun] = {}

    @property
    def uri(self) -> str:
        """An invented address."""
        return ADDRESS

    async def get_run(self, run_id: str) -> TrackedRun | None:
        """The run with this id; None when it does not exist."""
        self._answer()
        return self.runs.get(run_id)

    async def find_runs(self, uid: str) -> tuple[TrackedRun, ...]:
        """All runs tagged with ``uid``; those that others planted count as the oldest."""
        self._answer()
        return tuple(run for run in (*self.planted(), *self.made()) if run.tags.get(UID_TAG) == uid)

    async def owned(self) -> tuple[TrackedRun, ...]:
        """All runs with a uid in their tags."""
        self._answer()
        return tuple(run for run in self.runs.values() if run.tags.get(UID_TAG))

    async def create_run(self, want: DesiredTrackedRun, sealing: Sealing) -> TrackedRun:
        """Create the run under our seal, exactly once per uid."""
        runs = await self.find_runs(want.uid)
        if found := next((run for run in runs if sealing.owns(run)), None):
            return found
        run = next((run for run in runs if SEAL_TAG not in run.tags and sealing.began(run)), None)
        run = run or self._create(want, sealing)
        await self.seal_run(run.id, sealing.seal(run.id))
        return self.runs[run.id]

    async def seal_run(self, run_id: str, seal: str) -> None:
        """Set our seal on the run. No effect when it does not exist."""
        self._answer()
        if run_id in self.runs:
            self.tag(run_id, SEAL_TAG, seal)

    def _create(self, want: DesiredTrackedRun, sealing: Sealing) -> TrackedRun:
        self.created += 1
        identity = f"{self.created:032x}"
        run = TrackedRun(
            id=identity,
            experiment=want.experiment,
            url=f"{ADDRESS}/#/experiments/{want.experiment}/runs/{identity}",
            outcome=Outcome.RUNNING,
            tags={**want.tags, UID_TAG: want.uid, INTENT_TAG: sealing.intent},
            metrics={},
            artifact_uri=f"fake-artifacts:/{identity}/artifacts",
        )
        self.runs[identity] = run
        return run

    async def set_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Set the run's outcome. No effect when it does not exist."""
        self._answer()
        if run_id in self.runs:
            self.runs[run_id] = replace(self.runs[run_id], outcome=outcome)

    async def delete_run(self, run_id: str) -> None:
        """Delete the run. No effect when it does not exist."""
        self._answer()
        self.runs.pop(run_id, None)

    def made(self) -> tuple[TrackedRun, ...]:
        """The runs that the operator created."""
        return tuple(run for run in self.runs.values() if not run.id.startswith(PLANTED))

    def planted(self) -> tuple[TrackedRun, ...]:
        """The runs that others created."""
        return tuple(run for run in self.runs.values() if run.id.startswith(PLANTED))

    def plant(self, tags: Mapping[str, str]) -> TrackedRun:
        """Write as somebody else with access to the server: a run with any tags, which counts as older than all of ours."""
        identity = f"{PLANTED}{len(self.planted()):028x}"
        run = TrackedRun(identity, "theirs", "", Outcome.RUNNING, dict(tags), {}, f"fake-artifacts:/{identity}")
        self.runs[identity] = run
        return run

    def tag(self, run_id: str, name: str, value: str | None) -> None:
        """Set a tag, or remove it."""
        tags = {key: kept for key, kept in self.runs[run_id].tags.items() if key != name}
        self.runs[run_id] = replace(self.runs[run_id], tags=tags if value is None else {**tags, name: value})

    async def log_metric(self, run_id: str, name: str, value: float) -> None:
        """Set a metric, as a pipeline does while it trains."""
        run = self.runs[run_id]
        self.runs[run_id] = replace(run, metrics={**run.metrics, name: value})

    async def close(self) -> None:
        """No effect: nothing is open."""

    def _answer(self) -> None:
        if self.outage:
            raise OutageError("tracking", "connection refused")
        if self.denied:
            raise RejectedError("tracking", "HTTP 403 the token has expired")
