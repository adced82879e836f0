"""An upgrade with other defaults or algorithms keeps what exists, and says so if something is made again because of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import builders
import later_specs
from builders import OTHER_VERSION, make_dataset_observed, make_run, make_training_observed
from pelagos.api.dataset import DatasetSpec, DatasetVersion, MadeFrom
from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions import dataset, training_run
from pelagos.decisions.dataset import identity as dataset_identity
from pelagos.decisions.dataset import observed as dataset_observed
from pelagos.decisions.reports import Report
from pelagos.decisions.training_run import identity
from pelagos.ports.pipelines import RunState
from pelagos.ports.volumes import Fingerprint
from pelagos_contract import algorithms
from pelagos_contract.formats import FORMATS
from pelagos_contract.tasks import Task

LATER_DATASET = later_specs.changed(DatasetSpec, defaults={"cleaning.minSide": 32})
LATER_TRAINING_RUN = later_specs.changed(TrainingRunSpec, defaults={"hyperparameters.epochs": 100})
SHORT = {"datasetRef": {"name": "frames"}, "model": {"architecture": "yolov8n"}}


def prepared(**changes: Any) -> dataset_observed.Observed:
    """A Dataset with the version that its run made, and what the previous pass recorded."""
    history = (DatasetVersion.model_validate(VERSION_ENTRY),)
    done: dict[str, Any] = {"run": make_run(RunState.SUCCEEDED), "report": Report(result=builders.preparation_result())}
    return later(make_dataset_observed(history=history, **done), **changes)


VERSION_ENTRY = {
    "version": OTHER_VERSION,
    "createdAt": "2026-03-01T11:00:00Z",
    "images": 100,
    "uri": "/objects/v0",
    "task": "Detection",
    "reason": "first version",
}


def later(before: dataset_observed.Observed, **changes: Any) -> dataset_observed.Observed:
    """The next pass, with the status that ``before`` left."""
    return replace(before, earlier=dataset_identity.earlier(dataset.decide(before).status), **changes)


def in_a_later_release(seen: dataset_observed.Observed, **changes: Any) -> dataset_observed.Observed:
    spec = LATER_DATASET.model_validate(builders.DATASET)
    return replace(seen, spec=spec, **changes)


def test_a_version_stays_when_a_default_is_another_one() -> None:
    seen = prepared()
    upgraded = in_a_later_release(seen)

    assert upgraded.inputs.digest == seen.inputs.digest
    assert upgraded.now_inputs.digest != seen.inputs.digest
    assert builders.conditions(dataset.decide(upgraded))["Prepared"] == ("Done", "VersionReady")
    assert dataset.decide(upgraded).effects == ()


def test_a_version_stays_when_an_algorithm_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = prepared()
    monkeypatch.setattr(algorithms, "SPLITTING", 2)

    upgraded = replace(seen)

    assert upgraded.inputs.digest == seen.inputs.digest
    assert dataset.decide(upgraded).effects == ()
    assert dataset.decide(upgraded).status["madeFrom"]["algorithms"]["splitting"] == 1


def test_the_status_of_the_first_releases_counts_for_the_first_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = prepared()
    monkeypatch.setattr(algorithms, "PREPARATION", 2)

    upgraded = replace(seen, earlier=dataset_identity.Earlier(seen.inputs.digest))

    assert builders.conditions(dataset.decide(upgraded))["Prepared"] == ("Done", "VersionReady")
    readers = [known.name for known in FORMATS if Task.DETECTION in known.tasks]
    assert dataset.decide(upgraded).status["madeFrom"]["algorithms"] == dict.fromkeys(
        ["preparation", "splitting", *readers], 1
    )


def test_what_is_prepared_anew_is_made_by_the_values_of_now_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    upgraded = in_a_later_release(prepared(), retry="again")
    monkeypatch.setattr(algorithms, "SPLITTING", 2)

    noting = dataset.decide(upgraded)

    why = "made again because splitting has version 2 (it had 1), spec.cleaning.minSide is 32 (it was 16)"
    (verdict,) = (each for each in noting.verdicts if each.type == "Prepared")
    assert (verdict.reason, verdict.message) == ("MadeAgain", why)
    assert noting.effects == ()
    assert noting.recheck_after == 0
    assert noting.status["inputsDigest"] == upgraded.now_inputs.digest

    submitting = later(upgraded, run=None, report=Report())
    (submit,) = dataset.decide(submitting).effects
    request = json.loads(submit.request.parameters["request"])  # type: ignore[union-attr]
    assert submit.request.name.endswith(upgraded.now_inputs.digest[7:19])  # type: ignore[union-attr]
    assert request["cleaning"]["minSide"] == 32

    made = later(submitting, run=make_run(RunState.SUCCEEDED, retry_key="again"), report=upgraded.report)
    assert dataset.decide(made).status["versions"][0]["reason"] == why


def test_new_content_is_prepared_by_the_algorithms_of_now_and_history_says_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = prepared()
    monkeypatch.setattr(algorithms, "SPLITTING", 2)
    changed = replace(seen, fingerprint=Fingerprint("sha256:other", 13), run=None, report=Report())

    made = later(changed, run=make_run(RunState.SUCCEEDED), report=Report(result=builders.preparation_result()))

    assert dataset.decide(made).status["versions"][0]["reason"] == (
        "the source or the recipe changed, and splitting has version 2 (it had 1)"
    )


def test_a_value_that_a_person_sets_is_followed_though_it_is_the_new_default() -> None:
    edited = in_a_later_release(prepared(), generation=2, run=None, report=Report())

    assert edited.inputs.digest == edited.now_inputs.digest
    assert [type(effect).__name__ for effect in dataset.decide(edited).effects] == ["SubmitRun"]


def test_what_status_notes_is_never_prepared_only_compared() -> None:
    seen = prepared()
    forged = MadeFrom(generation=1, recipe={"source": {"volume": {"path": "/etc"}}}, algorithms={})

    told = replace(seen, earlier=dataset_identity.Earlier(seen.inputs.digest, forged))

    assert told.inputs.digest == told.now_inputs.digest


# --- trainings


def test_a_training_keeps_the_defaults_that_it_was_keyed_with(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = identity.freeze(TrainingRunSpec.model_validate(SHORT), builders.dataset_version())
    monkeypatch.setattr(identity, "TrainingRunSpec", LATER_TRAINING_RUN)

    seen = make_training_observed(
        spec=LATER_TRAINING_RUN.model_validate(SHORT), frozen=frozen, tracked=builders.make_tracked()
    )

    decision = training_run.decide(seen)
    (submit,) = decision.effects
    assert builders.conditions(decision)["DatasetReady"] == ("Done", "VersionFrozen")
    assert json.loads(submit.request.parameters["request"])["hyperparameters"]["epochs"] == 50  # type: ignore[union-attr]
    assert decision.status["inputsDigest"] == frozen.digest


def test_a_training_keeps_the_default_of_a_field_that_came_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of the release that added the field, even if it has another one since."""
    history = replace(identity.HISTORY, defaults={**identity.HISTORY.defaults, "hyperparameters.later": (7,)})
    grown = later_specs.changed(TrainingRunSpec, grown=True)
    another = later_specs.changed(grown, defaults={"hyperparameters.later": 9})
    frozen = identity.freeze(TrainingRunSpec.model_validate(SHORT), builders.dataset_version())
    monkeypatch.setattr(identity, "HISTORY", history)
    monkeypatch.setattr(identity, "TrainingRunSpec", another)

    new = identity.freeze(another.model_validate(SHORT), builders.dataset_version())

    assert frozen.spec.hyperparameters.later == 7  # type: ignore[attr-defined]
    assert new.spec.hyperparameters.later == 9  # type: ignore[attr-defined]
    assert new.digest != frozen.digest
    assert identity.changed(frozen, another.model_validate(SHORT)) is None


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.RUNNING])
def test_a_training_that_is_made_stays_when_an_algorithm_is_another_one(
    monkeypatch: pytest.MonkeyPatch, state: RunState
) -> None:
    seen = builders.trained(made_by={"YOLOv8": 1}) if state is RunState.SUCCEEDED else running()
    before = training_run.decide(seen)
    monkeypatch.setattr(algorithms, "EXPORT", 2)

    assert training_run.decide(replace(seen)) == before


def running() -> Any:
    return make_training_observed(
        frozen=builders.frozen_inputs(), tracked=builders.make_tracked(), run=make_run(RunState.RUNNING)
    )


def test_an_attempt_by_another_algorithm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = running()
    canceled = make_run(RunState.CANCELED, name=seen.run.name)
    monkeypatch.setattr(algorithms, "EXPORT", 2)

    decision = training_run.decide(replace(seen, run=canceled))

    (verdict,) = (each for each in decision.verdicts if each.type == "Evaluated")
    assert (verdict.reason, verdict.message) == ("MadeAgain", "made again because export has version 2 (it had 1)")
    assert decision.status["algorithms"]["export"] == 2
    assert decision.status["inputsDigest"] == seen.frozen.digest


def test_a_new_training_is_keyed_by_the_algorithm_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrainingRunSpec.model_validate(SHORT)
    before = identity.freeze(spec, builders.dataset_version())
    monkeypatch.setattr(algorithms, "EXPORT", 2)

    now = identity.freeze(spec, builders.dataset_version())

    assert now.inputs["algorithms"] == {"export": 2}
    assert now.digest != before.digest
    assert identity.record_key(now) == identity.record_key(before), "a rebuilt cluster finds what is made already"
    assert identity.changed(now, spec) is None
