"""What was measured, and whether it is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos.api import reasons
from pelagos.api.training_run import Gate, GateStatus, ModelStatus, TrainingRunStatus
from pelagos.decisions import moments
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import KeepRecord
from pelagos.decisions.training_run import figures, progress
from pelagos.decisions.training_run.conditions import EVALUATED, GATES_PASSED, REFUSED_POLL, succeeded
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract.search import SearchProgress

MOST_NAMED = 20
"""Metrics that a message lists."""


def measured_before_it_failed(seen: Observed) -> Passed | None:
    """What was measured stays true of a run that failed afterwards."""
    failure = seen.report.failure
    if failure is None or not figures.known(failure):
        return None
    return Passed(status=figures.status_of(failure))


def measured(seen: Observed) -> Passed:
    """On the test split: what was chosen by the validation split must not judge itself."""
    message = f"on the test split: {figures.primary_metric(seen.result)}"
    evaluated = Verdict(EVALUATED, ConditionState.DONE, reasons.EVALUATED, message)
    status, searched = figures.status_of(seen.result), seen.result.get("search")
    if searched is not None:
        found = progress.search_status(SearchProgress.model_validate(searched))
        status = status.model_copy(update={"search": found})
    return Passed((evaluated,), status=status)


def model_made(seen: Observed) -> Passed:
    """Also of a model that is not good enough: whoever wants to see why can look at it."""
    return Passed(status=TrainingRunStatus(model=model_status(seen)))


def result_on_record(seen: Observed) -> Passed | None:
    """Keep the result on record, unless it is, or it cannot be determined now which tracked run it belongs to."""
    status = TrainingRunStatus(record=seen.record.uri)
    if seen.record.is_kept:
        return Passed(status=status)
    if seen.tracking_outage is not None:
        return None
    run = seen.tracked.id if seen.tracked is not None else seen.recorded_run
    created_at = moments.timestamp(seen.time_of_day or seen.now)
    made_by = seen.keyed.made_by if seen.made_by is None else seen.made_by
    made: dict[str, Any] = {"createdAt": created_at, "result": dict(seen.result), "trackedRun": run}
    made["algorithms"] = dict(made_by)
    return Passed(effects=(KeepRecord(seen.record.path, {**seen.record.of, **made}),), status=status)


def judged(seen: Observed) -> Passed:
    """Gates are no inputs: correcting one judges the same figures again."""
    outcomes, verdict = evaluate(seen.spec.gates, seen.result)
    status = TrainingRunStatus(gates=outcomes)
    if verdict.stops:
        return Ended((verdict, succeeded(verdict)), status=status, recheck_after=REFUSED_POLL)
    return Passed((verdict,), status=status)


def model_status(seen: Observed, name: str | None = None, version: str | None = None) -> ModelStatus:
    """The model that the training made; ``name`` and ``version`` once it is registered."""
    model = seen.result["model"]
    return ModelStatus(
        uri=model["uri"],
        onnx_sha256=model["onnxSha256"],
        # Trainings before packages were data alone named no manifest: their packages cannot be served.
        manifest_sha256=model.get("manifestSha256"),
        name=name,
        version=version,
    )


def evaluate(wanted: Sequence[Gate], result: Mapping[str, Any]) -> tuple[list[GateStatus], Verdict]:
    """Outcome of every gate, and the verdict about all of them. None is a metric that the test split says nothing about."""
    metrics: Mapping[str, float | None] = result["metrics"]
    outcomes: list[GateStatus] = []
    failures: list[str] = []
    reason = reasons.GATE_FAILED
    for number, gate in enumerate(wanted):
        value, seed = _judged_value(gate, result)
        passed = value is not None and value >= float(gate.minimum)
        shown = figures.figure(value) if value is not None else None
        outcomes.append(GateStatus(metric=gate.metric, minimum=gate.minimum, passed=passed, value=shown, seed=seed))
        if value is None:
            reason = reasons.GATE_METRIC_UNKNOWN
            failures.append(f"spec.gates[{number}].metric: {_lack(gate.metric, metrics)}")
        elif not passed:
            of_seed = "" if seed is None else f" with seed {seed}"
            failures.append(f"spec.gates[{number}]: {gate.metric} is {shown}{of_seed}, the minimum is {gate.minimum}")
    if not failures:
        message = f"{len(outcomes)} of {len(outcomes)} passed"
        return outcomes, Verdict(GATES_PASSED, ConditionState.DONE, reasons.GATES_PASSED, message)
    message = "; ".join(failures) + ". Correct spec.gates, or train a better model as a new TrainingRun"
    return outcomes, Verdict(GATES_PASSED, ConditionState.REFUSED, reason, message)


def _judged_value(gate: Gate, result: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """The mean, or the only value there is; or the worst of several seeds, with that."""
    mean, seeds = result["metrics"].get(gate.metric), result.get("seeds") or ()
    # One that a training says nothing about has no mean, and no worst.
    if gate.seeds != "Worst" or not seeds or mean is None:
        return mean, None
    worst = min(seeds, key=lambda each: each["metrics"].get(gate.metric, mean))
    return worst["metrics"].get(gate.metric, mean), worst["seed"]


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
