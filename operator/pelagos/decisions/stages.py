"""The stage that a run is in, as its steps report it. Only shown, never decided by. Shared by the kinds that run pipelines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pelagos.api import reasons
from pelagos.api.stages import StageProgress, StageSeconds
from pelagos.decisions import moments
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunState

if TYPE_CHECKING:
    from pelagos.decisions.verdicts import Verdict
    from pelagos_contract.progress import Progress, Stage

SKEW = timedelta(minutes=5)
"""By how much the clocks of two nodes may differ. If a stage began further than that outside its run, its time is not shown."""
_BROKEN = frozenset({reasons.PIPELINE_FAILED, reasons.PIPELINE_INTERRUPTED})


def current(told: Progress | None, run: PipelineRun | None) -> Stage | None:
    """The stage that the run is in; None when it is not running, or does not report any."""
    return told.stage if told is not None and run is not None and run.state is RunState.RUNNING else None


def last_ended(told: Progress | None) -> Stage | None:
    """The last stage that has ended; None when none has, or the run reports none."""
    return told.ended[-1].stage if told is not None and told.ended else None


def shown(
    told: Progress | None, stated: StageProgress | None, run: PipelineRun | None, now: datetime
) -> dict[str, Any]:
    """Fields of StageProgress; empty when nothing is known. Once a run has ended, ``stated``, from status, has its stages."""
    if told is None or run is None:
        ended = stated.stages if stated is not None and run is not None and run.state in FINISHED else None
        return {"stages": ended} if ended else {}
    found: dict[str, Any] = {"stages": [ended_stage(ended.stage, ended.seconds) for ended in told.ended] or None}
    stage = current(told, run)
    if stage is None:
        return found
    done, total = (told.done, told.total) if told.total else (told.bytes_done, told.bytes_total)
    percent = min(100, done * 100 // total) if done is not None and total else None
    return found | {"stage": stage.value, "stage_since": _since(told, run, now), "stage_percent": percent}


def ended_stage(stage: Stage, seconds: float) -> StageSeconds:
    """An ended stage in its form in status, in whole seconds."""
    return StageSeconds(stage=stage.value, seconds=round(seconds))


def located(verdict: Verdict, told: Progress | None) -> Verdict:
    """The verdict; if the run broke, with the stage that it was in added to the message."""
    if told is None or told.stage is None or verdict.reason not in _BROKEN:
        return verdict
    return replace(verdict, message=f"in the stage {told.stage.value}: {verdict.message}")


def beside(run: PipelineRun | None, words: str) -> str:
    """``words`` about the run's activity, with the engine's own message appended if there is one."""
    return f"{words}; {run.message}" if run is not None and run.message else words


def _since(told: Progress, run: PipelineRun, now: datetime) -> str | None:
    if told.since is None:
        return None
    since = datetime.fromtimestamp(told.since, UTC)
    earliest = (run.started_at or since) - SKEW
    return moments.timestamp(since) if earliest <= since <= now + SKEW else None
