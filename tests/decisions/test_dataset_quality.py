"""spec.quality of a version is judged by its preparation's figures, and decides whether trainings may start."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from builders import OTHER_VERSION, VERSION, make_dataset_observed, make_run, preparation_result
from pelagos.api.dataset import DatasetVersion
from pelagos.decisions import dataset
from pelagos.decisions.dataset import identity, observed
from pelagos.decisions.reports import Report
from pelagos.decisions.verdicts import ConditionState, Decision, Verdict, summary
from pelagos.ports.pipelines import RunState

CLASSES = [
    {"name": "copepod", "images": 90, "annotations": 200},
    {"name": "salp", "images": 3, "annotations": 4},
    {"name": "jelly", "images": 2, "annotations": 2},
]


def seen(gates: builders.Yaml | None, *, classes: list[Any] = CLASSES, **changes: Any) -> observed.Observed:
    spec = builders.dataset_spec() if gates is None else builders.dataset_spec(quality=gates)
    report = Report(result=preparation_result(classes=classes))
    return make_dataset_observed(spec=spec, run=make_run(RunState.SUCCEEDED), report=report, **changes)


def verdict(decision: Decision) -> Verdict:
    return next(each for each in decision.verdicts if each.type == "QualityPassed")


@pytest.mark.parametrize("gates", [None, {}, {"onFail": "Block"}], ids=["no-field", "nothing-in-it", "no-bound"])
def test_without_a_bound_the_condition_says_that_nothing_was_judged(gates: builders.Yaml | None) -> None:
    decision = dataset.decide(seen(gates))

    assert builders.conditions(decision)["QualityPassed"] == ("Done", "NoQualityGates")
    assert summary(decision).state is ConditionState.DONE


def test_bounds_that_are_kept_pass_at_the_very_bound() -> None:
    decision = dataset.decide(seen({"minImagesPerClass": 2, "maxImbalance": "45", "maxDuplicates": "0.02"}))

    assert builders.conditions(decision)["QualityPassed"] == ("Done", "QualityPassed")
    assert verdict(decision).message == "3 of 3 gates of spec.quality passed"


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        (
            {"minImagesPerClass": 4},
            "spec.quality.minImagesPerClass: 2 of 3 classes have fewer than 4 images: jelly (2), salp (3); add images",
        ),
        (
            {"maxImbalance": "44.9"},
            "spec.quality.maxImbalance: copepod (90) has 45 times the images of jelly (2); at most 44.9 times as many are",
        ),
        (
            {"maxDuplicates": "0.01"},
            "spec.quality.maxDuplicates: 2 of 103 images repeat an earlier one and 0 look like one: a share of 0.0194, ",
        ),
    ],
    ids=["images", "imbalance", "duplicates"],
)
def test_what_is_not_kept_is_told_with_field_value_and_bound(gates: builders.Yaml, told: str) -> None:
    decision = dataset.decide(seen(gates))

    assert builders.conditions(decision)["QualityPassed"] == ("Refused", "QualityFailed")
    assert verdict(decision).message.startswith(told)
    assert verdict(decision).message.endswith("(no TrainingRun starts on the version)")


def test_a_class_without_any_image_is_infinitely_rare() -> None:
    classes = [*CLASSES, {"name": "ghost", "images": 0, "annotations": 0}]

    message = verdict(dataset.decide(seen({"maxImbalance": "1000000"}, classes=classes))).message

    assert "copepod (90) has infinitely many times the images of ghost (0)" in message


def test_what_blocks_keeps_the_dataset_from_ready_and_its_version_is_there_all_the_same() -> None:
    decision = dataset.decide(seen({"minImagesPerClass": 4}))

    assert builders.conditions(decision)["Prepared"] == ("Done", "VersionReady")
    assert (summary(decision).state, summary(decision).reason) == (ConditionState.REFUSED, "QualityFailed")
    assert decision.status["version"] == VERSION
    assert decision.status["versions"][0]["blocked"] == verdict(decision).message
    assert decision.recheck_after == 600


def test_what_only_warns_leaves_the_dataset_ready_and_the_condition_false() -> None:
    decision = dataset.decide(seen({"minImagesPerClass": 4, "onFail": "Warn"}))

    assert builders.conditions(decision)["QualityPassed"] == ("Noted", "QualityFailed")
    assert summary(decision).state is ConditionState.DONE
    assert "blocked" not in decision.status["versions"][0]


def earlier(**changes: Any) -> DatasetVersion:
    told = {
        "version": OTHER_VERSION,
        "images": 1,
        "uri": "/objects/old",
        "task": "Detection",
        "reason": "first version",
    }
    return DatasetVersion.model_validate(told | {"createdAt": "2026-02-01T00:00:00Z"} | changes)


def test_an_earlier_version_stays_blocked_until_nothing_blocks_any_more() -> None:
    history = (earlier(blocked="too few"),)

    blocking = dataset.decide(seen({"minImagesPerClass": 1}, history=history)).status["versions"]
    warning = dataset.decide(seen({"minImagesPerClass": 1, "onFail": "Warn"}, history=history)).status["versions"]
    none = dataset.decide(seen(None, history=history)).status["versions"]

    assert [entry.get("blocked") for entry in blocking] == [None, "too few"]
    assert [entry.get("blocked") for entry in warning] == [None, None]
    assert [entry.get("blocked") for entry in none] == [None, None]


def test_a_gate_is_no_part_of_what_a_version_is_made_from() -> None:
    assert identity.recipe(builders.dataset_spec(quality={"minImagesPerClass": 4})) == identity.recipe(
        builders.dataset_spec()
    )
    assert "quality" not in identity.request(builders.dataset_spec(quality={"minImagesPerClass": 4}))


def test_names_of_classes_are_shown_harmless_and_cut() -> None:
    classes = [{"name": "\x1b[31m" + "x" * 5000, "images": 1, "annotations": 1}]

    message = verdict(dataset.decide(seen({"minImagesPerClass": 2}, classes=classes))).message

    assert "\x1b" not in message
    assert len(message) < 400


LEAKAGE = {
    "evaluated": 40,
    "leaked": 3,
    "sharedGroups": 2,
    "found": [
        {"kind": "SharedGroup", "split": "test", "other": "train", "images": 2, "groups": 2},
        {"kind": "NearDuplicate", "split": "validation", "other": "train", "images": 1},
        {"kind": "AdjacentName", "split": "test", "other": "train", "images": 19},
    ],
}


def leaking(
    gates: builders.Yaml | None, policy: str = "Random", leakage: builders.Yaml | None = LEAKAGE, **changes: Any
) -> observed.Observed:
    given = {"split": {"policy": policy}} | ({} if gates is None else {"quality": gates})
    result = preparation_result() | ({} if leakage is None else {"leakage": leakage})
    report = Report(result=result)
    spec = builders.dataset_spec(**given)
    return make_dataset_observed(spec=spec, run=make_run(RunState.SUCCEEDED), report=report, **changes)


def test_what_leaks_is_published_whole() -> None:
    assert dataset.decide(leaking(None)).status["leakage"] == LEAKAGE
    assert dataset.decide(leaking(None, leakage=None)).status["leakage"] is None


@pytest.mark.parametrize(("most", "passes"), [("0.075", True), ("0.07", False), ("0", False), ("1", True)])
def test_a_share_of_leaking_images_is_allowed_up_to_its_bound(most: str, passes: bool) -> None:
    found = verdict(dataset.decide(leaking({"maxLeakage": most})))

    assert (found.reason == "QualityPassed") is passes
    if not passes:
        assert found.state is ConditionState.REFUSED
        assert found.message.startswith(
            "spec.quality.maxLeakage: 3 of 40 images of validation and test belong together with images of an earlier "
            "split (2 of test by SharedGroup with train, 1 of validation by NearDuplicate with train): a share of"
            f" 0.075, and at most {most} is allowed; use split.policy Grouped"
        )


def test_groups_that_the_splits_of_the_source_tear_block_unasked() -> None:
    found = verdict(dataset.decide(leaking(None, "Provided")))

    assert found.state is ConditionState.REFUSED
    assert found.message.startswith(
        "spec.quality.maxLeakage: 2 groups of the source are in more than one of its splits (2 of test by"
    )


@pytest.mark.parametrize(
    ("gates", "policy", "leakage", "state"),
    [
        (None, "Random", LEAKAGE, ConditionState.DONE),
        (None, "Provided", {**LEAKAGE, "sharedGroups": 0}, ConditionState.DONE),
        (None, "Provided", None, ConditionState.DONE),
        ({"maxLeakage": "0.5"}, "Provided", LEAKAGE, ConditionState.DONE),
        ({"onFail": "Warn"}, "Provided", LEAKAGE, ConditionState.NOTED),
        ({"minImagesPerClass": 1}, "Provided", LEAKAGE, ConditionState.REFUSED),
    ],
    ids=["divided-as-asked", "whole-groups", "of-an-earlier-release", "allowed", "only-warned", "beside-another-gate"],
)
def test_torn_groups_block_where_nobody_chose_or_allowed_it(
    gates: builders.Yaml | None, policy: str, leakage: builders.Yaml | None, state: ConditionState
) -> None:
    assert verdict(dataset.decide(leaking(gates, policy, leakage))).state is state


def test_a_bound_on_what_was_never_measured_says_how_to_have_it_measured() -> None:
    found = verdict(dataset.decide(leaking({"maxLeakage": "0"}, leakage=None)))

    assert found.state is ConditionState.REFUSED
    assert "because an earlier release prepared this version" in found.message
    assert "pelagos.dev/retry" in found.message


def test_a_version_without_images_to_evaluate_on_leaks_nothing() -> None:
    nothing = {"evaluated": 0, "leaked": 0, "sharedGroups": 0, "found": []}

    assert verdict(dataset.decide(leaking({"maxLeakage": "0"}, leakage=nothing))).reason == "QualityPassed"


def test_a_version_whose_groups_were_torn_stays_blocked_without_any_gate() -> None:
    torn = verdict(dataset.decide(leaking(None, "Provided"))).message
    history = (earlier(blocked=torn),)
    whole = {**LEAKAGE, "sharedGroups": 0}

    none = dataset.decide(leaking(None, "Provided", whole, history=history)).status["versions"]
    warning = dataset.decide(leaking({"onFail": "Warn"}, "Provided", whole, history=history)).status["versions"]

    assert [entry.get("blocked") for entry in none] == [None, torn]
    assert [entry.get("blocked") for entry in warning] == [None, None]


def test_a_result_with_more_links_than_there_are_fills_no_status() -> None:
    many = {**LEAKAGE, "found": [{**LEAKAGE["found"][0], "kind": "x" * 5000}] * 5000}  # type: ignore[index]

    decision = dataset.decide(leaking({"maxLeakage": "0"}, leakage=many))

    assert len(decision.status["leakage"]["found"]) == 20
    assert len(verdict(decision).message) < 1500
