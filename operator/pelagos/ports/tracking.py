"""Tracking: one tracked run per TrainingRun, created by the operator and filled by the pipeline.

Others write to the tracking server, too. A run is ours only under our seal of its id, which no other run can carry over. The seal
can be set only when the server has given the id; until then a run carries our seal of what it is meant for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from pelagos.ports.marks import mutating
from pelagos_contract.tags import INTENT_TAG, SEAL_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Outcome(Enum):
    """How a tracked run stands; the values are MLflow's."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True)
class DesiredTrackedRun:
    """A tracked run to be. Filled by decisions/training_run/tracking.wanted."""

    uid: str
    """Of the TrainingRun; identifies the run."""
    experiment: str
    """Made when there is none of this name."""
    name: str
    """Of the TrainingRun; what people see in lists."""
    tags: Mapping[str, str]
    """The inputs digest and the frozen inputs, by which they are found again when status was lost."""
    namespace: str = ""
    """Of the TrainingRun; part of what the seal is of."""


@dataclass(frozen=True)
class Sealing:
    """How the run of a want is recognized among others: ``intent`` is set when it is made, ``seal`` of its id once that is known.

    ``holds`` says whether a seal is valid for the run with an id, ``intends`` whether an intent is one of this want.
    """

    intent: str
    seal: Callable[[str], str]
    holds: Callable[[str, str], bool]
    intends: Callable[[str], bool]

    def owns(self, run: TrackedRun) -> bool:
        """Whether the run is ours."""
        return SEAL_TAG in run.tags and self.holds(run.id, run.tags[SEAL_TAG])

    def began(self, run: TrackedRun) -> bool:
        """Whether the run may be one that we made and did not come to seal."""
        return INTENT_TAG in run.tags and self.intends(run.tags[INTENT_TAG])


@dataclass(frozen=True)
class TrackedRun:
    """``metrics`` are the latest values by name; ``url`` opens the run in the tracking server's pages."""

    id: str
    experiment: str
    url: str
    outcome: Outcome
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    artifact_uri: str
    started_at: datetime | None = None


class Tracking(Protocol):
    """Every method may raise OutageError or RejectedError."""

    @property
    def uri(self) -> str:
        """Where pipelines reach the tracking server."""

    async def get_run(self, run_id: str) -> TrackedRun | None:
        """The run with this id; None when it is gone."""

    async def find_runs(self, uid: str) -> tuple[TrackedRun, ...]:
        """All runs tagged with ``uid``, whoever made them, the oldest first."""

    async def owned(self) -> tuple[TrackedRun, ...]:
        """All runs that carry the uid of any resource, whoever made them."""

    @mutating
    async def create_run(self, want: DesiredTrackedRun, sealing: Sealing) -> TrackedRun:
        """Make the run exist under our seal, exactly once per uid (looked up first). Runs of others are left alone."""

    @mutating
    async def seal_run(self, run_id: str, seal: str) -> None:
        """Set our seal; no effect when it is there already, or the run is gone."""

    @mutating
    async def set_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Set how the run stands; no effect when it stands so already or is gone. What goes on below it ends with it."""

    @mutating
    async def delete_run(self, run_id: str) -> None:
        """Delete the run, with those that steps made below it; no effect when it is gone."""
