"""Grouped splits: groups stay whole, ratios and classes are approximated as well as possible, and the seed decides the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pelagos_contract.dataset import Ratios, SplitPolicy
from pelagos_contract.failures import RefusedError
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.preparation import grouping, splitting

SHARES: dict[Split, float] = {"train": 0.7, "validation": 0.15, "test": 0.15}


def _hauls(groups: int, classes: int, seed: int = 0) -> list[ImageRecord]:
    """Hauls as they occur: few are large, one class prevails in each, and some classes are rare."""
    random = Random(seed)
    weights = [1 / (number + 1) for number in range(classes)]
    images = []
    for group in range(groups):
        main = random.choices(range(classes), weights)[0]
        for image in range(min(20, int(3 * random.paretovariate(1.2)))):
            label = main if random.random() < 0.7 else random.randrange(classes)
            images.append(ImageRecord(f"{group}/{image}.png", group=f"haul {group}", label=f"class {label:02d}"))
    return images


def _divide(images: list[ImageRecord], seed: int) -> dict[str, Split]:
    """The split of each group."""
    digests = {image.path: f"content of {image.path}" for image in images}
    divided = splitting.divide(images, digests, {}, SplitPolicy(policy="Grouped", seed=seed))
    assert divided.leakage == 0
    return {image.group or "": image.split or "train" for image in divided.images}


def _at_random(images: list[ImageRecord], seed: int) -> dict[str, Split]:
    """Whole groups in a random order, each to the split that lacks most."""
    sizes = Counter(image.group or "" for image in images)
    names = sorted(sizes)
    Random(seed).shuffle(names)
    lacking = {split: share * len(images) for split, share in SHARES.items()}
    splits: dict[str, Split] = {}
    for name in names:
        splits[name] = max(SPLITS, key=lambda split: lacking[split])
        lacking[splits[name]] -= sizes[name]
    return splits


def _imbalance(images: list[ImageRecord], splits: dict[str, Split]) -> float:
    """The share of a class's images that is in the wrong split, averaged over classes."""
    of = Counter(image.label for image in images)
    held = Counter((image.label, splits[image.group or ""]) for image in images)
    return sum(abs(held[label, split] / of[label] - SHARES[split]) for label in of for split in SPLITS) / len(of)


@pytest.mark.parametrize(("groups", "classes"), [(20, 4), (60, 8), (120, 20)])
def test_classes_are_balanced_far_better_than_by_groups_at_random(groups: int, classes: int) -> None:
    images = _hauls(groups, classes)
    ours = [_imbalance(images, _divide(images, seed)) for seed in range(3)]
    random = [_imbalance(images, _at_random(images, seed)) for seed in range(3)]
    assert sum(ours) < 0.6 * sum(random)


def test_every_seed_divides_otherwise_and_deals_out_large_groups_too() -> None:
    images = _hauls(60, 4)
    largest = [name for name, _ in Counter(image.group or "" for image in images).most_common(3)]
    found = [_divide(images, seed) for seed in range(12)]
    assert len({tuple(sorted(splits.items())) for splits in found}) == 12
    assert _divide(images, 3) == found[3]
    assert all({splits[name] for splits in found} > {"train"} for name in largest)


def test_a_group_that_would_fill_most_of_a_small_split_goes_to_train() -> None:
    images = [ImageRecord(f"{i}.png", group="pier" if i < 40 else f"buoy {i}", label="cod") for i in range(80)]
    assert {_divide(images, seed)["pier"] for seed in range(4)} == {"train"}


def test_ratios_are_met_where_groups_allow() -> None:
    images = _hauls(60, 8)
    for seed in range(3):
        splits = _divide(images, seed)
        counts = Counter(splits[image.group or ""] for image in images)
        assert all(abs(counts[split] / len(images) - SHARES[split]) < 0.02 for split in SPLITS)


def _stations(sizes: dict[str, tuple[int, str]]) -> list[ImageRecord]:
    """Images with one class per group, given the group's size and label."""
    return [
        ImageRecord(f"{group}-{i}.png", group=group, label=label)
        for group, (size, label) in sizes.items()
        for i in range(size)
    ]


@pytest.mark.parametrize("seed", range(6))
def test_a_group_that_alone_has_a_class_goes_to_train(seed: int) -> None:
    common = [image for n in range(4) for image in _stations({f"station {n}": (10, "cod")})]
    images = [*common, *(replace(image, path=f"eel {image.path}", label="eel") for image in common)]
    images += _stations({"station 9": (6, "rare")})
    splits = _divide(images, seed)
    assert splits["station 9"] == "train"
    assert set(splits.values()) == {"train", "validation", "test"}


@pytest.mark.parametrize("seed", range(6))
def test_train_shows_every_class_when_groups_can_be_exchanged(seed: int) -> None:
    small = {f"{label}{n}": (1 + n, label) for label in "abcde" for n in range(2)}
    splits = _divide(_stations({"pier": (30, "cod"), "reef": (9, "cod"), **small}), seed)
    assert all("train" in {splits[f"{label}0"], splits[f"{label}1"]} for label in "abcde")


def test_a_class_that_lives_in_one_group_is_told_with_it() -> None:
    images = _stations({"pier": (9, "cod"), "reef": (8, "eel"), "buoy": (7, "ray")})
    with pytest.raises(RefusedError, match=r"no image in train: .*ray \(all in the group buoy\)"):
        _divide(images, 0)


def test_duplicates_that_link_all_groups_are_reported() -> None:
    images = _stations({f"station {n}": (2, "cod") for n in range(6)})
    copies = {f"station {n}-0.png": "station 0-0.png" for n in range(1, 6)}
    digests = {image.path: image.path for image in images}
    with pytest.raises(
        RefusedError, match=r"^duplicates that are kept link 6 groups: 1 groups cannot .* drop duplicates"
    ):
        splitting.divide(images, digests, copies, SplitPolicy(policy="Grouped"))


ratios = st.tuples(st.integers(0, 49), st.integers(0, 50)).map(
    lambda held: Ratios(train=100 - sum(held), validation=held[0], test=held[1])
)


@settings(max_examples=50, deadline=None)
@given(
    groups=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abc")), min_size=3, max_size=12),
    ratios=ratios,
    seed=st.integers(0, 99),
)
def test_no_split_has_more_than_its_share_and_the_largest_group(
    groups: list[tuple[int, str]], ratios: Ratios, seed: int
) -> None:
    images = [
        ImageRecord(f"{group}-{i}.png", group=str(group), label=label)
        for group, (size, label) in enumerate(groups)
        for i in range(size)
    ]
    digests = {image.path: image.path for image in images}
    try:
        divided = splitting.divide(images, digests, {}, SplitPolicy(policy="Grouped", ratios=ratios, seed=seed))
    except RefusedError:
        return
    counts = Counter(image.split for image in divided.images)
    shares = splitting.shares(len(images), ratios)
    largest = max(size for size, _ in groups)
    classes = len({label for _, label in groups})
    more = {"train": classes * largest}
    assert all(0 < counts[split] < share + largest + more.get(split, 0) for split, share in shares.items())


def test_more_groups_than_there_is_time_for_are_divided_well_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "WORK", 10)
    images = _hauls(80, 4)
    assert _imbalance(images, _divide(images, 0)) < 0.6 * _imbalance(images, _at_random(images, 0))
