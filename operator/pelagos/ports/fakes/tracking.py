"""A tracking server in memory. For tests of reconcilers; held to the same contract as MLflow's engine."""

from __future__ import annotations

from dataclasses import replace

from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tracking import UID_TAG, Outcome, TrackedRun, TrackedRunWant

ADDRESS = "http://tracking.fake"


class TrackingFake:
    """Implements Tracking. ``outage`` makes every call fail, ``denied`` as for expired credentials.

    ``created`` counts the runs ever created.
    """

    def __init__(self) -> None:
        self.outage = False
        self.denied = False
        self.created = 0
        self.runs: dict[str, TrackedRun] = {}

    @property
    def uri(self) -> str:
        """Where pipelines reach the tracking server."""
        return ADDRESS

    async def find_run(self, uid: str) -> TrackedRun | None:
        """The run tagged with ``uid``."""
        self._answer()
        return next((run for run in self.runs.values() if run.tags[UID_TAG] == uid), None)

    async def create_run(self, want: TrackedRunWant) -> TrackedRun:
        """Make the run exist, exactly once per uid."""
        if found := await self.find_run(want.uid):
            return found
        self.created += 1
        identity = f"{self.created:032x}"
        run = TrackedRun(
            id=identity,
            experiment=want.experiment,
            url=f"{ADDRESS}/#/experiments/{want.experiment}/runs/{identity}",
            outcome=Outcome.RUNNING,
            tags={**want.tags, UID_TAG: want.uid},
            metrics={},
            artifact_uri=f"fake-artifacts:/{identity}/artifacts",
        )
        self.runs[identity] = run
        return run

    async def set_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Set how the run stands; no effect when it is gone."""
        self._answer()
        if run_id in self.runs:
            self.runs[run_id] = replace(self.runs[run_id], outcome=outcome)

    async def delete_run(self, run_id: str) -> None:
        """Delete the run; no effect when it is gone."""
        self._answer()
        self.runs.pop(run_id, None)

    async def log_metric(self, run_id: str, name: str, value: float) -> None:
        """What a pipeline does while it trains."""
        run = self.runs[run_id]
        self.runs[run_id] = replace(run, metrics={**run.metrics, name: value})

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self) -> None:
        if self.outage:
            raise OutageError("tracking", "connection refused")
        if self.denied:
            raise RejectedError("tracking", "HTTP 403 the token has expired")
