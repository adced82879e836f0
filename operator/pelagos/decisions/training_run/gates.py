"""The measured figures, and whether they are good enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pelagos.api import reasons
from pelagos.api.gates import Gate, GateStatus, SliceGate
from pelagos.api.training_run import ModelStatus, TrainingRunStatus
from pelagos.decisions import moments
from pelagos.decisions.chains import Ended, Passed
from pelagos.decisions.effects import KeepRecord
from pelagos.decisions.training_run import champions, figures, judgeable, progress
from pelagos.decisions.training_run.conditions import EVALUATED, GATES_PASSED, OUTAGE_POLL, REFUSED_POLL, succeeded
from pelagos.decisions.training_run.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract.metrics import EXPORTED, TEST, Kind, parsed, plain
from pelagos_contract.search import SearchProgress

_Lack = tuple[reasons.Reason, str]
"""Why a gate is not passed: a reason, and the text after the gate's number in the message."""
_ORDER = (
    reasons.GATE_METRIC_UNKNOWN,
    reasons.CHAMPION_NOT_COMPARABLE,
    reasons.CHAMPION_CHANGED,
    reasons.GATE_FAILED,
    reasons.REGISTRY_UNAVAILABLE,
)
"""The first of these reasons that occurs is that of the condition: gates that cannot be judged come first."""


def measured_before_it_failed(seen: Observed) -> Passed | None:
    """Publishes the figures of a run that failed after the evaluation: they are still valid."""
    failure = seen.report.failure
    if failure is None or not figures.known(failure):
        return None
    return Passed(status=figures.status_of(failure))


def measured(seen: Observed) -> Passed:
    """Evaluated, with the figures on the test split, since the validation split was used to choose the model."""
    message = f"on the test split: {figures.primary_metric(seen.result)}"
    evaluated = Verdict(EVALUATED, ConditionState.DONE, reasons.EVALUATED, message)
    status, searched = figures.status_of(seen.result), seen.result.get("search")
    if searched is not None:
        found = progress.search_status(SearchProgress.model_validate(searched))
        status = status.model_copy(update={"search": found})
    return Passed((evaluated,), status=status)


def model_made(seen: Observed) -> Passed:
    """Publishes the model, even if it is not good enough, so that people can find out why."""
    return Passed(status=TrainingRunStatus(model=model_status(seen)))


def result_on_record(seen: Observed) -> Passed | None:
    """Keeps the result on record, unless it is there, or it cannot be determined now which tracked run it belongs to."""
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
    """GatesPassed. Gates are not inputs: after a correction of one, the same figures are judged again."""
    outcomes, verdict = evaluate(seen)
    status = TrainingRunStatus(gates=outcomes)
    if verdict.stops:
        again = OUTAGE_POLL if verdict.state is ConditionState.UNKNOWN else REFUSED_POLL
        return Ended((verdict, succeeded(verdict)), status=status, recheck_after=again)
    return Passed((verdict,), status=status)


def model_status(seen: Observed, name: str | None = None, version: str | None = None) -> ModelStatus:
    """The model that the training made; ``name`` and ``version`` once it is registered."""
    model = seen.result["model"]
    return ModelStatus(
        uri=model["uri"],
        onnx_sha256=model["onnxSha256"],
        # Earlier releases, whose packages were not data alone, named no manifest. Their packages cannot be served.
        manifest_sha256=model.get("manifestSha256"),
        name=name,
        version=version,
    )


def evaluate(seen: Observed) -> tuple[list[GateStatus], Verdict]:
    """The outcome of every gate, and the verdict about all of them."""
    judged = [
        _by_champion(gate, seen) if gate.champion is not None else _by_bound(gate, seen.result)
        for gate in seen.spec.gates
    ]
    outcomes = [outcome for outcome, _ in judged]
    lacking = [(number, *lack) for number, (_, lack) in enumerate(judged) if lack is not None]
    if not lacking:
        first = [
            each.champion.model for each in outcomes if each.champion is not None and each.champion.version is None
        ]
        aside = f"; there is no champion of {first[0]!r} yet to compare with" if first else ""
        message = f"{len(outcomes)} of {len(outcomes)} passed{aside}"
        return outcomes, Verdict(GATES_PASSED, ConditionState.DONE, reasons.GATES_PASSED, message)
    reason = min((reason for _, reason, _ in lacking), key=_ORDER.index)
    message = "; ".join(f"spec.gates[{number}]{words}" for number, _, words in lacking)
    if reason is reasons.REGISTRY_UNAVAILABLE:
        return outcomes, Verdict(GATES_PASSED, ConditionState.UNKNOWN, reason, message)
    message = f"{message}. Correct spec.gates, or train a better model as a new TrainingRun"
    return outcomes, Verdict(GATES_PASSED, ConditionState.REFUSED, reason, message)


def _by_champion(gate: Gate, seen: Observed) -> tuple[GateStatus, _Lack | None]:
    found = champions.judged(gate, seen)
    known = seen.result["metrics"].get(gate.name) if found.value is None else found.value
    value = figures.judged(known) if known is not None else None
    outcome = GateStatus(metric=gate.name, value=value, champion=found.status, passed=found.lack is None)
    return outcome, (found.lack[0], f".champion: {found.lack[1]}") if found.lack is not None else None


def _by_bound(gate: Gate, result: Mapping[str, Any]) -> tuple[GateStatus, _Lack | None]:
    """The outcome of a gate with a minimum or maximum. It is not passed if its metric is missing or undefined."""
    value, seed = _judged_value(gate, result)
    outcome = GateStatus(
        metric=gate.name,
        class_=gate.class_,
        slice=_slice(gate, result["metrics"], value),
        value=figures.judged(value) if value is not None else None,
        interval=figures.interval(result, gate.name) if seed is None and value is not None else None,
        minimum=gate.minimum,
        maximum=gate.maximum,
        passed=value is not None and _keeps(gate, value),
        seed=seed,
    )
    if outcome.passed:
        return outcome, None
    if value is None:
        return outcome, (reasons.GATE_METRIC_UNKNOWN, f".metric: {_lack(gate, result['metrics'])}")
    return outcome, (reasons.GATE_FAILED, f": {_missed(gate, outcome)}")


def _keeps(gate: Gate, value: float) -> bool:
    return value >= float(gate.minimum) if gate.minimum is not None else value <= float(gate.maximum or 0)


def _judged_value(gate: Gate, result: Mapping[str, Any]) -> tuple[float | None, int | None]:
    """The value to judge, and its seed if it is that of one of several: the mean or only value, or the worst one by the bound."""
    name, seeds = gate.name, result.get("seeds") or ()
    mean = result["metrics"].get(name)
    # A metric that is undefined in one training has no mean, and no worst value. One of the final model exists only once.
    if gate.seeds != "Worst" or mean is None or not any(name in each["metrics"] for each in seeds):
        return mean, None
    worst = (min if gate.minimum is not None else max)(seeds, key=lambda each: each["metrics"].get(name, mean))
    return worst["metrics"].get(name, mean), worst["seed"]


def _slice(gate: Gate, metrics: Mapping[str, float | None], value: float | None) -> SliceGate | None:
    """The slice that is judged. If the gate is about the worst one, it is found by its value, and may remain unnamed."""
    if gate.slice is None or gate.slice.value is not None or value is None:
        return gate.slice
    metric = gate.metric.removeprefix(TEST)
    named = ((name, parsed(name)) for name, found in metrics.items() if found == value)
    parts = [
        plain(part.value)
        for _, part in named
        if part is not None
        and part.kind is Kind.SLICE
        and (part.field, part.metric) == (gate.slice.field, metric)
        and part.value
    ]
    return SliceGate(field=gate.slice.field, value=next(filter(None, parts), None))


def _missed(gate: Gate, outcome: GateStatus) -> str:
    """A message with metric, value, bound, and what would help."""
    kind, bound = ("minimum", gate.minimum) if gate.minimum is not None else ("maximum", gate.maximum)
    of_seed = "" if outcome.seed is None else f" with seed {outcome.seed}"
    within = ""
    if (known := outcome.interval) is not None:
        within = f" ({figures.percent(known.level)} interval {known.low}\u2013{known.high})"
    said = f"{_in_words(gate, outcome.slice)} is {outcome.value}{of_seed}{within}, the {kind} is {bound}"
    if gate.class_ is not None:
        return f"{said}; more images of the class {gate.class_!r} would help"
    if outcome.slice is not None and outcome.slice.value is not None:
        return f"{said}; more images with {outcome.slice.field} {outcome.slice.value!r} would help"
    if gate.name in EXPORTED:
        return f"{said}; other data would not help: it depends on the exported model, not on the data"
    return said


def _in_words(gate: Gate, part: SliceGate | None = None) -> str:
    metric = gate.metric.removeprefix(TEST)
    if gate.slice is not None:
        which = "" if part is None or part.value is None else f" {part.value!r}"
        worst = " worst" if gate.slice.value is None else ""
        return f"{metric} of the{worst} {gate.slice.field}{which}"
    return gate.name if gate.class_ is None else f"{metric} of the class {gate.class_!r}"


def _lack(gate: Gate, metrics: Mapping[str, float | None]) -> str:
    """Why there is no figure to judge, and which figures exist: those of classes if the gate names one."""
    metric = gate.name
    if metric in metrics:
        why = "because the test split has nothing to compute it from (see status.warnings)"
        return f"{_in_words(gate)} is undefined, {why}"
    if gate.slice is not None:
        return _slice_lack(gate, gate.slice, metrics)
    parts = metric.split("/", 2)
    kin = "/".join(parts[:2]) + "/" if len(parts) > 2 else ""
    level = 2 if kin else 1
    known = [name for name in metrics if name.count("/") == level and name.startswith(kin)]
    return f"the run has no metric {metric}{judgeable.meant(metric, known)}; it has {judgeable.listed(known)}"


def _slice_lack(gate: Gate, asked: SliceGate, metrics: Mapping[str, float | None]) -> str:
    parts = [part for name in metrics if (part := parsed(name)) is not None and part.kind is Kind.SLICE]
    of_field = [part for part in parts if part.field == asked.field]
    if not of_field:
        told = judgeable.listed({part.field or "" for part in parts})
        return f"the test split was not sliced by {asked.field} (spec.evaluation.slices), but by {told}"
    values = sorted({plain(part.value or "") or f"unknown {asked.field}" for part in of_field})
    if asked.value is not None and asked.value not in values:
        near = judgeable.meant(asked.value, values)
        return f"no image of the test split has the {asked.field} {asked.value!r}{near}; there are {judgeable.listed(values)}"
    known = judgeable.listed({part.metric for part in of_field})
    return f"parts of the test split are not measured by {gate.metric.removeprefix(TEST)}, but by {known}"
