"""Splits by when and where images were taken: groups of sites and days, cuts in time with a gap, and hold-outs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelagos_contract.dataset import SplitPolicy
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Failure, Reason, RefusedError
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import ImageRecord, Part
from pelagos_pipelines.preparation import splitting
from pelagos_pipelines.preparation.splitting import Divided

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)


def image(number: int, label: str = "cod", **told: Any) -> ImageRecord:
    return ImageRecord(f"{number:04}.png", label=label, capture=Capture(**told) if told else None)


def at(hours: float, **told: Any) -> dict[str, Any]:
    return {"time": (BEGIN + timedelta(hours=hours)).isoformat().replace("+00:00", "Z"), **told}


def policy(name: str = "GroupedTemporal", **more: Any) -> SplitPolicy:
    return SplitPolicy.model_validate({"policy": name, **more})


def divide(
    images: list[ImageRecord],
    by: SplitPolicy,
    alike: dict[str, list[str]] | None = None,
    repeats: dict[str, str] | None = None,
) -> Divided:
    digests = {image.path: f"content of {image.path}" for image in images}
    return splitting.divide(images, digests, repeats or {}, by, alike=alike or {})


def refusal(images: list[ImageRecord], by: SplitPolicy) -> Failure:
    with pytest.raises(RefusedError) as caught:
        divide(images, by)
    return caught.value.failure


def moments_of(divided: Divided, split: Split) -> Iterator[datetime]:
    for one in divided.images:
        if one.split == split and one.capture is not None and one.capture.moments is not None:
            yield one.capture.moments[0]


def sizes(divided: Divided) -> dict[str, int]:
    return dict(Counter(str(image.split) for image in divided.images))


# --- groups


def test_groups_are_made_of_what_is_known_of_their_images() -> None:
    images = [image(n, site=f"site {n % 5}", **at(24 * (n % 3))) for n in range(60)]

    divided = divide(images, policy("Grouped", groupBy=["site", "day"]))

    assert len({image.group for image in divided.images}) == 15
    assert {image.group for image in divided.images} >= {"site 0 / 2024-05-01", "site 4 / 2024-05-03"}
    assert divided.leakage == 0


def test_no_two_groups_share_a_name() -> None:
    """A separator within a value is distinguished from one between two values."""
    values = [("a / b", "c"), ("a", "b / c"), ("a/b", "c"), ("a\\", "/ b"), ("a\\/", "b")]
    images = [image(n, site=site, deployment=dive) for n, (site, dive) in enumerate(values * 4)]

    divided = divide(images, policy("Grouped", groupBy=["site", "deployment"]))

    assert len({image.group for image in divided.images}) == len(values)


def test_a_day_is_that_of_the_clock_on_board() -> None:
    images = [image(n, time=f"2024-05-31T23:{n:02}:00-10:00") for n in range(10)] + [
        image(n, time=f"2024-06-01T0{n - 20}:00:00+12:00") for n in range(20, 29)
    ]

    divided = divide(images, policy("Grouped", groupBy=["day"], ratios={"train": 50, "validation": 50, "test": 0}))

    assert {image.group for image in divided.images} == {"2024-05-31", "2024-06-01"}


def test_an_image_of_unknown_site_is_not_guessed_into_a_group() -> None:
    images = [image(n, site="reef" if n % 2 else "pier") for n in range(10)] + [image(11), image(12, platform="ROV")]

    failure = refusal(images, policy("Grouped", groupBy=["site"]))

    assert (failure.reason, failure.field) == (Reason.SPLIT_IMPOSSIBLE, "split.groupBy")
    assert (
        "split.groupBy divides by site, but 2 of 12 images have no site by capture: 0011.png, 0012.png"
        in failure.message
    )


# --- time


def test_the_earliest_train_and_the_latest_test_with_a_gap_between_them() -> None:
    images = [image(n, "cod" if n % 2 else "eel", **at(n)) for n in range(200)]

    divided = divide(images, policy(gap="5h"))

    times = {split: list(moments_of(divided, split)) for split in SPLITS}
    for earlier, later in pairwise(SPLITS):
        assert min(times[later]) - max(times[earlier]) == timedelta(hours=5)
    assert {one.reason for one in divided.excluded} == {ExclusionReason.WITHIN_GAP}
    assert len(divided.images) + len(divided.excluded) == 200
    assert sizes(divided) == {"train": 136, "validation": 28, "test": 28}
    assert "8 of 200 images lie in time between two splits" in " ".join(divided.warnings)


def test_days_without_a_clock_are_whole_days() -> None:
    images = [image(n, time=f"2024-05-{n // 4 + 1:02}") for n in range(80)]

    divided = divide(images, policy(groupBy=["day"]))

    assert not divided.excluded
    assert max(moments_of(divided, "train")) < min(moments_of(divided, "validation"))
    assert len(divide(images, policy(groupBy=["day"], gap="1h")).excluded) == 8  # the day before each cut


def test_a_class_that_comes_late_moves_the_cut() -> None:
    images = [image(n, "eel" if n >= 160 and n % 4 == 0 else "cod", **at(n)) for n in range(200)]

    divided = divide(images, policy())

    assert "eel" in {one.label for one in divided.images if one.split == "train"}


def test_a_group_that_reaches_beyond_the_next_split_is_not_cut_in_two_splits() -> None:
    images = [image(n, site=f"s{n % 10}" if n < 150 else f"late {n % 5}", **at(n)) for n in range(200)]

    divided = divide(images, policy(groupBy=["site"], ratios={"train": 75, "validation": 0, "test": 25}))

    splits = {(one.group, one.split) for one in divided.images}
    assert len(splits) == len({group for group, _ in splits})
    assert divided.leakage == 0


def test_groups_that_all_last_to_the_end_leave_too_little_to_train_on_and_that_is_said() -> None:
    images = [image(n, f"class {n // 10}", site=f"s{n % 4}", **at(n)) for n in range(100)]

    failure = refusal(images, policy(groupBy=["site"]))

    assert failure.reason is Reason.CLASS_MISSING_FROM_TRAIN
    assert "lower split.gap or group by less (split.groupBy), as 7" in failure.message


@pytest.mark.parametrize(
    ("images", "by", "field", "words"),
    [
        (
            [image(n) for n in range(9)],
            policy(),
            "split.policy",
            "9 of 9 images have no time by capture",
        ),
        ([image(n, **at(0)) for n in range(9)], policy(), "split.policy", "too few begin at different times"),
        ([image(n, **at(n)) for n in range(9)], policy(gap="24h"), "split.gap", "with split.gap 24h between them"),
    ],
)
def test_a_cut_that_cannot_be_is_refused(images: list[ImageRecord], by: SplitPolicy, field: str, words: str) -> None:
    failure = refusal(images, by)

    assert (failure.reason, failure.field) == (Reason.SPLIT_IMPOSSIBLE, field)
    assert words in failure.message


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 6), st.sampled_from(["cod", "eel"])), min_size=3, max_size=60
    ),
    st.integers(0, 20),
    st.sampled_from([(70, 15, 15), (50, 50, 0), (80, 0, 20)]),
)
def test_whatever_the_times_no_split_overlaps_a_later_one_and_nothing_vanishes(
    found: list[tuple[int, int, str]], gap: int, ratios: tuple[int, int, int]
) -> None:
    images = [image(n, label, site=f"s{site}", **at(hour)) for n, (hour, site, label) in enumerate(found)]
    wanted = dict(zip(("train", "validation", "test"), ratios, strict=True))
    try:
        divided = divide(images, policy(groupBy=["site"], gap=f"{gap}h", ratios=wanted))
    except RefusedError:
        return
    hours = {one.path: hour for one, (hour, _, _) in zip(images, found, strict=True)}
    of = {split: [hours[one.path] for one in divided.images if one.split == split] for split in wanted}
    present = [of[split] for split in wanted if of[split]]
    assert all(max(before) + gap <= min(after) for before, after in pairwise(present))
    assert sorted([*(one.path for one in divided.images), *(one.path for one in divided.excluded)]) == [
        one.path for one in images
    ]
    assert divide(images[::-1], policy(groupBy=["site"], gap=f"{gap}h", ratios=wanted)).excluded == divided.excluded


# --- held out


def at_sites(*counts: tuple[str, int]) -> list[ImageRecord]:
    names = [site for site, count in counts for _ in range(count)]
    return [
        image(n, "cod" if n % 2 else "eel", site=site, deployment=f"{site} {n % 3}") for n, site in enumerate(names)
    ]


def test_what_is_held_out_is_all_of_test() -> None:
    images = at_sites(("azores", 20), ("madeira", 40), ("lisbon", 40))

    divided = divide(images, policy("Stratified", holdout={"site": ["azores"]}))

    assert {one.capture.site for one in divided.images if one.split == "test" and one.capture} == {"azores"}
    assert sizes(divided) == {"test": 20, "train": 66, "validation": 14}
    assert not any("far from split.ratios" in warning for warning in divided.warnings)


def test_what_looks_like_something_that_is_held_out_goes_with_it() -> None:
    images = at_sites(("azores", 10), ("madeira", 40))

    divided = divide(
        images,
        policy("Random", holdout={"site": ["azores"]}),
        alike={"0049.png": ["0003.png"], "0004.png": ["0048.png"]},
    )

    assert {"0048.png", "0049.png"} < {one.path for one in divided.images if one.split == "test"}
    assert divided.leakage == 0
    assert any(warning.startswith("2 images go to test with what split.holdout names") for warning in divided.warnings)


def test_a_group_of_which_a_part_is_held_out_goes_wholly() -> None:
    images = [replace(one, group=f"haul {n // 10}") for n, one in enumerate(at_sites(("azores", 5), ("madeira", 45)))]

    divided = divide(images, policy("Grouped", holdout={"site": ["azores"]}))

    assert {one.group for one in divided.images if one.split == "test"} == {"haul 0"}
    by_group = divide(images, policy("Grouped", holdout={"group": ["haul 4"]}))
    assert {one.group for one in by_group.images if one.split == "test"} == {"haul 4"}


def test_groups_that_are_held_out_are_those_of_the_source() -> None:
    """They do not depend on the groups that groupBy makes."""
    images = [replace(one, group=f"haul {n // 10}") for n, one in enumerate(at_sites(("azores", 20), ("madeira", 40)))]

    divided = divide(images, policy("Grouped", groupBy=["deployment"], holdout={"group": ["haul 0"]}))

    assert {one.group for one in divided.images if one.split == "test"} == {"azores 0", "azores 1", "azores 2"}


def test_the_rest_is_cut_in_time() -> None:
    images = [image(n, "cod", site="azores" if n % 5 == 0 else "madeira", **at(n)) for n in range(100)]

    divided = divide(images, policy(holdout={"site": ["azores"]}, gap="3h"))

    of = {
        split: [int(one.path[:4]) for one in divided.images if one.split == split]
        for split in ("train", "validation", "test")
    }
    assert of["test"] == list(range(0, 100, 5))
    assert max(of["train"]) + 3 <= min(of["validation"])


@pytest.mark.parametrize(
    ("holdout", "words"),
    [
        (
            {"site": ["azore", "x"]},
            "split.holdout.site: no image has the value azore (nearest is azores), x; there are azores, madeira",
        ),
        ({"site": ["azores", "madeira"]}, "split.holdout holds out all 20 images"),
        ({"platform": ["ROV"]}, "split.holdout.platform divides by platform, but 20 of 20 images have no platform"),
        ({"group": ["a"]}, "20 of 20 images have no group"),
    ],
)
def test_what_cannot_be_held_out_is_refused(holdout: dict[str, list[str]], words: str) -> None:
    failure = refusal(at_sites(("azores", 10), ("madeira", 10)), policy("Random", holdout=holdout))

    assert failure.reason is Reason.SPLIT_IMPOSSIBLE
    assert words in failure.message


def test_a_class_that_is_held_out_wholly_is_refused_by_name() -> None:
    images = [*at_sites(("azores", 10), ("madeira", 20)), image(99, "ray", site="azores")]

    failure = refusal(images, policy("Random", holdout={"site": ["azores"]}))

    assert failure.reason is Reason.CLASS_MISSING_FROM_TRAIN
    assert "ray" in failure.message
    assert "hold out less (split.holdout)" in failure.message


# --- tiles


def tiles(image: ImageRecord, count: int = 6) -> list[ImageRecord]:
    return [replace(image, path=f"{image.path}/{x}.png", part=Part(image.path, x, 0)) for x in range(count)]


def test_files_are_counted_that_lie_between_the_splits_and_not_their_tiles() -> None:
    images = [tile for number in range(40) for tile in tiles(image(number, **at(number)))]

    divided = divide(images, policy(gap="2h"))

    assert divided.excluded
    assert {one.path for one in divided.excluded} <= {image.file for image in images}
    told = f"{len(divided.excluded)} of 40 images lie in time between two splits"
    assert any(one.startswith(told) for one in divided.warnings)


def test_files_of_several_splits_are_named_and_not_their_tiles() -> None:
    images = [*tiles(replace(image(0), split="train")), *tiles(image(1)), *tiles(image(2))]

    with pytest.raises(RefusedError) as caught:
        splitting.divide(
            images, {one.path: one.path for one in images}, {}, policy("Provided"), overlapping=["0001.png"]
        )

    told = "1 images stand in more than one split (0001.png) and 1 images stand in no split (0002.png)"
    assert told in caught.value.failure.message


def test_files_are_named_of_which_no_time_is_known_and_not_their_tiles() -> None:
    images = [*tiles(image(0, **at(0))), *tiles(image(1)), *tiles(image(2))]

    assert "but 2 of 3 images have no time by capture: 0001.png, 0002.png;" in refusal(images, policy()).message
