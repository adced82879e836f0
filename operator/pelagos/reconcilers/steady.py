"""Times of pipeline runs, fit for decisions: whatever is done to the clocks, pauses end and deadlines hold. See ports.clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pelagos.ports.clock import Clock
from pelagos.ports.pipelines import PipelineRun

_ROUNDING = timedelta(milliseconds=1)
"""A run that was ended at its deadline took at least that long, also by the difference of two rounded times."""


def steady(run: PipelineRun | None, clock: Clock) -> tuple[PipelineRun | None, datetime]:
    """The run with how long it ran, and the time as it is by the clock that noted the run's own times."""
    if run is None or run.started_at is None:
        return run, clock.now()
    life = (run.name, run.attempt)
    since_start = clock.age((life, "started"), run.started_at, once=True)
    if run.finished_at is None:
        # A look that ages with the run: when it has ended, it did so after this look.
        clock.age((life, "ended"), run.started_at)
        ran = run.ran if run.ran is not None else since_start
        return replace(run, ran=ran), run.started_at + ran
    since_end = clock.age((life, "ended"), run.finished_at)
    ran = run.ran if run.ran is not None else max(since_start - since_end, timedelta()) + _ROUNDING
    return replace(run, ran=ran), run.finished_at + since_end
