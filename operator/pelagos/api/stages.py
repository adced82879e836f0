"""Which stage of its work a run is in: the part of status that kinds with pipelines share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict


class StageSeconds(Strict):
    """A stage that is over."""

    stage: Annotated[str, Field(description="Which.")]
    seconds: Annotated[int, Field(description="How long it took.")]


class StageProgress(Strict):
    """For show: steps tell it themselves."""

    stage: Annotated[
        str | None, Field(description="What the run does now; absent when it does nothing, or does not say.")
    ] = None
    stage_since: Annotated[
        str | None, Field(description="When that began.", json_schema_extra={"format": "date-time"})
    ] = None
    stage_percent: Annotated[int | None, Field(description="Share of the stage that is done, where it is known.")] = (
        None
    )
    stages: Annotated[
        list[StageSeconds] | None, Field(description="The stages of the last attempt that are over, in their order.")
    ] = None
