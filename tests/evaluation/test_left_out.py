"""Leave-one-group-out: which images each model is trained, validated and measured on, and how their metrics are combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.progress import LONGEST_VALUE, LeftOutState, SeedState
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.evaluation import left_out
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample


def truth(sites: Mapping[Split, str]) -> GroundTruth:
    """For each split a string of sites, one letter per image, with a space for none. Classes alternate with the position."""
    by_split = {
        split: tuple(
            Sample(
                f"{split}-{place}.png",
                Path("x"),
                np.array([place % 2]),
                np.zeros((0, 4)),
                capture=Capture(site=site.strip() or None),
            )
            for place, site in enumerate(sites.get(split, ""))
        )
        for split in SPLITS
    }
    return GroundTruth(("cod", "eel"), by_split)


def names(known: GroundTruth, split: Split) -> list[str]:
    return [sample.name for sample in known.samples(split)]


@pytest.mark.parametrize("length", [LONGEST_VALUE, LONGEST_VALUE + 1])
def test_a_group_with_a_longer_name_than_progress_may_have_is_refused_before_anything_is_trained(length: int) -> None:
    known = truth({"train": "aab", "validation": "ab", "test": "ba"})
    groups = {"a": "g" * length, "b": "h"}
    by_split = {
        split: tuple(replace(one, group=groups[str(one.capture and one.capture.site)]) for one in samples)
        for split, samples in known.by_split.items()
    }

    if length > LONGEST_VALUE:
        with pytest.raises(RefusedError, match=r"group, which has a value of 301 characters, g{200}…; at most 300 are"):
            left_out.of(replace(known, by_split=by_split), "group")
        return
    for value in left_out.of(replace(known, by_split=by_split), "group").images:
        LeftOutState(value=value, state=SeedState.WAITING)


def test_a_group_is_measured_on_from_all_splits_and_the_rest_is_trained_on() -> None:
    known = truth({"train": "aab ", "validation": "ab", "test": "ba"})
    found = left_out.without(known, groups := left_out.of(known, "site"), "a")

    assert names(found, "test") == ["test-1.png", "train-0.png", "train-1.png", "validation-0.png"]
    assert names(found, "train") == ["test-0.png", "train-2.png"]
    assert names(found, "validation") == ["validation-1.png"]
    assert [sample.name for sample in groups.unknown] == ["train-3.png"]


@settings(max_examples=100, deadline=None)
@given(*[st.text(" abc", max_size=12) for _ in SPLITS])
def test_no_image_of_a_group_is_trained_or_validated_on_and_none_is_lost(one: str, two: str, three: str) -> None:
    known = truth(dict(zip(SPLITS, (one, two, three), strict=True)))
    try:
        groups = left_out.of(known, "site")
        found = {value: left_out.without(known, groups, value) for value in groups.images}
    except RefusedError:  # too little of it, or of everything else
        return
    with_site = {sample.name for samples in groups.images.values() for sample in samples}
    for value, each in found.items():
        listed = [name for split in SPLITS for name in names(each, split)]
        assert len(listed) == len({*listed})
        assert {*listed} == with_site
        assert {*names(each, "test")} == {sample.name for sample in groups.images[value]}
        assert each.samples("train")
        assert each.samples("validation")


def test_without_others_to_validate_on_a_tenth_is_and_groups_of_frames_stay_whole() -> None:
    known = truth({"train": "a" * 40 + "b" * 5, "validation": "bb", "test": "b"})
    frames = tuple(
        Sample(one.name, one.file, one.class_ids, one.boxes, group=f"dive-{place // 8}", capture=one.capture)
        for place, one in enumerate(known.samples("train"))
    )
    known.by_split["train"] = frames
    found = left_out.without(known, left_out.of(known, "site"), "b")

    assert {sample.group for sample in found.samples("train")}.isdisjoint(
        sample.group for sample in found.samples("validation")
    )
    assert (len(found.samples("train")), len(found.samples("validation"))) == (32, 8)


@pytest.mark.parametrize(
    ("sites", "field", "words"),
    [
        ("ab", "platform", "names platform, which no image has; fields that images have: site"),
        ("  ", "site", "names site, which no image has; fields that images have: none"),
        ("aa ", "site", "names site, which is a of all images that have it"),
        ("".join(map(chr, range(200, 251))), "site", "names site, which has 51 values"),
        ("ab", "site", "leaves 1 images without a, which cannot be divided"),
    ],
)
def test_what_cannot_be_left_out_is_refused_with_what_to_do(sites: str, field: str, words: str) -> None:
    known = truth({"train": sites})
    with pytest.raises(RefusedError, match=words) as refused:
        left_out.without(known, left_out.of(known, field), "a")
    failure = refused.value.failure
    assert (failure.reason, failure.field) == (Reason.LEAVE_ONE_OUT_IMPOSSIBLE, "spec.evaluation.leaveOneOut")


def test_classes_that_a_group_alone_shows_are_named() -> None:
    known = truth({"train": "abab", "validation": "a", "test": "a"})
    found = left_out.without(known, left_out.of(known, "site"), "a")
    assert left_out.untaught(found) == ["cod"]


def test_a_mean_counts_groups_alike_and_is_of_those_that_have_the_metric() -> None:
    each: dict[str, dict[str, float | None]] = {
        "a": {"test/mAP50": 0.5, "test/recall": None, "test/recall/cod": 0.1, "test/confidence": 0.3},
        "b/c": {"test/mAP50": 1.0, "test/recall": 0.25, "slice/x/y/mAP50": 0.0},
        "d": {"test/mAP50": 0.0, "test/recall": None, "validation/loss": 1.0},
    }
    metrics, deviations = left_out.together("site", each)

    assert metrics == {
        "leave-one-out/site/a/mAP50": 0.5,
        "leave-one-out/site/b:2Fc/mAP50": 1.0,
        "leave-one-out/site/d/mAP50": 0.0,
        "leave-one-out/site/a/recall": None,
        "leave-one-out/site/b:2Fc/recall": 0.25,
        "leave-one-out/site/d/recall": None,
        "leave-one-out/site/a/confidence": 0.3,
        "leave-one-out/site/mAP50": 0.5,
        "leave-one-out/site/recall": 0.25,
    }
    assert deviations == {"leave-one-out/site/mAP50": pytest.approx(0.5)}


def test_a_metric_that_no_group_has_has_no_mean() -> None:
    assert left_out.together("site", {"a": {"test/mAP50": None}})[0]["leave-one-out/site/mAP50"] is None


def test_images_without_the_field_are_named() -> None:
    assert left_out.excluded("site", [], 0) == []
    assert left_out.excluded("site", ["a.png", "b.png"], 2) == [
        "2 images have no site, and are in no model and no figure of leaveOneOut: a.png, b.png"
    ]
