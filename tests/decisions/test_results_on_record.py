"""A result is recorded once, with what a later life needs; a run that the engine has forgotten is recalled."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import NOW, RECORDING, make_dataset_observed, make_run, preparation_result, trained
from pelagos.decisions import attempts, dataset, moments, training_run
from pelagos.decisions.dataset import observed
from pelagos.decisions.effects import KeepRecord
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity
from pelagos.decisions.verdicts import Decision
from pelagos.ports.pipelines import FINISHED, RunName, RunState

NEW = replace(RECORDING, is_kept=False)


def kept(decision: Decision) -> list[KeepRecord]:
    return [effect for effect in decision.effects if isinstance(effect, KeepRecord)]


def prepared(**changes: Any) -> observed.Observed:
    result = {"run": make_run(RunState.SUCCEEDED), "report": Report(result=preparation_result())}
    return make_dataset_observed(**result | changes)


def test_a_version_is_put_on_record_with_the_history_that_it_ends_and_as_the_newest() -> None:
    decision = dataset.decide(prepared(record=NEW))

    effect, newest = kept(decision)
    assert (effect.path, newest.path) == (RECORDING.path, RECORDING.newest)
    assert effect.record == newest.record
    assert effect.record["result"] == preparation_result()
    assert effect.record["versions"] == decision.status["versions"]
    assert (effect.record["key"], effect.record["store"]) == ("sha256:one", "/objects/datasets/default/uid-1")
    assert decision.status["record"] == RECORDING.uri


def test_a_trained_model_is_put_on_record_with_its_tracked_run() -> None:
    decision = training_run.decide(trained(record=NEW))

    (effect,) = kept(decision)
    assert effect.record["trackedRun"] == "t1"
    assert effect.record["result"]["model"]["onnxSha256"] == builders.ONNX
    assert decision.status["record"] == RECORDING.uri


def test_what_is_on_record_is_not_written_again() -> None:
    assert kept(dataset.decide(prepared())) == []
    assert kept(training_run.decide(trained())) == []


def test_metadata_goes_on_record_with_the_version_and_again_when_somebody_changes_it() -> None:
    described = builders.dataset_spec(metadata={"title": "Fish of the bay", "license": "CC-BY-4.0"})

    decision = dataset.decide(prepared(spec=described))

    effect, newest = kept(decision)
    assert effect.record == newest.record
    assert effect.record["metadata"] == {"title": "Fish of the bay", "license": "CC-BY-4.0"}
    digest = decision.status["metadataDigest"]
    assert kept(dataset.decide(prepared(spec=described, metadata_digest=digest))) == []
    emptied = dataset.decide(prepared(metadata_digest=digest))
    assert [("metadata" in each.record) for each in kept(emptied)] == [False, False]
    assert emptied.status["metadataDigest"] is None


def test_no_record_is_made_while_its_tracked_run_is_unknown() -> None:
    decision = training_run.decide(trained(record=NEW, tracked=None, tracking_outage="no route"))

    assert kept(decision) == []
    assert "record" not in decision.status


@pytest.mark.parametrize("state", list(RunState), ids=lambda state: state.value)
def test_a_run_that_had_ended_is_recalled_from_status_as_it_was(state: RunState) -> None:
    run = replace(make_run(state), message="a step ended with an error", attempt=3, attempts_with_key=2)
    status = {"pipelineRun": attempts.status_of(run).written()}

    recalled = attempts.recalled(status, run.name)

    assert recalled == (replace(run, started_at=None, finished_at=None) if state in FINISHED else None)


def test_a_run_for_other_inputs_is_not_recalled() -> None:
    run = make_run(RunState.SUCCEEDED)

    assert attempts.recalled({"pipelineRun": attempts.status_of(run).written()}, RunName("dataset-uid-1-other")) is None
    assert attempts.recalled({}, run.name) is None


def test_a_version_on_record_that_answers_an_earlier_retry_is_made_again() -> None:
    report = Report(result=preparation_result(), retry_key="yesterday")

    again = dataset.decide(make_dataset_observed(report=report, retry="today"))
    same = dataset.decide(make_dataset_observed(report=report, retry="yesterday"))

    assert builders.conditions(again)["Prepared"] == ("Progressing", "Submitting")
    assert builders.conditions(same)["Prepared"] == ("Done", "VersionReady")


def test_a_record_is_found_by_releases_that_know_more_fields() -> None:
    """Inputs frozen by an older release lack fields that have defaults now."""
    version = identity.DatasetVersion("frames", builders.VERSION, "/objects/v1", "Detection")
    now = identity.freeze(builders.training_run_spec(), version)
    fewer = {**now.inputs, "hyperparameters": {"epochs": 10}}
    del fewer["tracking"]
    other = {**fewer, "hyperparameters": {"epochs": 10, "batchSize": 8}}

    key = identity.record_key(now)
    assert identity.record_key(replace(now, inputs=fewer)) == key
    assert identity.record_key(replace(now, inputs=other)) != key


@pytest.mark.parametrize("state", ["Sleeping", "", "RUNNING", RunState.RUNNING.value])
def test_a_state_in_which_no_run_ends_is_not_recalled(state: str) -> None:
    run = make_run(RunState.SUCCEEDED)

    assert attempts.recalled({"pipelineRun": attempts.status_of(run).written() | {"state": state}}, run.name) is None


def test_why_a_run_failed_stays_known_when_the_pods_that_told_it_are_gone() -> None:
    told = make_run(RunState.INTERRUPTED, message="the pod of step train ended without an outcome: Evicted")
    status = {"pipelineRun": attempts.status_of(told).written()}
    later = replace(make_run(RunState.FAILED, message="the server does not say why"), is_explained=False)

    found = attempts.as_it_ended(later, status)

    assert (found.state, found.message) == (told.state, told.message)
    assert attempts.as_it_ended(replace(later, attempt=later.attempt + 1), status).message == later.message
    assert attempts.as_it_ended(replace(later, is_explained=True), status).message == later.message
    assert attempts.as_it_ended(later, {}) == later


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.INTERRUPTED])
def test_when_a_run_began_stays_when_the_pod_that_told_it_is_gone(state: RunState) -> None:
    began = NOW - timedelta(minutes=5)
    seen = make_run(state, started_at=began)
    status = {"pipelineRun": attempts.status_of(seen).written(), "startedAt": moments.timestamp(began)}
    # As its server reports it: including its time in the queue.
    later = replace(seen, started_at=began - timedelta(minutes=3))

    assert attempts.as_it_ended(later, status).started_at == began
    assert attempts.as_it_ended(replace(later, attempt=later.attempt + 1), status).started_at == later.started_at
    assert attempts.as_it_ended(replace(later, state=RunState.RUNNING), status).started_at == later.started_at
