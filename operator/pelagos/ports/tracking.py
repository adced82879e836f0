"""Tracking: one tracked run per TrainingRun, created by the operator and filled by the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Outcome(Enum):
    """How a tracked run stands; the values are MLflow's."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


UID_TAG = "pelagos.dev/uid"
"""Every tracked run and registered version carries the uid of the resource that caused it."""


@dataclass(frozen=True)
class TrackedRunWant:
    """A tracked run to be; ``uid`` identifies it. ``tags`` carry the inputs digest and the frozen inputs."""

    uid: str
    experiment: str
    name: str
    tags: Mapping[str, str]


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


class Tracking(Protocol):
    """Every method may raise OutageError or RejectedError."""

    @property
    def uri(self) -> str:
        """Where pipelines reach the tracking server."""

    async def find_run(self, uid: str) -> TrackedRun | None:
        """The run tagged with ``uid``; of several, the oldest."""

    async def create_run(self, want: TrackedRunWant) -> TrackedRun:
        """Make the run exist, exactly once per uid (looked up first)."""

    async def set_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Set how the run stands; no effect when it stands so already or is gone."""

    async def delete_run(self, run_id: str) -> None:
        """Delete the run; no effect when it is gone."""
