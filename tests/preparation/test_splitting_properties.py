"""Invariants of every split, for any images, ratios and seed: no leak, no gap, no dependence on order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pelagos_contract.dataset import Ratios, SplitPolicy
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.model import Box, ImageRecord
from pelagos_pipelines.preparation import splitting

POLICIES = ("Random", "Stratified", "Grouped")


@dataclass(frozen=True)
class Images:
    """Images with the digests of their content, and the duplicates among them that were kept."""

    records: tuple[ImageRecord, ...]
    digests: dict[str, str]
    repeats: dict[str, str]


@st.composite
def detections(draw: st.DrawFn, *, repeats: bool = True) -> Images:
    """Up to 50 images with 0 to 3 boxes of 5 classes, each in one of 9 groups or in none."""
    labels = st.lists(st.sampled_from("abcde"), max_size=3)
    groups = st.one_of(st.none(), st.integers(0, 8).map(str))
    drawn = draw(st.lists(st.tuples(labels, groups, st.booleans()), min_size=1, max_size=50))
    records = tuple(
        ImageRecord(f"{i:02d}.png", group=group, boxes=tuple(Box(label, 0, 0, 1, 1) for label in shown))
        for i, (shown, group, _) in enumerate(drawn)
    )
    copies = {f"{i:02d}.png": "00.png" for i, (*_, copy) in enumerate(drawn) if copy and i > 0} if repeats else {}
    return Images(records, {image.path: f"{i:064x}" for i, image in enumerate(records)}, copies)


ratios = st.tuples(st.integers(0, 49), st.integers(0, 50)).map(
    lambda held: Ratios(train=100 - sum(held), validation=held[0], test=held[1])
)


def _divide(images: Images, policy: SplitPolicy) -> dict[str, Split | None] | None:
    try:
        divided = splitting.divide(images.records, images.digests, images.repeats, policy)
    except RefusedError as refused:
        if refused.failure.reason in {Reason.SPLIT_IMPOSSIBLE, Reason.CLASS_MISSING_FROM_TRAIN}:
            return None
        raise
    if policy.policy == "Grouped":
        assert divided.leakage == 0
    return {image.path: image.split for image in divided.images}


@given(
    images=detections(), ratios=ratios, policy=st.sampled_from(POLICIES), seed=st.integers(0, 9), random=st.randoms()
)
def test_the_order_of_images_says_nothing(
    images: Images, ratios: Ratios, policy: str, seed: int, random: Random
) -> None:
    wanted = SplitPolicy.model_validate({"policy": policy, "ratios": ratios, "seed": seed})
    shuffled = list(images.records)
    random.shuffle(shuffled)
    assert _divide(images, wanted) == _divide(Images(tuple(shuffled), images.digests, images.repeats), wanted)


@given(images=detections(), ratios=ratios, policy=st.sampled_from(POLICIES), seed=st.integers(0, 9))
def test_every_image_gets_a_split_and_every_wanted_split_gets_images(
    images: Images, ratios: Ratios, policy: str, seed: int
) -> None:
    splits = _divide(images, SplitPolicy.model_validate({"policy": policy, "ratios": ratios, "seed": seed}))
    if splits is not None:
        assert set(splits) == {image.path for image in images.records}
        assert set(splits.values()) == {split for split in SPLITS if getattr(ratios, split) > 0}


@given(images=detections(), ratios=ratios, policy=st.sampled_from(POLICIES), seed=st.integers(0, 9))
def test_duplicates_that_are_kept_stay_together(images: Images, ratios: Ratios, policy: str, seed: int) -> None:
    splits = _divide(images, SplitPolicy.model_validate({"policy": policy, "ratios": ratios, "seed": seed}))
    if splits is not None:
        assert all(splits[copy] == splits[first] for copy, first in images.repeats.items())


@given(images=detections(), ratios=ratios, seed=st.integers(0, 9))
def test_no_group_is_cut_by_grouped(images: Images, ratios: Ratios, seed: int) -> None:
    splits = _divide(images, SplitPolicy(policy="Grouped", ratios=ratios, seed=seed))
    if splits is not None:
        pairs = {(image.group, splits[image.path]) for image in images.records if image.group is not None}
        assert len(pairs) == len({group for group, _ in pairs})


@given(images=detections(repeats=False), ratios=ratios, seed=st.integers(0, 9))
def test_random_keeps_to_the_ratios_as_far_as_whole_images_allow(images: Images, ratios: Ratios, seed: int) -> None:
    splits = _divide(images, SplitPolicy(policy="Random", ratios=ratios, seed=seed))
    if splits is not None:
        counts = Counter(splits.values())
        want = splitting.shares(len(images.records), ratios)
        assert {split: counts[split] for split in want} == want


@given(images=detections(repeats=False), ratios=ratios, seed=st.integers(0, 9))
def test_stratified_shows_every_class_to_train(images: Images, ratios: Ratios, seed: int) -> None:
    classes = {label for image in images.records for label in image.labels}
    splits = _divide(images, SplitPolicy(ratios=ratios, seed=seed))
    if splits is None:
        assert len(images.records) < max(len(classes), 1) + 2
    else:
        taught = [image for image in images.records if splits[image.path] == "train"]
        assert {label for image in taught for label in image.labels} == classes


@given(total=st.integers(0, 10_000), ratios=ratios)
def test_shares_add_up_and_are_within_one_of_the_exact_value(total: int, ratios: Ratios) -> None:
    shares = splitting.shares(total, ratios)
    assert sum(shares.values()) == total
    if total >= 300:  # with fewer, a split may owe its only image to the rule that no split is empty
        for split, count in shares.items():
            assert abs(count - total * getattr(ratios, split) / 100) < 2
