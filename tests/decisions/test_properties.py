"""For every consistent world, deciding never fails, is repeatable, and says what people can do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given, reject
from hypothesis import strategies as st

import builders
from builders import NOW, ImpossibleWorldError, make_run
from pelagos.api import merge_patches, reasons
from pelagos.decisions import dataset, model_service, training_run
from pelagos.decisions.dataset import observed as dataset_observed
from pelagos.decisions.model_service import observed as model_service_observed
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import observed as training_run_observed
from pelagos.decisions.verdicts import ConditionState, Decision, summary
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunName, RunState
from pelagos.ports.serving import ServiceState
from pelagos.ports.tracking import Outcome
from pelagos.ports.volumes import Fingerprint
from pelagos.reconcilers import reporting

NEXT_STEP = re.compile(r"spec\.\w|pelagos\.dev/retry|Correct|Restore|log is at|set it|Put |Set it|Raise it|Create ")
CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*")
durations = st.from_regex(r"\A([0-9]{1,9}(ms|s|m|h|d)){1,2}\Z")
moments = st.integers(-10_000, 10_000).map(lambda seconds: NOW + timedelta(seconds=seconds))
figures = st.none() | st.floats(0, 1) | st.just(float("nan"))
failures = st.fixed_dictionaries(
    {"reason": st.sampled_from(["DiskFull", "FormatInvalid"]), "message": st.sampled_from(["", "no space is left"])},
    optional={"field": st.sampled_from(["spec.source", None])},
)


@st.composite
def runs(draw: st.DrawFn) -> PipelineRun:
    state = draw(st.sampled_from(RunState))
    attempt = draw(st.integers(1, 12))
    return make_run(
        state,
        attempt=attempt,
        attempts_with_key=draw(st.integers(1, attempt)),
        retry_key=draw(st.sampled_from(["", "2"])),
        message=draw(st.sampled_from(["", "exit code 137"])),
        started_at=None if state is RunState.PENDING else draw(moments),
        finished_at=draw(st.none() | moments) if state in FINISHED else None,
    )


def reports(result: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Report]:
    return (
        st.just(Report())
        | result.map(lambda found: Report(result=found))
        | failures.map(lambda found: Report(failure=found))
    )


def consistent(make: Callable[..., Any], **changes: Any) -> Any:
    """A consistent world; the example is discarded if the drawn parts contradict each other."""
    try:
        return make(**changes)
    except ImpossibleWorldError:
        reject()


@st.composite
def datasets(draw: st.DrawFn) -> dataset_observed.Observed:
    spec = builders.dataset_spec(
        suspend=draw(st.booleans()),
        refresh=draw(durations),
        split={"ratios": {"train": draw(st.sampled_from([70, 71]))}},
    )
    fingerprint = draw(st.none() | st.builds(Fingerprint, st.sampled_from(["a", "b"]), st.integers(0, 9)))
    run = draw(st.none() | runs()) if fingerprint is not None else None
    old = draw(st.lists(st.sampled_from(["dataset-1", "dataset-2"]), unique=True))
    return consistent(  # type: ignore[no-any-return]
        builders.make_dataset_observed,
        spec=spec,
        retry=draw(st.sampled_from(["", "2"])),
        fingerprint=fingerprint,
        source_error=draw(st.none() | st.just("spec.source.volume.path: no")) if fingerprint is None else None,
        run=run,
        report=draw(reports(st.just(builders.preparation_result()))) if run is not None else Report(),
        superseded=tuple(make_run(RunState.RUNNING, name=RunName(name)) for name in old),
        now=draw(moments),
    )


@st.composite
def training_specs(draw: st.DrawFn) -> Any:
    gates = st.fixed_dictionaries(
        {"metric": st.sampled_from(["test/mAP50", "test/none"]), "minimum": st.sampled_from(["0", "0.9", "1e99"])}
    )
    return builders.training_run_spec(
        suspend=draw(st.booleans()),
        deadline=draw(durations),
        seeds=draw(st.sampled_from([[0], [1]])),
        gates=draw(st.lists(gates, max_size=2)),
        register=draw(st.sampled_from([None, {"model": "detector"}, {"model": "detector", "alias": "champion"}])),
        hyperparameters={"imageSize": draw(st.sampled_from([None, 320, 100]))},
        datasetRef={"version": draw(st.sampled_from(["latest", builders.OTHER_VERSION]))},
        model={"architecture": draw(st.sampled_from(["yolov8n", "mobilenet_v3_small"]))},
    )


@st.composite
def tracked_runs(draw: st.DrawFn) -> Any:
    metric = st.floats(allow_nan=True, allow_infinity=True)
    names = ["progress/epoch", "progress/seconds_per_epoch"]
    return builders.make_tracked(
        outcome=draw(st.sampled_from(Outcome)), metrics=draw(st.dictionaries(st.sampled_from(names), metric))
    )


@st.composite
def training_runs(draw: st.DrawFn) -> training_run_observed.Observed:
    exists = draw(st.booleans())
    candidate = draw(st.none() | st.just(builders.dataset_version())) if exists else None
    tracked = draw(st.none() | tracked_runs())
    run = draw(st.none() | runs())
    report = draw(reports(figures.map(lambda value: builders.training_result(mAP50=value)))) if run else Report()
    spec = draw(training_specs())
    asked = report.result is not None and spec.register_ is not None
    version = draw(st.none() | st.just(builders.model_version())) if asked else None
    away = st.none() | st.just("it does not answer")
    return consistent(  # type: ignore[no-any-return]
        builders.make_training_observed,
        spec=spec,
        retry_key=draw(st.sampled_from(["", "2"])),
        dataset=training_run_observed.ObservedDataset(exists, exists and draw(st.booleans()), "100 images", candidate),
        frozen=draw(st.none() | st.just(builders.frozen_inputs())),
        tracked=tracked,
        tracking_outage=draw(away) if tracked is None else None,
        run=run,
        report=report,
        version=version,
        registry_outage=draw(away) if asked and version is None else None,
        now=draw(moments),
    )


@st.composite
def model_services(draw: st.DrawFn) -> model_service_observed.Observed:
    unresolved = st.builds(
        model_service_observed.Unresolved, st.just(reasons.TRAINING_RUN_NOT_FOUND), st.just("spec.model: there is none")
    )
    state = draw(st.none() | st.sampled_from(ServiceState))
    service = None
    if state is not None:
        service = builders.make_service(
            state,
            digest=draw(st.sampled_from(["", "sha256:earlier"])),
            restarts=draw(st.integers(0, 2000)),
            changed_at=draw(moments),
            message=draw(st.sampled_from(["", "signal 9"])),
        )
    probe = draw(st.sampled_from([None, builders.RIGHT, builders.WRONG])) if state is ServiceState.LOADED else None
    spec = builders.model_service_spec(suspend=draw(st.booleans()), runtime={"maxQueueDelay": draw(durations)})
    return consistent(  # type: ignore[no-any-return]
        builders.make_service_observed,
        spec=spec,
        model=draw(st.just(builders.MODEL) | unresolved),
        last_model=draw(st.none() | st.just(builders.MODEL)),
        last_reference=draw(st.sampled_from([None, "another", model_service_observed.reference(spec)])),
        service=service,
        probe=probe,
        wrong_probes=draw(st.integers(1, 5)) if probe is builders.WRONG else 0,
        now=draw(moments),
    )


def check(decision: Decision, again: Decision, owned: tuple[str, ...]) -> None:
    assert decision == again, "the same world, another decision"
    ready = summary(decision)
    assert ready.message
    for verdict in (*decision.verdicts, ready):
        assert CAMEL_CASE.fullmatch(verdict.reason), verdict
        assert verdict.type in {*owned, "Ready"}
        assert (verdict.state is ConditionState.WAITING) <= (verdict.reason.state == "waiting"), verdict
        if verdict.state is ConditionState.REFUSED:
            assert verdict.reason.state == "action required", verdict
            assert NEXT_STEP.search(verdict.message) or verdict.reason in {"DiskFull", "FormatInvalid"}, verdict
    types = [verdict.type for verdict in decision.verdicts]
    assert len(types) == len(set(types)), types
    assert decision.recheck_after is None or 0 <= decision.recheck_after < 4e9
    if decision.recheck_after == 0:
        assert decision.effects, "looking again at once without having done anything is a hot loop"
    if ready.state in {
        ConditionState.PROGRESSING,
        ConditionState.WAITING,
        ConditionState.FAILING,
        ConditionState.UNKNOWN,
    }:
        assert decision.recheck_after is not None, "what is in progress must be looked at again"


def check_status(decision: Decision, owned: tuple[str, ...]) -> None:
    status = reporting.new_status({}, decision, owned, generation=3, now=NOW)
    same = reporting.new_status(status, decision, owned, generation=3, now=NOW + timedelta(minutes=29))
    assert merge_patches.between(status, same) == {}, "an unchanged pass must write nothing"
    late = reporting.new_status(status, decision, owned, generation=3, now=NOW + timedelta(hours=1))
    later = reporting.new_status(late, decision, owned, generation=3, now=NOW + timedelta(hours=2))
    assert merge_patches.between(late, later) == {}, "that a wait has become long is told once"


@given(datasets())
def test_datasets(seen: dataset_observed.Observed) -> None:
    decision = dataset.decide(seen)

    check(decision, dataset.decide(replace(seen)), dataset.CONDITIONS)
    check_status(decision, dataset.CONDITIONS)


@given(training_runs())
def test_training_runs(seen: training_run_observed.Observed) -> None:
    decision = training_run.decide(seen)

    check(decision, training_run.decide(replace(seen)), training_run.CONDITIONS)
    check_status(decision, training_run.CONDITIONS)


@given(model_services())
def test_model_services(seen: model_service_observed.Observed) -> None:
    decision = model_service.decide(seen)

    check(decision, model_service.decide(replace(seen)), model_service.CONDITIONS)
    check_status(decision, model_service.CONDITIONS)
