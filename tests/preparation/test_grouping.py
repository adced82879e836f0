"""Grouped splits: groups stay whole, ratios and classes come as close as they can, and the seed decides the rest."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.contract import SPLITS, Ratios, RefusedError, Split, SplitPolicy
from pelagos_pipelines.preparation import grouping, splitting

SHARES: dict[Split, float] = {"train": 0.7, "validation": 0.15, "test": 0.15}


def _hauls(groups: int, classes: int, seed: int = 0) -> list[ImageRecord]:
    """Hauls as they are: few are large, in each one class prevails, and some classes are rare."""
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
    """By how much of its images a class is off its shares, on average over classes."""
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
    assert all(0 < counts[split] < share + largest for split, share in shares.items())


def test_more_groups_than_there_is_time_for_are_divided_well_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "WORK", 10)
    images = _hauls(80, 4)
    assert _imbalance(images, _divide(images, 0)) < 0.6 * _imbalance(images, _at_random(images, 0))
