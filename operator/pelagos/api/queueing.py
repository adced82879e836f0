"""How the step of a pipeline run stands in its queue. Shared by the kinds that run pipelines."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict


class QueueStatus(Strict):
    """Where the run waits, or waited; absent where there is no queue, or Kueue shows nothing."""

    name: Annotated[str, Field(description="Kueue LocalQueue.")]
    position: Annotated[
        int | None,
        Field(
            description="Its place among all workloads that wait for the same ClusterQueue; 1 is next. Absent when not "
            "known."
        ),
    ] = None
    reason: Annotated[str | None, Field(description="Why it waits, in Kueue's words.")] = None
    since: Annotated[
        str | None, Field(description="When it entered the queue.", json_schema_extra={"format": "date-time"})
    ] = None
    admitted_at: Annotated[
        str | None,
        Field(description="When Kueue admitted it; absent while it waits.", json_schema_extra={"format": "date-time"}),
    ] = None
