"""Figures of a training: gates, progress, and how they are written in status."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pelagos.api import reasons
from pelagos.api.training_run import Gate
from pelagos.decisions import attempts
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tracking import TrackedRun

REFUSED_POLL = 15.0
"""Seconds between two looks at what a person must correct outside of Kubernetes."""
EPOCH_METRIC = "progress/epoch"
PACE_METRIC = "progress/seconds_per_epoch"
MOST = 1e6
"""Epochs, and seconds per epoch, beyond which a tracked figure makes no sense; anybody may write metrics."""
MOST_NAMED = 20
"""Metrics that a message lists."""
HEADLINES = ("test/mAP50", "test/accuracy")


def figure(value: float) -> str:
    """A metric with the precision that matters."""
    return f"{value:.4f}"


def metrics(report: Mapping[str, Any]) -> Mapping[str, float]:
    """The figures of a result, or of a failure after the evaluation.

    JSON has no NaN: the data plane writes null for a figure that could not be computed.
    """
    return {name: value for name, value in (report.get("metrics") or {}).items() if value is not None}


def figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """What status says of them."""
    known = metrics(report)
    told = {name: figure(value) for name, value in known.items() if name.count("/") == 1}
    return {"metrics": told, "primaryMetric": primary_metric(known), "warnings": report.get("warnings") or None}


def primary_metric(metrics: Mapping[str, float]) -> str:
    """The one figure that a table has room for."""
    for name in HEADLINES:
        if name in metrics:
            return f"{name.removeprefix('test/')} {metrics[name]:.3f}"
    return "no figure"


def evaluate(wanted: Sequence[Gate], metrics: Mapping[str, float | None]) -> tuple[list[dict[str, Any]], Verdict]:
    """Outcome of every gate, and the verdict about all of them. None is a metric that the test split says nothing about."""
    outcomes: list[dict[str, Any]] = []
    failures: list[str] = []
    reason = reasons.GATE_FAILED
    for number, gate in enumerate(wanted):
        value = metrics.get(gate.metric)
        passed = value is not None and value >= float(gate.minimum)
        outcome: dict[str, Any] = {"metric": gate.metric, "minimum": gate.minimum, "passed": passed}
        if value is not None:
            outcome["value"] = figure(value)
        outcomes.append(outcome)
        if value is None:
            reason = reasons.GATE_METRIC_UNKNOWN
            failures.append(f"spec.gates[{number}].metric: {_lack(gate.metric, metrics)}")
        elif not passed:
            failures.append(f"spec.gates[{number}]: {gate.metric} is {figure(value)}, the minimum is {gate.minimum}")
    if not failures:
        return outcomes, Verdict(
            "GatesPassed", ConditionState.DONE, reasons.GATES_PASSED, f"{len(outcomes)} of {len(outcomes)} passed"
        )
    message = "; ".join(failures) + ". Correct spec.gates, or train a better model as a new TrainingRun"
    return outcomes, Verdict("GatesPassed", ConditionState.REFUSED, reason, message)


def _lack(metric: str, metrics: Mapping[str, float | None]) -> str:
    """Why there is no figure to judge, and which there are: of classes, when the gate names one."""
    if metric in metrics:
        return (
            f"{metric} is undefined, as the test split has nothing that it could be computed from (see status.warnings)"
        )
    parts = metric.split("/", 2)
    kin = "/".join(parts[:2]) + "/" if len(parts) > 2 else ""
    level = 2 if kin else 1
    known = sorted(name for name in metrics if name.count("/") == level and name.startswith(kin))
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return f"the run has no metric {metric}; it has {', '.join(known[:MOST_NAMED]) or 'none of this kind'}{more}"


def progress(tracked: TrackedRun | None, epochs: int, run: PipelineRun | None, now: datetime) -> dict[str, Any] | None:
    """Epochs done, and when the last should be, from the tracked run's latest metrics.

    The foretold end is in whole minutes, so that looking again does not mean writing again.
    """
    if tracked is None or run is None:
        return None
    epoch = tracked.metrics.get(EPOCH_METRIC, math.nan)
    if not 0 <= epoch <= MOST:
        return None
    done = int(epoch)
    out: dict[str, Any] = {"epoch": done, "epochs": epochs, "percent": min(100, done * 100 // epochs)}
    pace = tracked.metrics.get(PACE_METRIC, math.nan)
    if 0 < pace <= MOST and run.finished_at is None and done < epochs:
        minutes = math.ceil((now.timestamp() + pace * (epochs - done)) / 60)
        out["eta"] = timestamp(datetime.fromtimestamp(minutes * 60, UTC))
    return out


def run_status(run: PipelineRun) -> dict[str, Any]:
    """Where the pipeline run is, and when it ran."""
    out: dict[str, Any] = {"pipelineRun": attempts.told(run)}
    if run.started_at is not None:
        out["startedAt"] = timestamp(run.started_at)
    if run.finished_at is not None:
        out["finishedAt"] = timestamp(run.finished_at)
    return out


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
