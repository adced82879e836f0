"""How each split policy divides images, in cases small enough to check by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import pytest

from pelagos_contract.dataset import Ratios, SplitPolicy
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.splits import Split
from pelagos_pipelines.annotations.model import Box, ImageRecord
from pelagos_pipelines.preparation import splitting
from pelagos_pipelines.preparation.splitting import Divided


def _divide(
    images: list[ImageRecord], policy: SplitPolicy | None = None, repeats: dict[str, str] | None = None
) -> Divided:
    digests = {image.path: f"content of {image.path}" for image in images}
    return splitting.divide(images, digests, repeats or {}, policy or SplitPolicy())


def _classified(counts: dict[str, int]) -> list[ImageRecord]:
    return [ImageRecord(f"{label}/{i:03d}.png", label=label) for label, count in counts.items() for i in range(count)]


def _grouped(counts: dict[str, int]) -> list[ImageRecord]:
    return [
        ImageRecord(f"{group}-{i:03d}.png", group=group, label="cod")
        for group, count in counts.items()
        for i in range(count)
    ]


def _counts(divided: Divided) -> dict[str, dict[Split | None, int]]:
    labels = {image.label or "" for image in divided.images}
    return {label: Counter(image.split for image in divided.images if image.label == label) for label in labels}


def _group_of(divided: Divided, split: Split) -> set[str | None]:
    return {image.group for image in divided.images if image.split == split}


def test_stratified_divides_every_class_alike() -> None:
    divided = _divide(_classified({"cod": 100, "eel": 20}))
    assert _counts(divided) == {
        "cod": {"train": 70, "validation": 15, "test": 15},
        "eel": {"train": 14, "validation": 3, "test": 3},
    }


def test_stratified_shows_a_class_of_three_images_in_every_split() -> None:
    divided = _divide(_classified({"cod": 100, "coelacanth": 3}))
    assert _counts(divided)["coelacanth"] == {"train": 1, "validation": 1, "test": 1}


def test_stratified_gives_the_only_image_of_a_class_to_train() -> None:
    divided = _divide(_classified({"cod": 100, "coelacanth": 1}))
    assert _counts(divided)["coelacanth"] == {"train": 1}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("classes", "images"), [(30, 2), (30, 3), (30, 4), (50, 5), (200, 2), (7, 9)], ids=str)
def test_many_small_classes_together_keep_the_ratios(classes: int, images: int, seed: int) -> None:
    divided = _divide(_classified({f"class {number:03d}": images for number in range(classes)}), SplitPolicy(seed=seed))
    counts = Counter(image.split for image in divided.images)
    want = splitting.shares(classes * images, Ratios())
    assert all(abs(counts[split] - count) <= 1 for split, count in want.items())
    assert not any("far from split.ratios" in warning for warning in divided.warnings)


def test_small_classes_beside_large_ones_keep_the_ratios() -> None:
    small = {f"class {number:02d}": 2 for number in range(20)}
    divided = _divide(_classified({"cod": 20, "eel": 20, **small}))
    assert Counter(image.split for image in divided.images) == {"train": 56, "validation": 12, "test": 12}


def test_a_class_does_not_make_up_for_all_others_with_its_training_images() -> None:
    divided = _divide(_classified({"cod": 20, **{f"class {number:02d}": 1 for number in range(30)}}))
    assert _counts(divided)["cod"]["train"] >= 8


def test_the_seed_decides_which_small_classes_are_held_back() -> None:
    images = _classified({f"class {number:02d}": 2 for number in range(20)})
    tested = [
        {image.label for image in _divide(images, SplitPolicy(seed=seed)).images if image.split == "test"}
        for seed in range(3)
    ]
    assert tested[0] != tested[1] != tested[2]


@pytest.mark.parametrize("counts", [{"cod": 3}, {"cod": 2, "eel": 2}, {"cod": 3, "eel": 1}, {"cod": 1, "eel": 3}])
def test_a_handful_of_images_is_divided_when_that_is_possible(counts: dict[str, int]) -> None:
    divided = _divide(_classified(counts))
    assert {image.split for image in divided.images} == {"train", "validation", "test"}


def test_classes_that_need_all_images_in_train_are_named_as_the_reason() -> None:
    with pytest.raises(RefusedError, match=r"there are 30 images, and train needs one of each of 30 classes; add "):
        _divide(_classified({f"class {number:02d}": 1 for number in range(30)}))


def test_ratios_that_classes_do_not_allow_are_said() -> None:
    divided = _divide(_classified({"cod": 3, **{f"class {number:02d}": 1 for number in range(17)}}))
    (warning,) = [warning for warning in divided.warnings if "far from split.ratios" in warning]
    assert warning.startswith(
        "the splits are far from split.ratios: train 18, validation 1, test 1 images, where train 14"
    )


@pytest.mark.parametrize("seed", range(4))
def test_stratified_divides_images_of_several_classes_by_the_rarest(seed: int) -> None:
    cod, ray = Box("cod", 0, 0, 1, 1), Box("ray", 0, 0, 1, 1)
    images = [ImageRecord(f"{i:03d}.png", boxes=(cod, ray) if i < 20 else (cod,)) for i in range(100)]
    divided = _divide(images, SplitPolicy(seed=seed))
    with_ray = Counter(image.split for image in divided.images if "ray" in image.labels)
    assert with_ray == {"train": 14, "validation": 3, "test": 3}
    assert Counter(image.split for image in divided.images) == {"train": 70, "validation": 15, "test": 15}


def test_images_without_boxes_are_divided_like_a_class() -> None:
    shown = [ImageRecord(f"{i:03d}.png", boxes=(Box("cod", 0, 0, 1, 1),)) for i in range(20)]
    empty = [ImageRecord(f"empty-{i:03d}.png") for i in range(20)]
    divided = _divide([*shown, *empty])
    assert Counter(image.split for image in divided.images if not image.boxes) == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }


def test_another_seed_divides_otherwise() -> None:
    images = _classified({"cod": 100})
    first, same, other = (_divide(images, SplitPolicy(policy="Random", seed=seed)) for seed in (1, 1, 2))
    assert first == same
    assert first.images != other.images
    assert _counts(first) == _counts(other)


def test_a_renamed_image_stays_in_its_split() -> None:
    before = [ImageRecord(f"{i:03d}.png", label="cod") for i in range(30)]
    after = [ImageRecord(f"renamed-{29 - i:03d}.png", label="cod") for i in range(30)]
    digests = [f"content {i}" for i in range(30)]
    policy = SplitPolicy(policy="Random")
    first = splitting.divide(
        before, {image.path: digest for image, digest in zip(before, digests, strict=True)}, {}, policy
    )
    second = splitting.divide(
        after, {image.path: digest for image, digest in zip(after, digests, strict=True)}, {}, policy
    )
    assert [image.split for image in first.images] == [image.split for image in second.images]


def test_grouped_meets_the_ratios_by_images_not_by_groups() -> None:
    divided = _divide(
        _grouped({"pier": 320, "reef": 64, "buoy": 64}),
        SplitPolicy(policy="Grouped", ratios=Ratios(train=72, validation=14, test=14)),
    )
    assert _group_of(divided, "train") == {"pier"}
    assert _group_of(divided, "validation") | _group_of(divided, "test") == {"reef", "buoy"}
    assert (divided.leakage, divided.warnings) == (0, ())


def test_grouped_leaves_no_split_empty_when_groups_are_few_and_alike() -> None:
    divided = _divide(_grouped({"pier": 10, "reef": 10, "buoy": 10}), SplitPolicy(policy="Grouped"))
    assert Counter(image.split for image in divided.images) == {"train": 10, "validation": 10, "test": 10}


def test_images_without_a_group_are_groups_of_one_and_named() -> None:
    alone = ImageRecord("alone.png", label="cod")
    divided = _divide([*_grouped({"pier": 10, "reef": 5, "buoy": 5}), alone], SplitPolicy(policy="Grouped"))
    assert divided.warnings == ("1 images have no group and count as groups of one: alone.png",)


def test_groups_that_another_policy_cuts_are_counted_as_leakage() -> None:
    divided = _divide(_grouped({"pier": 20, "reef": 20, "buoy": 1}))
    assert divided.leakage == 2
    assert divided.warnings[0].startswith("2 groups stand in more than one split: pier, reef; ")


def test_splits_that_the_source_provides_are_kept() -> None:
    provided: list[Split] = ["train", "train", "validation", "test"]
    images = [ImageRecord(f"{i}.png", label="cod", split=split) for i, split in enumerate(provided)]
    assert [image.split for image in _divide(images, SplitPolicy(policy="Provided")).images] == provided


def test_duplicates_across_provided_splits_are_counted_as_leakage() -> None:
    images = [ImageRecord("a.png", label="cod", split="test"), ImageRecord("b.png", label="cod", split="train")]
    divided = _divide(images, SplitPolicy(policy="Provided"), repeats={"b.png": "a.png"})
    assert divided.leakage == 1
    assert divided.warnings[0] == "1 duplicates stand in another split than the image that they repeat: b.png"


@pytest.mark.parametrize("policy", ["Provided", "Random"])
def test_near_duplicates_across_splits_are_counted_as_leakage(policy: Literal["Provided", "Random"]) -> None:
    splits: list[Split] = ["train", "train", "validation", "test"]
    images = [ImageRecord(f"{number}.png", label="cod", split=split) for number, split in enumerate(splits)]
    digests = {image.path: image.path for image in images}
    alike = {f"{number}.png": ["0.png"] for number in (1, 2, 3)}
    divided = splitting.divide(images, digests, {}, SplitPolicy(policy=policy), alike=alike)
    given = {image.path: image.split for image in divided.images}
    apart = [path for path in alike if given[path] != given["0.png"]]
    assert divided.leakage == len(apart) > 1
    assert divided.warnings[0].startswith(f"{len(apart)} images look like one in another split: {apart[0]} and 0.png, ")
    assert "cleaning.duplicates.maxDistance" in divided.warnings[0]


def test_a_provided_split_that_is_missing_is_said() -> None:
    images = [ImageRecord("a.png", label="cod", split="train"), ImageRecord("b.png", label="cod", split="validation")]
    divided = _divide(images, SplitPolicy(policy="Provided"))
    assert divided.warnings == ("no images in the split test: such a version cannot be trained on",)


def test_classes_that_a_split_does_not_show_are_named() -> None:
    divided = _divide(_classified({"cod": 20, "coelacanth": 1, "gulper": 2}))
    assert divided.warnings == (
        "1 classes have no image in the split validation, whose figures say nothing about them: coelacanth",
        "2 classes have no image in the split test, whose figures say nothing about them: coelacanth, gulper",
    )


def test_splits_of_the_source_that_are_not_kept_are_said() -> None:
    images = [replace(image, split="test" if i < 5 else "train") for i, image in enumerate(_classified({"cod": 20}))]
    (warning,) = _divide(images).warnings
    assert warning.startswith(
        "the source comes with splits (train 15, test 5), which split.policy Stratified does not keep"
    )
    assert _divide(images, SplitPolicy(policy="Provided")).warnings == (
        "no images in the split validation: such a version cannot be trained on",
    )


@pytest.mark.parametrize(
    ("images", "policy", "words"),
    [
        (_classified({"cod": 2}), SplitPolicy(), r"^2 distinct images cannot be divided into 3 splits"),
        (_classified({"cod": 9}), SplitPolicy(policy="Grouped"), r"no image has a group"),
        (_grouped({"pier": 9, "reef": 9}), SplitPolicy(policy="Grouped"), r"^2 groups cannot be divided into 3 splits"),
        (
            _classified({"cod": 9}),
            SplitPolicy(policy="Provided"),
            r"9 images stand in no split \(cod/000\.png, .* and 4 more\)",
        ),
        (
            [ImageRecord("a.png", label="cod", split="test")],
            SplitPolicy(policy="Provided"),
            r"but no image stands in train",
        ),
    ],
)
def test_an_impossible_split_is_refused_with_numbers(
    images: list[ImageRecord], policy: SplitPolicy, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as caught:
        _divide(images, policy)
    assert caught.value.failure.reason is Reason.SPLIT_IMPOSSIBLE


def test_a_class_that_train_would_not_see_is_refused_by_name() -> None:
    images = [
        ImageRecord("a.png", label="cod", split="train"),
        ImageRecord("b.png", label="coelacanth", split="test"),
    ]
    with pytest.raises(RefusedError, match=r"^1 classes have no image in train: coelacanth; ") as caught:
        _divide(images, SplitPolicy(policy="Provided"))
    assert caught.value.failure.reason is Reason.CLASS_MISSING_FROM_TRAIN


def test_two_splits_are_enough_when_the_third_is_not_wanted() -> None:
    ratios = Ratios(train=50, validation=50, test=0)
    divided = _divide(_classified({"cod": 2}), SplitPolicy(ratios=ratios))
    assert Counter(image.split for image in divided.images) == {"train": 1, "validation": 1}
    assert divided.warnings == ("no images in the split test: such a version cannot be trained on",)
