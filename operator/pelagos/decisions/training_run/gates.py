"""What was measured, and whether it is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos.api import reasons
from pelagos.api.training_run import Gate, GateStatus, ModelStatus, TrainingRunStatus
from pelagos.decisions import moments
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import KeepRecord
from pelagos.decisions.training_run import figures, judgeable, progress
from pelagos.decisions.training_run.conditions import EVALUATED, GATES_PASSED, REFUSED_POLL, succeeded
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract.metrics import EXPORTED, TEST
from pelagos_contract.search import SearchProgress


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
    outcomes = [_outcome(gate, result) for gate in wanted]
    failures = [
        f"spec.gates[{number}]: {_missed(gate, outcome)}"
        if outcome.value is not None
        else f"spec.gates[{number}].metric: {_lack(gate, result['metrics'])}"
        for number, (gate, outcome) in enumerate(zip(wanted, outcomes, strict=True))
        if not outcome.passed
    ]
    if not failures:
        message = f"{len(outcomes)} of {len(outcomes)} passed"
        return outcomes, Verdict(GATES_PASSED, ConditionState.DONE, reasons.GATES_PASSED, message)
    is_known = all(outcome.value is not None for outcome in outcomes)
    reason = reasons.GATE_FAILED if is_known else reasons.GATE_METRIC_UNKNOWN
    message = "; ".join(failures) + ". Correct spec.gates, or train a better model as a new TrainingRun"
    return outcomes, Verdict(GATES_PASSED, ConditionState.REFUSED, reason, message)


def _outcome(gate: Gate, result: Mapping[str, Any]) -> GateStatus:
    value, seed = _judged_value(gate, result)
    return GateStatus(
        metric=gate.name,
        class_=gate.class_,
        value=figures.figure(value) if value is not None else None,
        interval=figures.interval(result, gate.name) if seed is None and value is not None else None,
        minimum=gate.minimum,
        maximum=gate.maximum,
        passed=value is not None and _keeps(gate, value),
        seed=seed,
    )


def _keeps(gate: Gate, value: float) -> bool:
    return value >= float(gate.minimum) if gate.minimum is not None else value <= float(gate.maximum or 0)


def _judged_value(gate: Gate, result: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """The mean, or the only value there is; or the worst of several seeds, with that: the largest under a maximum."""
    name, seeds = gate.name, result.get("seeds") or ()
    mean = result["metrics"].get(name)
    # One that a training says nothing about has no mean, and no worst; one of the model alone has no others.
    if gate.seeds != "Worst" or mean is None or not any(name in each["metrics"] for each in seeds):
        return mean, None
    worst = (min if gate.minimum is not None else max)(seeds, key=lambda each: each["metrics"].get(name, mean))
    return worst["metrics"].get(name, mean), worst["seed"]


def _missed(gate: Gate, outcome: GateStatus) -> str:
    """Metric, value and bound, and what would help with such a one."""
    kind, bound = ("minimum", gate.minimum) if gate.minimum is not None else ("maximum", gate.maximum)
    of_seed = "" if outcome.seed is None else f" with seed {outcome.seed}"
    within = ""
    if (known := outcome.interval) is not None:
        within = f" ({figures.percent(known.level)} interval {known.low}\u2013{known.high})"
    said = f"{_in_words(gate)} is {outcome.value}{of_seed}{within}, the {kind} is {bound}"
    if gate.class_ is not None:
        return f"{said}; more images of the class {gate.class_!r} would help"
    if gate.name in EXPORTED:
        return f"{said}; other data would not help: it is of the exported model, whatever it learnt"
    return said


def _in_words(gate: Gate) -> str:
    if gate.class_ is None:
        return gate.name
    return f"{gate.metric.removeprefix(TEST)} of the class {gate.class_!r}"


def _lack(gate: Gate, metrics: Mapping[str, float | None]) -> str:
    """Why there is no figure to judge, and which there are: of classes, when the gate names one."""
    metric = gate.name
    if metric in metrics:
        why = "as the test split has nothing that it could be computed from (see status.warnings)"
        return f"{_in_words(gate)} is undefined, {why}"
    parts = metric.split("/", 2)
    kin = "/".join(parts[:2]) + "/" if len(parts) > 2 else ""
    level = 2 if kin else 1
    known = [name for name in metrics if name.count("/") == level and name.startswith(kin)]
    return f"the run has no metric {metric}{judgeable.meant(metric, known)}; it has {judgeable.listed(known)}"
