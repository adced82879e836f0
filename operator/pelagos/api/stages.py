"""Which stage of its work a run is in: the part of status that kinds with pipelines share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict


class StageSeconds(Strict):
    """A completed stage."""

    stage: Annotated[str, Field(description="Name of the stage.")]
    seconds: Annotated[int, Field(description="How long it took.")]


class StageProgress(Strict):
    """For display: the steps report it themselves."""

    stage: Annotated[
        str | None, Field(description="What the run is doing; absent when it does nothing, or does not say.")
    ] = None
    stage_since: Annotated[
        str | None, Field(description="When that began.", json_schema_extra={"format": "date-time"})
    ] = None
    stage_percent: Annotated[
        int | None, Field(description="Percentage of the stage that is done, where it is known.")
    ] = None
    stages: Annotated[
        list[StageSeconds] | None, Field(description="Completed stages of the last attempt, in order.")
    ] = None
