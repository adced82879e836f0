"""A run's place in its queue, as status shows it. Nothing is decided by it. Shared by the kinds that run pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pelagos.api.queueing import QueueStatus
from pelagos.decisions import moments

if TYPE_CHECKING:
    from pelagos.ports.pipelines import PipelineRun


def shown(run: PipelineRun) -> QueueStatus | None:
    """The queue's name, the run's position and times in it; None when the engine reports no queue for the run."""
    found = run.queue
    if found is None or not found.name:
        return None
    return QueueStatus(
        name=found.name,
        position=found.position,
        reason=found.reason or None,
        since=moments.timestamp(found.since) if found.since is not None else None,
        admitted_at=moments.timestamp(found.admitted_at) if found.admitted_at is not None else None,
    )
