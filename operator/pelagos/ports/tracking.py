"""Tracking: one tracked run per TrainingRun, created by the operator and filled by the pipeline.

Others write to the tracking server, too. A run is ours only under our seal of its id, which is no use to any other run. The seal
can be set only once the server has assigned the id. Until then, a run carries our seal of its intent: resource and inputs.
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
    """The state of a tracked run; the values are MLflow's."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


@dataclass(frozen=True)
class DesiredTrackedRun:
    """A tracked run that should exist. Filled by decisions/training_run/tracking.wanted."""

    uid: str
    """The TrainingRun's uid, which identifies the run."""
    experiment: str
    """The name of its experiment, which is created if there is none."""
    name: str
    """The TrainingRun's name, which people see in lists."""
    tags: Mapping[str, str]
    """The frozen inputs and their digest, so that they can be recovered if status is lost."""
    namespace: str = ""
    """The TrainingRun's namespace, which the seal covers."""


@dataclass(frozen=True)
class Sealing:
    """How a desired run is recognized among others. ``intent`` is set on creation, and ``seal(id)`` once the id is known.

    ``holds(id, seal)`` says whether a seal is valid for the run with that id, ``intends(intent)`` whether an intent is valid for
    this desired run.
    """

    intent: str
    seal: Callable[[str], str]
    holds: Callable[[str, str], bool]
    intends: Callable[[str], bool]

    def owns(self, run: TrackedRun) -> bool:
        """Whether the run is ours."""
        return SEAL_TAG in run.tags and self.holds(run.id, run.tags[SEAL_TAG])

    def began(self, run: TrackedRun) -> bool:
        """Whether the run may be one that we created, but died before sealing its id."""
        return INTENT_TAG in run.tags and self.intends(run.tags[INTENT_TAG])


@dataclass(frozen=True)
class TrackedRun:
    """A run in the tracking server. ``metrics`` has the latest value of each; ``url`` is the run's page for people."""

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
        """The address at which pipelines reach the tracking server."""

    async def get_run(self, run_id: str) -> TrackedRun | None:
        """The run with this id; None when it does not exist."""

    async def find_runs(self, uid: str) -> tuple[TrackedRun, ...]:
        """All runs tagged with ``uid``, regardless of their creator, oldest first."""

    async def owned(self) -> tuple[TrackedRun, ...]:
        """All runs with the uid of any resource in their tags, regardless of their creator."""

    @mutating
    async def create_run(self, want: DesiredTrackedRun, sealing: Sealing) -> TrackedRun:
        """Create the run under our seal, exactly once per uid: looks for it first. Runs of others are left alone."""

    @mutating
    async def seal_run(self, run_id: str, seal: str) -> None:
        """Set our seal on the run. No effect when it is set already, or the run no longer exists."""

    @mutating
    async def set_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Set the run's outcome, and end unfinished runs below it. No effect if it is set already, or the run does not exist."""

    @mutating
    async def delete_run(self, run_id: str) -> None:
        """Delete the run, with those that steps made below it. No effect when it no longer exists."""
