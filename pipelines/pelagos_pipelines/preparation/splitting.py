"""Divides images into train, validation and test. Called by the step prepare after cleaning.

The same seed and content give the same split on every machine: nothing depends on the order of files, on their names or on a
library's random number generator. Images that must not be separated (kept duplicates; tiles of one image; groups, for Grouped and
GroupedTemporal) form a *unit*, and units are assigned whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from pelagos_contract import durations
from pelagos_contract.dataset import Ratios, SplitPolicy
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.model import Exclusion, ImageRecord
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.preparation import grouping, holding_out, temporal

OFF = 5
"""Per cent of all images by which a split may differ from its ratio without a warning; a difference of two never matters."""
SHOWING = 2
"""Per cent of all images, and at least one, by which a split may be larger in order to show every class."""
_WHOLE = ("Grouped", "GroupedTemporal")
"""Policies that keep groups whole."""
_ZERO = datetime(1, 1, 1, tzinfo=UTC)
CARRIED = 5
"""One in this many images of a class, and at least one, may compensate for imbalances of other classes."""


@dataclass(frozen=True)
class _Unit:
    """Images that stay together. ``shown`` counts those that show each class; ``order`` is a seeded hash of their content."""

    paths: tuple[str, ...]
    shown: Mapping[str | None, int]
    order: str

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(label for label in self.shown if label is not None)

    @property
    def size(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Divided:
    """The images with their splits.

    ``leakage`` counts groups, duplicates and near duplicates in more than one split. ``excluded`` are images between the splits.
    """

    images: tuple[ImageRecord, ...]
    leakage: int
    warnings: tuple[str, ...]
    excluded: tuple[Exclusion, ...] = ()


def divide(
    images: Sequence[ImageRecord],
    digests: Mapping[str, str],
    repeats: Mapping[str, str],
    policy: SplitPolicy,
    overlapping: Sequence[str] = (),
    alike: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Divided:
    """Assign every image to a split. ``digests`` has the sha256 of images by path, ``repeats`` the kept duplicates.

    ``alike`` has earlier images that one looks like; they matter for hold-outs and for warnings only. ``overlapping`` are images
    without a split because the source has them in more than one.

    Raises:
        RefusedError: SPLIT_IMPOSSIBLE, or CLASS_MISSING_FROM_TRAIN.
    """
    # Hold-outs refer to the source's own groups, so they are found before groupBy replaces those.
    asked = frozenset[str]() if policy.holdout is None else holding_out.held(images, policy.holdout)
    if policy.group_by is not None:
        images = holding_out.grouped(images, policy.group_by)
    if policy.policy == "Provided":
        assigned = _Assigned(_provided(images, overlapping))
    else:
        assigned = _assigned(images, _units(images, digests, repeats, policy), policy, asked, alike)
    splits = assigned.splits
    divided = tuple(replace(image, split=splits[image.path]) for image in images if image.path in splits)
    _require_classes(divided, policy, images)
    leakage, leaking = _leaking(divided, splits, repeats, alike)
    missing = [split for split in SPLITS if split not in splits.values()]
    warnings = [*assigned.warnings, *leaking, *_unseen(divided, missing)]
    if policy.policy != "Provided":
        warnings += _divided_anew(images, policy)
    if missing:
        warnings.append(f"no images in the split {' and '.join(missing)}: such a version cannot be trained on")
    return Divided(divided, leakage, tuple(warnings), tuple(assigned.excluded))


def shares(total: int, ratios: Ratios) -> dict[Split, int]:
    """Numbers of images that add up to ``total``, by largest remainder. No requested split is empty if there are enough."""
    wanted: dict[Split, int] = {split: getattr(ratios, split) for split in SPLITS if getattr(ratios, split) > 0}
    whole = sum(wanted.values())
    counts = {split: total * ratio // whole for split, ratio in wanted.items()}
    by_remainder = sorted(wanted, key=lambda split: (-(total * wanted[split] % whole), SPLITS.index(split)))
    for split in by_remainder[: total - sum(counts.values())]:
        counts[split] += 1
    if total >= len(wanted):
        for split in wanted:
            if counts[split] == 0:
                counts[max(counts, key=lambda other: (counts[other], -SPLITS.index(other)))] -= 1
                counts[split] = 1
    return counts


# --- units


def _units(
    images: Sequence[ImageRecord], digests: Mapping[str, str], repeats: Mapping[str, str], policy: SplitPolicy
) -> list[_Unit]:
    grouped = policy.policy in _WHOLE
    if policy.policy == "Grouped" and all(image.group is None for image in images):
        raise RefusedError(
            Reason.SPLIT_IMPOSSIBLE,
            "split.policy is Grouped, but no image has a group (COCO: images[].group; ImageFolder: folders below the class);"
            " add groups, set split.groupBy to fields of capture, or use Random or Stratified",
            "split.policy",
        )
    parents = {image.path: image.path for image in images}
    first_of_group: dict[str, str] = {}
    first_of_image: dict[str, str] = {}
    for image in images:
        if image.path in repeats:
            _join(parents, image.path, repeats[image.path])
        if image.part is not None:
            _join(parents, image.path, first_of_image.setdefault(image.part.of, image.path))
        if grouped and image.group is not None:
            _join(parents, image.path, first_of_group.setdefault(image.group, image.path))
    members: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in images:
        members[_root(parents, image.path)].append(image)
    units = []
    for together in members.values():
        content = ",".join(sorted(digests[image.path] for image in together))
        order = hashlib.sha256(f"{policy.seed}:{content}".encode()).hexdigest()
        shown = Counter[str | None](label for image in together for label in image.labels or {None})
        units.append(_Unit(tuple(sorted(image.path for image in together)), shown, order))
    # Orders differ between units, because copies of an image form one unit. Paths break ties all the same.
    return sorted(units, key=lambda unit: (unit.order, unit.paths))


def _join(parents: dict[str, str], one: str, other: str) -> None:
    parents[_root(parents, one)] = _root(parents, other)


def _root(parents: dict[str, str], path: str) -> str:
    while parents[path] != path:
        parents[path] = parents[parents[path]]
        path = parents[path]
    return path


def _held_out(
    asked: Set[str], units: Sequence[_Unit], alike: Mapping[str, Sequence[str]]
) -> tuple[set[str], list[_Unit], list[str]]:
    """All images to hold out because of those in ``asked``, the remaining units, and warnings.

    A unit of which a part is held out is held out whole. So is one with an image that looks like a held-out image.
    """
    held = {path for unit in units if not asked.isdisjoint(unit.paths) for path in unit.paths}
    pairs = [(path, earlier) for path, others in alike.items() for earlier in others]
    near = {one for pair in pairs for one, other in (pair, pair[::-1]) if other in held} - held
    held |= {path for unit in units if not near.isdisjoint(unit.paths) for path in unit.paths}
    more = sorted(held - asked)
    told = "images go to test with what split.holdout names, as duplicates, as near duplicates or in a group with them"
    left = [unit for unit in units if held.isdisjoint(unit.paths)]
    if not left:
        raise RefusedError(
            Reason.SPLIT_IMPOSSIBLE,
            f"split.holdout names {len(asked)} images, and {len(more)} more {told[7:]}: nothing is left to train on; hold out"
            " less, or drop near duplicates (cleaning.duplicates.maxDistance)",
            "split.holdout",
        )
    return held, left, [f"{len(more)} {told}: {format_names(more)}"] if more else []


# --- policies


@dataclass(frozen=True)
class _Assigned:
    """The split of each image by path, exclusions between splits, and warnings."""

    splits: Mapping[str, Split]
    excluded: Sequence[Exclusion] = ()
    warnings: Sequence[str] = ()


def _assigned(
    images: Sequence[ImageRecord],
    units: Sequence[_Unit],
    policy: SplitPolicy,
    asked: Set[str],
    alike: Mapping[str, Sequence[str]],
) -> _Assigned:
    """Assign units by any policy other than Provided; ``asked`` are the images to be held out."""
    warnings, within = list[str](), policy
    if policy.policy in _WHOLE and (without := [image.path for image in images if image.group is None]):
        told = "images have no group and count as groups of one"
        warnings.append(f"{len(without)} {told}: {format_names(without)}")
    held, units, told_of = _held_out(asked, units, alike)
    warnings += told_of
    if held:
        # The test split consists of the hold-out and nothing else.
        within = policy.model_copy(update={"ratios": policy.ratios.model_copy(update={"test": 0})})
    splits = _assign(units, within, [image for image in images if image.path not in held])
    between = {path for unit in units for path in unit.paths} - splits.keys()
    files = sorted({image.file for image in images if image.path in between})
    left = [*Exclusion.of(files, ExclusionReason.WITHIN_GAP)]
    warnings += _between(left, len({image.file for image in images}), policy)
    warnings += _far_from_ratios(splits, within, images)
    return _Assigned(splits | dict.fromkeys(held, "test"), left, warnings)


def _assign(units: Sequence[_Unit], policy: SplitPolicy, images: Sequence[ImageRecord]) -> dict[str, Split]:
    wanted = [split for split in SPLITS if getattr(policy.ratios, split) > 0]
    if len(units) < len(wanted):
        grouped = policy.policy in _WHOLE
        what = "groups" if grouped else "distinct images"
        apart = (
            len({(image.group, None if image.group else image.path) for image in images})
            if grouped
            else len({image.file for image in images})
        )
        linked = (
            f"duplicates that are kept link {apart} {'groups' if grouped else 'images'}: " if apart > len(units) else ""
        )
        drop = "drop duplicates (cleaning.duplicates.action KeepFirst), " if linked else ""
        raise RefusedError(
            Reason.SPLIT_IMPOSSIBLE,
            f"{linked}{len(units)} {what} cannot be divided into {len(wanted)} splits ({', '.join(wanted)}); {drop}add images,"
            " or set the ratio of a split to 0",
            "split.ratios",
        )
    if policy.policy == "GroupedTemporal":
        return _temporal(units, policy, images)
    if policy.policy == "Stratified":
        chosen = _stratified(units, policy.ratios)
    elif policy.policy == "Grouped":
        groups = [
            grouping.Group(unit.size, tuple(sorted(unit.shown.items(), key=lambda item: item[0] or "")), unit.order)
            for unit in units
        ]
        parts = grouping.divide(groups, shares(sum(unit.size for unit in units), policy.ratios))
        chosen = list(zip(units, parts, strict=True))
    else:
        chosen = _greedy(units, policy.ratios)
    splits = {path: split for unit, split in chosen for path in unit.paths}
    _require_splits(splits, wanted, units, policy)
    return splits


def _greedy(units: Sequence[_Unit], ratios: Ratios) -> list[tuple[_Unit, Split]]:
    """Assign each unit to the split that lacks most images; the last ones go to splits that would stay empty."""
    lacking = shares(sum(unit.size for unit in units), ratios)
    empty = set(lacking)
    chosen = []
    for index, unit in enumerate(units):
        open_to = [split for split in lacking if split in empty] if len(units) - index <= len(empty) else list(lacking)
        split = max(open_to, key=lambda name: (lacking[name], -SPLITS.index(name)))
        lacking[split] -= unit.size
        empty.discard(split)
        chosen.append((unit, split))
    return chosen


def _stratified(units: Sequence[_Unit], ratios: Ratios) -> list[tuple[_Unit, Split]]:
    """Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, doi:10.1007/978-3-642-23808-6_10): rarest class first.

    Works for one class per image and for many. Images without any class are divided like a separate class. A class of two
    images has no whole shares, so the rounding error of one class is carried to the next, and all together keep the ratios. Train
    shows every class, and so does every other split if that keeps it close to its ratio.
    """
    of_label: dict[str | None, list[_Unit]] = defaultdict(list)
    for unit in units:
        for label in unit.labels or {None}:
            of_label[label].append(unit)
    wanted = {split: getattr(ratios, split) for split in SPLITS if getattr(ratios, split) > 0}
    held = Counter[Split]()
    held_of: dict[str | None, Counter[Split]] = defaultdict(Counter)
    left = {label: len(members) for label, members in of_label.items()}
    showing = _showing_all([members for label, members in of_label.items() if label is not None], wanted)
    chosen: dict[tuple[str, ...], tuple[_Unit, Split]] = {}
    while left:
        rarest = min(left, key=lambda label: (left[label], of_label[label][0].order, label or ""))
        row = [unit for unit in of_label[rarest] if unit.paths not in chosen]
        lacking = _lacking(sum(unit.size for unit in row), wanted, held, held_of[rarest])
        absent = showing if rarest is not None and len(of_label[rarest]) >= len(wanted) else []
        for unit in row:
            lasts = [label for label in unit.labels if left.get(label) == 1]
            first = [split for split in absent if not held_of[rarest][split]]
            if any(not held_of[label]["train"] for label in [*lasts, *{rarest}.intersection(unit.labels)]):
                split: Split = "train"
            else:
                split = first[0] if first else max(lacking, key=lambda name: (lacking[name], -SPLITS.index(name)))
            chosen[unit.paths] = (unit, split)
            lacking[split] -= unit.size * sum(wanted.values())
            held[split] += unit.size
            for label in unit.labels or {None}:
                held_of[label][split] += unit.size
                if label in left:
                    left[label] -= 1
        del left[rarest]
    return _filled(list(chosen.values()), wanted)


def _lacking(
    images: int, wanted: Mapping[Split, int], held: Mapping[Split, int], held_of: Mapping[Split, int]
) -> dict[Split, int]:
    """How many of a class's images each split should get, in fractions of an image: its share, plus its present deficit.

    It may lack images of this class, because other classes on them decided, and images in general; these may be the same images.
    A class compensates for others with only a part of its images: otherwise train might get hardly any of it.
    """
    whole = sum(wanted.values())
    most = whole * max(1, images // CARRIED)
    lacking = {}
    for split, ratio in wanted.items():
        of_class = ratio * sum(held_of.values()) - whole * held_of[split]
        of_all = min(most, max(-most, ratio * sum(held.values()) - whole * held[split]))
        both = max(of_class, of_all, key=abs) if of_class * of_all > 0 else of_class + of_all
        lacking[split] = ratio * images + both
    return lacking


def _showing_all(classes: Sequence[Sequence[_Unit]], wanted: Mapping[Split, int]) -> list[Split]:
    """The splits that can show every class with enough images for all splits, and still stay close to their ratio."""
    whole = sum(wanted.values())
    sizes = [sum(unit.size for unit in members) for members in classes]
    beyond = {
        split: sum(
            max(0, whole - size * ratio)
            for size, members in zip(sizes, classes, strict=True)
            if len(members) >= len(wanted)
        )
        for split, ratio in wanted.items()
    }
    return [split for split in wanted if beyond[split] <= whole * max(1, sum(sizes) * SHOWING / 100)]


def _temporal(units: Sequence[_Unit], policy: SplitPolicy, images: Sequence[ImageRecord]) -> dict[str, Split]:
    """The splits of images, the earliest in train; images within the gap get none."""
    holding_out.require_known(images, "time", "split.policy GroupedTemporal")
    of_path = {image.path: image for image in images}
    numbers = {label: number for number, label in enumerate(sorted({label for unit in units for label in unit.labels}))}
    dated = [
        temporal.Dated(
            unit.paths,
            [[numbers[label] for label in sorted(of_path[path].labels)] for path in unit.paths],
            [_moments(of_path[path]) for path in unit.paths],
        )
        for unit in units
    ]
    gap = durations.parse(policy.gap or "0s")
    found = temporal.cut(dated, shares(len(of_path), policy.ratios), len(numbers), gap // timedelta(microseconds=1))
    if found is None:
        raise RefusedError(
            Reason.SPLIT_IMPOSSIBLE,
            f"{len(units)} groups cannot be cut into {len(shares(len(of_path), policy.ratios))} splits that follow each other in"
            f" time with split.gap {policy.gap or '0s'} between them: too few begin at different times, or all images of a split"
            " lie within the gap; lower split.gap, group by less (split.groupBy), or use Grouped",
            "split.gap" if policy.gap else "split.policy",
        )
    return dict(found.splits)


def _moments(image: ImageRecord) -> tuple[int, int]:
    """The microseconds since ``_ZERO`` between which the image was taken."""
    assert image.capture is not None
    found = image.capture.moments
    assert found is not None
    begin, end = ((moment - _ZERO) // timedelta(microseconds=1) for moment in found)
    return begin, end


def _filled(chosen: list[tuple[_Unit, Split]], wanted: Mapping[Split, int]) -> list[tuple[_Unit, Split]]:
    """``chosen`` with an image in every split, if one can be spared: never the only one that shows a class in train."""
    for empty in wanted:
        counts = Counter(split for _, split in chosen)
        if counts[empty]:
            continue
        taught = Counter(label for unit, split in chosen if split == "train" for label in unit.labels)
        spared = [
            (place, split)
            for place, (unit, split) in enumerate(chosen)
            if counts[split] > 1 and (split != "train" or all(taught[label] > 1 for label in unit.labels))
        ]
        if spared:
            place, _ = max(spared, key=lambda one: (counts[one[1]], -chosen[one[0]][0].size, -one[0]))
            chosen[place] = (chosen[place][0], empty)
    return chosen


def _provided(images: Sequence[ImageRecord], overlapping: Sequence[str]) -> dict[str, Split]:
    splits = {image.path: image.split for image in images if image.split is not None}
    without = {image.file for image in images if image.split is None}
    if without or "train" not in splits.values():
        several = sorted({*overlapping}.intersection(without))
        nowhere = sorted(without.difference(several))
        found = [f"{len(several)} images stand in more than one split ({format_names(several)})"] if several else []
        found += [f"{len(nowhere)} images stand in no split ({format_names(nowhere)})"] if nowhere else []
        raise RefusedError(
            Reason.SPLIT_IMPOSSIBLE,
            f"split.policy is Provided, but {' and '.join(found) or 'no image stands in train'}; name folders or files train, val"
            " and test, with each image in one of them, or use Stratified",
            "split.policy",
        )
    return splits


# --- checks


def _leaking(
    divided: Sequence[ImageRecord],
    splits: Mapping[str, Split],
    repeats: Mapping[str, str],
    alike: Mapping[str, Sequence[str]],
) -> tuple[int, list[str]]:
    """The number of groups, duplicates and near duplicates in more than one split, and warnings about them."""
    warnings = []
    placed = Counter(group for group, _ in {(image.group, image.split) for image in divided} if group is not None)
    groups = sorted(group for group, count in placed.items() if count > 1)
    copies = sorted(
        path for path, first in repeats.items() if {path, first} <= splits.keys() and splits[path] != splits[first]
    )
    if groups:
        warnings.append(
            f"{len(groups)} groups stand in more than one split: {format_names(groups)}; test metrics may be too good:"
            " use split.policy Grouped"
        )
    if copies:
        warnings.append(
            f"{len(copies)} duplicates stand in another split than the image that they repeat: {format_names(copies)}"
        )
    near = _apart(splits, {path: alike[path] for path in alike.keys() - set(copies)})
    if near:
        warnings.append(
            f"{len(near)} images look like one in another split: {format_names(near)}; test metrics may be too good: set"
            " cleaning.duplicates.maxDistance to drop them or, with action Keep, to have them in one split"
        )
    return len(groups) + len(copies) + len(near), warnings


def _require_splits(
    splits: Mapping[str, Split], wanted: Sequence[Split], units: Sequence[_Unit], policy: SplitPolicy
) -> None:
    empty = [split for split in wanted if split not in splits.values()]
    if not empty:
        return
    together = ", and duplicates, groups and tiles of one image stay together" if len(units) < len(splits) else ""
    classes = {label for unit in units for label in unit.labels}
    if policy.policy == "Stratified":
        together += f", and train needs one of each of {len(classes)} classes"
    raise RefusedError(
        Reason.SPLIT_IMPOSSIBLE,
        f"the split {' and '.join(empty)} would be empty: there are {len(splits)} images{together}; add images, or set the"
        " ratio of a split to 0",
        "split.ratios",
    )


def _require_classes(images: Sequence[ImageRecord], policy: SplitPolicy, before: Sequence[ImageRecord]) -> None:
    """Raise RefusedError, CLASS_MISSING_FROM_TRAIN. ``before`` also has the images between splits."""
    shown = {label for image in images if image.split == "train" for label in image.labels}
    missing = sorted(frozenset[str]().union(*(image.labels for image in before)) - shown)
    if missing:
        told = missing
        if policy.policy in _WHOLE:  # a single group may have all images of a class
            groups = {label: {image.group for image in images if label in image.labels} for label in missing}
            alone = {label: found.pop() for label, found in groups.items() if len(found) == 1}
            told = [
                label if alone.get(label) is None else f"{label} (all in the group {alone[label]})" for label in missing
            ]
        hold = "hold out less (split.holdout), " if policy.holdout is not None else ""
        if between := len(before) - len(images):
            hold += (
                f"lower split.gap or group by less (split.groupBy), as {between} of {len(before)} images lie between the"
                " splits or beyond the beginning of the next one, "
            )
        raise RefusedError(
            Reason.CLASS_MISSING_FROM_TRAIN,
            f"{len(missing)} classes have no image in train: {format_names(told)}; a model cannot learn them: add images of them"
            f" (policy {policy.policy}, seed {policy.seed}), {hold}or use Stratified",
            "split",
        )


def _far_from_ratios(splits: Mapping[str, Split], policy: SplitPolicy, images: Sequence[ImageRecord]) -> list[str]:
    """A warning if the splits are far from the ratios: classes, groups and duplicates may allow no better."""
    counts = Counter(splits.values())
    asked = shares(len(splits), policy.ratios)
    if all(abs(counts[split] - count) <= max(2, OFF * len(splits) / 100) for split, count in asked.items()):
        return []
    found = ", ".join(f"{split} {counts[split]}" for split in asked)
    ratios = ", ".join(f"{split} {count}" for split, count in asked.items())
    why = {
        "Stratified": "images of rare classes go to train first",
        "Grouped": "groups stay whole, and train needs every class",
        "GroupedTemporal": "groups stay whole and in their order in time, and train needs every class",
    }.get(policy.policy, "duplicates stay together")
    if any(image.part is not None for image in images):
        why = "all tiles of an image are in one split"
    return [f"the splits are far from split.ratios: {found} images, where {ratios} were asked for ({why})"]


def _between(left: Sequence[Exclusion], images: int, policy: SplitPolicy) -> list[str]:
    if not left:
        return []
    told = "lie in time between two splits, or beyond the beginning of the next one, and are left out"
    shown = format_names(one.path for one in left)
    return [f"{len(left)} of {images} images {told} (split.gap {policy.gap or '0s'}): {shown}"]


def _unseen(images: Sequence[ImageRecord], missing: Sequence[Split]) -> list[str]:
    """Warnings about classes that a split does not show, so that its figures say nothing about them."""
    shown = {split: {label for image in images if image.split == split for label in image.labels} for split in SPLITS}
    unseen = {split: sorted(shown["train"] - shown[split]) for split in SPLITS[1:] if split not in missing}
    return [
        f"{len(names)} classes have no image in the split {split}, whose figures say nothing about them: {format_names(names)}"
        for split, names in unseen.items()
        if names
    ]


def _divided_anew(images: Sequence[ImageRecord], policy: SplitPolicy) -> list[str]:
    given = Counter(image.split for image in images if image.split is not None)
    if not given:
        return []
    counts = ", ".join(f"{split} {given[split]}" for split in SPLITS if given[split])
    found = f"the source comes with splits ({counts}), which split.policy {policy.policy} does not keep"
    return [f"{found}: images that it holds back may be trained on; set split.policy to Provided to keep them"]


def _apart(splits: Mapping[str, Split], alike: Mapping[str, Sequence[str]]) -> list[str]:
    """Images that look like one in another split, each with the first of those. Dropped images have no split."""
    found = []
    for path, earlier in sorted(alike.items()):
        others = [one for one in earlier if one in splits and path in splits and splits[one] != splits[path]]
        if others:
            found.append(f"{path} and {others[0]}")
    return found
