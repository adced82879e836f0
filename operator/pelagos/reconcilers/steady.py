"""Times of pipeline runs that decisions can rely on: even if clocks are set, pauses end and deadlines hold. See ports.clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pelagos.ports.clock import Clock
from pelagos.ports.pipelines import PipelineRun

_ROUNDING = timedelta(milliseconds=1)
"""Added to a duration computed from two rounded times: a run that was ended at its deadline must not look shorter than that."""


def steady(run: PipelineRun | None, clock: Clock) -> tuple[PipelineRun | None, datetime]:
    """The run with ``ran`` filled in, and the present time by the clock that the run's own times come from."""
    if run is None or run.started_at is None:
        return run, clock.now()
    life = (run.name, run.attempt)
    since_start = clock.age((life, "started"), run.started_at, once=True)
    if run.finished_at is None:
        # Marks the run as not ended yet: when it has ended, it did so after this call, whatever its own clock says.
        clock.age((life, "ended"), run.started_at)
        ran = run.ran if run.ran is not None else since_start
        return replace(run, ran=ran), run.started_at + ran
    since_end = clock.age((life, "ended"), run.finished_at)
    ran = run.ran if run.ran is not None else max(since_start - since_end, timedelta()) + _ROUNDING
    return replace(run, ran=ran), run.finished_at + since_end
