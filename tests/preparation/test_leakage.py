"""Links between images of two splits are counted by kind and by pair of splits, and the worst pairs come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from pelagos_contract.judgement import Link
from pelagos_contract.splits import Split
from pelagos_pipelines.annotations.capture import Capture
from pelagos_pipelines.annotations.model import ImageRecord, Part
from pelagos_pipelines.preparation import alike, leakage
from pelagos_pipelines.preparation.leakage import Found, Pair

T: Split = "train"
V: Split = "validation"
E: Split = "test"


def images(splits: Mapping[str, Split], groups: Mapping[str, str] | None = None) -> list[ImageRecord]:
    return [ImageRecord(path, split=split, group=(groups or {}).get(path)) for path, split in splits.items()]


def measured(
    splits: Mapping[str, Split],
    *,
    groups: Mapping[str, str] | None = None,
    repeats: Mapping[str, str] | None = None,
    looks_like: Mapping[str, Sequence[str]] | None = None,
    looks: Mapping[str, bytes | None] | None = None,
) -> Found:
    return leakage.measure(images(splits, groups), repeats or {}, looks_like or {}, looks or {})


def told(found: Found) -> list[tuple[str, str, str, int]]:
    return [(one.kind, one.split, one.other, one.images) for one in found.figures.found]


def look(*numbers: int) -> bytes:
    """A look that begins with these waves and is zero otherwise."""
    return bytes(np.array([*numbers, *[0] * (100 - len(numbers))], np.int8))


def test_splits_that_share_nothing_have_nothing_told() -> None:
    found = measured({"a.png": T, "b.png": V, "c.png": E}, groups={"a.png": "north", "b.png": "south"})

    assert (found.figures.evaluated, found.figures.leaked, found.figures.shared_groups) == (2, 0, 0)
    assert (found.figures.found, found.pairs, found.warnings) == ([], {}, ())


def test_a_group_in_three_splits_leaks_three_ways_and_counts_once() -> None:
    groups = dict.fromkeys(("a", "b", "c", "d"), "haul") | {"e": "alone"}

    found = measured({"a": T, "b": V, "c": E, "d": E, "e": E}, groups=groups)

    assert told(found) == [
        ("SharedGroup", "validation", "train", 1),
        ("SharedGroup", "test", "train", 2),
        ("SharedGroup", "test", "validation", 2),
    ]
    assert [one.groups for one in found.figures.found] == [1, 1, 1]
    assert (found.figures.leaked, found.figures.evaluated, found.figures.shared_groups) == (3, 4, 1)
    assert found.pairs == {Link.SHARED_GROUP: [Pair("c", "a", (E, T))]}


def test_an_image_that_leaks_in_several_ways_counts_once() -> None:
    found = measured(
        {"a": T, "b": E, "c": E}, groups={"a": "haul", "b": "haul"}, repeats={"b": "a"}, looks_like={"b": ("a",)}
    )

    assert [kind for kind, *_ in told(found)] == ["SharedGroup", "Duplicate", "NearDuplicate"]
    assert found.figures.leaked == 1


def test_the_evaluated_image_is_counted_whichever_of_two_comes_first() -> None:
    found = measured({"a": E, "b": T, "c": V}, looks_like={"b": ("a",), "c": ("a", "b", "dropped")})

    assert told(found) == [
        ("NearDuplicate", "validation", "train", 1),
        ("NearDuplicate", "test", "train", 1),
        ("NearDuplicate", "test", "validation", 1),
    ]


def test_the_most_alike_pairs_come_first_whichever_way_they_lie() -> None:
    looks = {"far": look(0, 100, 30), "near": look(0, -100, 1), "one": look(0, 100), "plain": None}

    found = measured(
        {"far": E, "near": E, "one": T, "plain": E},
        looks_like=dict.fromkeys(("far", "near", "plain"), ("one",)),
        looks=looks,
    )

    pairs = found.pairs[Link.NEAR_DUPLICATE]
    assert [pair.path for pair in pairs] == ["near", "far", "plain"]
    assert [pair.distance for pair in pairs] == [pytest.approx(1 / alike.STEP), pytest.approx(30 / alike.STEP), None]


@pytest.mark.parametrize(
    ("paths", "adjacent"),
    [
        (("frame_000123.jpg", "frame_000124.jpg"), True),
        (("frame_9.jpg", "frame_10.jpg"), True),
        (("train/cam1/0001.png", "test/cam1/0002.png"), True),
        (("x/frame 1 left.png", "x/frame 2 left.png"), True),
        (("frame_000123.jpg", "frame_000125.jpg"), False),
        (("frame_1.jpg", "frame_2.png"), False),
        (("north/1.png", "south/2.png"), False),
        (("cam1_0001.png", "cam2_0001.png"), False),
        (("a.png", "b.png"), False),
        (("1" * 200 + ".png", "1" * 199 + "2.png"), True),
    ],
)
def test_names_are_adjacent_when_a_running_number_alone_differs_by_one(paths: tuple[str, str], adjacent: bool) -> None:
    found = measured({paths[0]: T, paths[1]: E})

    assert told(found) == ([("AdjacentName", "test", "train", 1)] if adjacent else [])
    assert found.figures.leaked == 0


def test_every_fifth_frame_is_next_to_the_fifth_after_it() -> None:
    splits: dict[str, Split] = {f"{number}.png": E if number == 50 else T for number in range(0, 100, 5)}

    assert told(measured(splits)) == [("AdjacentName", "test", "train", 1)]
    assert told(measured({**splits, "1000.png": E})) == [("AdjacentName", "test", "train", 1)]


def test_splits_that_count_from_one_each_are_no_series() -> None:
    splits: dict[str, Split] = {f"{split}/{number}.png": split for split in (T, E) for number in range(20)}

    assert told(measured(splits)) == []


def shot(path: str, split: Split, clock: str, site: str = "reef") -> ImageRecord:
    return ImageRecord(path, split=split, capture=Capture(site=site, time=f"2024-05-31T{clock}"))


def test_images_of_two_splits_within_a_minute_at_one_site_are_told_and_are_no_leak() -> None:
    found = leakage.measure(
        [
            shot("a", T, "08:00:00Z"),
            shot("b", E, "08:00:12.5Z"),
            shot("c", E, "10:00:30+02:00"),
            shot("d", E, "08:01:01Z"),
            shot("e", V, "07:59:30Z"),
            shot("f", V, "08:00:00Z", site="bay"),
            replace(shot("g", E, ""), capture=Capture(site="reef", time="2024-05-31")),
            ImageRecord("h", split=E),
        ],
        {},
        {},
        {},
    )

    assert told(found) == [
        ("CloseInTime", "validation", "train", 1),
        ("CloseInTime", "test", "train", 2),
        ("CloseInTime", "test", "validation", 2),
    ]
    assert found.figures.leaked == 0
    assert [(pair.path, pair.other, pair.seconds) for pair in found.pairs[Link.CLOSE_IN_TIME]][:2] == [
        ("b", "a", 12.5),
        ("c", "a", 30.0),
    ]
    (warning,) = found.warnings
    assert warning.startswith(
        "3 images of validation and test were taken within 60 s of one of another split, at one site (b and a"
    )


def test_of_tiles_the_names_of_their_images_are_compared() -> None:
    tiles = [
        ImageRecord(f"dive_{frame}/{x}.png", split=split, part=Part(f"dive_{frame}.png", x, 0))
        for frame, split in ((7, T), (8, E))
        for x in (0, 1, 2)
    ]

    found = leakage.measure(tiles, {}, {}, {})

    assert told(found) == [("AdjacentName", "test", "train", 1)]
    assert found.pairs[Link.ADJACENT_NAME] == [Pair("dive_8/0.png", "dive_7/0.png", (E, T))]


def frames(count: int, *, drift: bool) -> tuple[dict[str, Split], dict[str, bytes | None]]:
    """A series with every fourth image in the test split: a drifting scene, or images in random order."""
    random = np.random.default_rng(1)
    order = np.arange(count) if drift else random.permutation(count)
    names = [f"dive_{number:04}.png" for number in range(count)]
    looks = {name: look(0, int(place) - 60, 60 - int(place)) for name, place in zip(names, order, strict=True)}
    return {name: E if number % 4 == 0 else T for number, name in enumerate(names)}, dict(looks)


def test_frames_of_a_recording_are_told_from_numbers_that_mean_nothing() -> None:
    splits, looks = frames(100, drift=True)
    recording = measured(splits, looks=looks)
    splits, looks = frames(100, drift=False)
    numbered = measured(splits, looks=looks)

    assert told(recording) == told(numbered) == [("AdjacentName", "test", "train", 25)]
    assert float(recording.figures.neighbors or 0) > 0.95
    assert 0.35 < float(numbered.figures.neighbors or 0) < 0.65
    assert numbered.warnings == ()
    (warning,) = recording.warnings
    assert warning.startswith(
        "25 images of validation and test stand next to one of another split in a series of names (dive_"
    )
    assert warning.endswith("set split.policy to Grouped")


def test_the_same_content_gives_the_same_figures() -> None:
    splits, looks = frames(60, drift=True)

    backwards = {path: splits[path] for path in reversed(splits)}

    assert measured(splits, looks=looks) == measured(backwards, looks=looks)
