"""One pipeline run for every pair of recipe and source content; its result becomes the newest version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import builders
from builders import NOW, OTHER_VERSION, VERSION, make_dataset_observed, make_run, preparation_result
from pelagos.api.dataset import DatasetVersion
from pelagos.api.versions import KEPT
from pelagos.decisions import dataset
from pelagos.decisions.dataset import identity, observed, source
from pelagos.decisions.effects import SubmitRun
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, summary
from pelagos.ports.pipelines import RunRequest, RunState
from pelagos.ports.volumes import Fingerprint
from pelagos_contract.dataset import Excluded, PreparationRequest, PreparationResult
from pelagos_contract.exclusions import ExclusionReason


def prepared(**changes: Any) -> observed.Observed:
    usual: dict[str, Any] = {"run": make_run(RunState.SUCCEEDED), "report": Report(result=preparation_result())}
    return make_dataset_observed(**usual | changes)


def submitted(seen: observed.Observed) -> RunRequest:
    (effect,) = dataset.decide(seen).effects
    assert isinstance(effect, SubmitRun)
    return effect.request


def entry(version: str, store: str = "/objects/datasets/default/uid-1") -> DatasetVersion:
    created = {"createdAt": "2026-02-01T00:00:00Z", "reason": "first version"}
    uri = f"{store}/versions/{version.removeprefix('sha256:')}"
    told = {"version": version, "images": 1, "uri": uri, "task": "Detection"}
    return DatasetVersion.model_validate(told | created)


def test_new_content_is_submitted_once_under_a_name_made_of_uid_and_digest() -> None:
    seen = make_dataset_observed()

    request = submitted(seen)

    digest = identity.inputs(seen.spec, Fingerprint("sha256:source", 12)).digest
    assert request.name == f"dataset-uid-1-{digest.removeprefix('sha256:')[:12]}"
    assert (request.flow, request.attempt, request.labels["pelagos.dev/uid"]) == ("dataset-preparation", 1, "uid-1")
    assert request.parameters.keys() == {"request", "data_root", "store", "report"}


def test_the_request_is_one_that_the_data_plane_understands() -> None:
    request = submitted(make_dataset_observed())

    parsed = PreparationRequest.model_validate_json(request.parameters["request"])

    assert parsed.source.volume.path == "samples/frames"
    assert parsed.split.ratios.train == 70


@pytest.mark.parametrize(
    "spec",
    [{"refresh": "1h"}, {"suspend": False}, {"deletionPolicy": "Delete"}],
    ids=["refresh", "suspend", "deletionPolicy"],
)
def test_what_does_not_decide_the_content_does_not_make_a_new_run(spec: builders.Yaml) -> None:
    usual = identity.recipe(builders.dataset_spec())

    assert identity.recipe(builders.dataset_spec(**spec)) == usual


@pytest.mark.parametrize(
    "spec",
    [
        {"format": "Coco"},
        {"task": "Classification"},
        {"cleaning": {"minSide": 8}},
        {"split": {"seed": 1}},
        {"classFolder": "Last"},
    ],
    ids=["format", "task", "cleaning", "split", "classFolder"],
)
def test_what_decides_the_content_makes_a_new_run(spec: builders.Yaml) -> None:
    fingerprint = Fingerprint("sha256:source", 12)
    usual = identity.inputs(builders.dataset_spec(), fingerprint).digest

    assert identity.inputs(builders.dataset_spec(**spec), fingerprint).digest != usual


def test_a_changed_source_makes_a_new_run() -> None:
    spec = builders.dataset_spec()

    digests = {identity.inputs(spec, Fingerprint(digest, 1)).digest for digest in ("sha256:a", "sha256:b")}

    assert len(digests) == 2


def test_the_same_parameters_are_sent_whenever_the_same_request_is_made() -> None:
    first, again = submitted(make_dataset_observed()), submitted(make_dataset_observed(now=NOW + timedelta(days=9)))

    assert first == again
    asked = PreparationRequest.model_validate_json(first.parameters["request"])
    assert asked == PreparationRequest.model_validate(identity.recipe(builders.dataset_spec()))


def test_the_retry_annotation_has_the_source_looked_at_again_and_keeps_the_version_meanwhile() -> None:
    decision = dataset.decide(prepared(retry="look again"))

    (effect,) = decision.effects
    assert isinstance(effect, SubmitRun)
    assert (effect.request.attempt, effect.request.retry_key) == (2, "look again")
    assert effect.request.name == identity.name_run(
        "uid-1", identity.inputs(builders.dataset_spec(), Fingerprint("sha256:source", 12)).digest
    )
    asked = PreparationRequest.model_validate_json(effect.request.parameters["request"])
    assert asked.retry == "look again"
    assert builders.conditions(decision)["Prepared"] == ("Progressing", "Retrying")
    assert "version" not in decision.status
    again = make_run(RunState.SUCCEEDED, attempt=2, retry_key="look again")
    assert dataset.decide(prepared(retry="look again", run=again)).effects == ()


def test_while_it_runs_the_last_version_stays_published() -> None:
    decision = dataset.decide(make_dataset_observed(run=make_run(RunState.RUNNING), history=(entry(OTHER_VERSION),)))

    assert builders.conditions(decision)["Prepared"] == ("Progressing", "Running")
    assert decision.status.keys() == {
        "store",
        "inputsDigest",
        "madeFrom",
        "pipelineRun",
        "queue",
        "progress",
        "storagePrefix",
        "storageSeal",
    }
    assert decision.recheck_after == pytest.approx(2)


def test_a_result_makes_it_ready_and_is_published() -> None:
    decision = dataset.decide(prepared())

    assert summary(decision).state is ConditionState.DONE
    assert summary(decision).message == "100 images in 1 classes (train 70, validation 15, test 15)"
    assert decision.status["version"] == VERSION
    assert decision.status["quality"]["duplicates"] == 2
    assert decision.effects == ()


def test_the_first_version_says_so() -> None:
    (first,) = dataset.decide(prepared()).status["versions"]

    assert first == {
        "version": VERSION,
        "createdAt": "2026-03-01T12:00:00Z",
        "images": 100,
        "uri": "/objects/v1",
        "task": "Detection",
        "reason": "first version",
    }


def test_versions_are_newest_first_and_bounded() -> None:
    history = tuple(entry(f"sha256:{number:064x}") for number in range(KEPT))

    told = dataset.decide(prepared(history=history)).status["versions"]

    assert len(told) == KEPT
    assert told[0]["version"] == VERSION
    assert told[0]["reason"] == "the source or the recipe changed"
    assert told[1:] == [old.written() for old in history[:-1]]


def test_a_version_that_is_the_newest_already_is_not_written_anew() -> None:
    history = (entry(VERSION), entry(OTHER_VERSION))

    assert dataset.decide(prepared(history=history)).status["versions"] == [old.written() for old in history]


def test_content_that_comes_back_moves_to_the_front() -> None:
    told = dataset.decide(prepared(history=(entry(OTHER_VERSION), entry(VERSION)))).status["versions"]

    assert [version["version"] for version in told] == [VERSION, OTHER_VERSION]


@pytest.mark.parametrize(
    ("refresh", "want"),
    [("10m", 600.0), ("1h30m", 5400.0), ("0s", 1.0), ("5ms", 1.0)],
)
def test_the_source_is_looked_at_again_after_refresh_and_never_without_a_pause(refresh: str, want: float) -> None:
    decision = dataset.decide(prepared(spec=builders.dataset_spec(refresh=refresh)))

    assert decision.recheck_after == pytest.approx(want)


@pytest.mark.parametrize(("warnings", "want"), [([], None), (["one class has 2 images"], ["one class has 2 images"])])
def test_warnings_are_published_and_removed(warnings: list[str], want: list[str] | None) -> None:
    decision = dataset.decide(prepared(report=Report(result=preparation_result(warnings=warnings))))

    assert decision.status["warnings"] == want


def test_a_refusal_of_the_data_plane_is_published_with_its_field_and_the_source_is_watched() -> None:
    failure = {"reason": "FormatInvalid", "message": "row 3 of a.txt has 4 numbers", "field": "spec.format"}
    seen = make_dataset_observed(run=make_run(RunState.FAILED), report=Report(failure=failure))

    decision = dataset.decide(seen)

    assert builders.conditions(decision)["Prepared"] == ("Refused", "FormatInvalid")
    assert summary(decision).message == "spec.format: row 3 of a.txt has 4 numbers"
    assert decision.recheck_after == source.SOURCE_POLL


def test_the_retry_annotation_starts_a_refused_run_again() -> None:
    failure = {"reason": "DiskFull", "message": "no space is left"}
    seen = make_dataset_observed(retry="2", run=make_run(RunState.FAILED), report=Report(failure=failure))

    request = submitted(seen)

    assert (request.attempt, request.retry_key) == (2, "2")


def test_status_tells_what_became_of_every_file() -> None:
    status = dataset.decide(prepared()).status

    assert status["files"] == {"found": 106, "images": 100, "annotations": 2, "excluded": 4}
    assert [(one["reason"], one["files"]) for one in status["excluded"]] == [
        ("Corrupt", 1),
        ("Duplicate", 2),
        ("NotAnImage", 1),
    ]


def test_a_result_of_before_says_nothing_of_files() -> None:
    result = {key: value for key, value in preparation_result().items() if key not in {"files", "excluded"}}

    status = dataset.decide(prepared(report=Report(result=result))).status

    assert (status["files"], status["excluded"]) == (None, None)


def test_what_is_reported_has_the_fields_of_the_contract() -> None:
    PreparationResult.model_validate(preparation_result())


def test_every_reason_of_an_exclusion_is_in_the_description_of_status() -> None:
    described = Excluded.model_fields["reason"].description or ""

    assert all(reason.value in described for reason in ExclusionReason)


def test_images_that_were_cut_into_tiles_are_told_in_message_and_status() -> None:
    tiles = {"images": 2, "tiles": 90, "empty": 7, "repeated": 3, "lost": 1}
    files = {"found": 16, "images": 12, "annotations": 2, "excluded": 2, "tiles": tiles}
    decision = dataset.decide(prepared(report=Report(result=preparation_result() | {"files": files})))

    assert summary(decision).message.startswith("100 images, of which 90 are tiles of 2 large ones, in 1 classes")
    assert decision.status["files"]["tiles"] == tiles
