"""Leave-one-group-out: the splits of a model trained without the images of one group, and the combined metrics of all such
models.

Measuring a model on an unseen site estimates its quality on the next site, which a random split of images does not (Roberts et
al. 2017, "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40,
doi:10.1111/ecog.02881). Pure functions; nothing is trained here.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pelagos_contract import metrics as names
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.progress import LONGEST_VALUE, MOST_LEFT_OUT
from pelagos_contract.splits import SPLITS, Split
from pelagos_pipelines.annotations.untrusted_input import format_names, printable
from pelagos_pipelines.evaluation import fields
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample

FIELD = "spec.evaluation.leaveOneOut"
_SHARE = 10
"""A tenth of the images is used for validation if the version's validation split has none or all of them."""


@dataclass(frozen=True)
class Groups:
    """The images of all splits by the value of a field; ``unknown`` are those without a known value."""

    images: Mapping[str, Sequence[Sample]]
    unknown: Sequence[Sample]


def of(known: GroundTruth, field: str) -> Groups:
    """The groups of a version.

    Raises:
        RefusedError: LEAVE_ONE_OUT_IMPOSSIBLE when there are fewer than two or more than MOST_LEFT_OUT, or a value is longer than
            LONGEST_VALUE.
    """
    samples = _all(known)
    by_value: dict[str, list[Sample]] = {}
    unknown = []
    for sample, value in zip(samples, fields.values(samples, field), strict=True):
        if value is None:
            unknown.append(sample)
        else:
            by_value.setdefault(value, []).append(sample)
    if not by_value:
        there = ", ".join(fields.known(samples)) or "none: the Dataset has no spec.capture, or it says nothing of them"
        raise _impossible(f"names {field}, which no image has; fields that images have: {there}")
    if len(by_value) == 1:
        (only,) = by_value
        raise _impossible(
            f"names {field}, which is {printable(only)} of all images that have it: without them there is nothing to train on;"
            " name a field with two values or more"
        )
    if len(by_value) > MOST_LEFT_OUT:
        raise _impossible(
            f"names {field}, which has {len(by_value)} values: as many models would be trained, and at most {MOST_LEFT_OUT} are;"
            " name a coarser field"
        )
    if len(longest := max(by_value, key=len)) > LONGEST_VALUE:
        raise _impossible(
            f"names {field}, which has a value of {len(longest)} characters, {printable(longest)}; at most {LONGEST_VALUE} are"
            " told in status: give it a shorter name, or name another field"
        )
    return Groups(dict(sorted(by_value.items())), unknown)


def without(known: GroundTruth, groups: Groups, value: str) -> GroundTruth:
    """The splits of the model without ``value``: the images with it, from all splits, are the test split.

    Other images of the version's validation split stay there, and the rest is for training. If that leaves the training or the
    validation split empty, a tenth is for validation, selected by the SHA-256 of group names; groups stay whole.
    """
    others = {sample.name for key, samples in groups.images.items() if key != value for sample in samples}
    rest = [sample for sample in _all(known) if sample.name in others]
    validation = {sample.name for sample in known.samples("validation")} & others
    if not validation or len(validation) == len(others):
        validation = _tenth(rest)
    by_split: dict[Split, tuple[Sample, ...]] = {
        "train": tuple(sample for sample in rest if sample.name not in validation),
        "validation": tuple(sample for sample in rest if sample.name in validation),
        "test": tuple(groups.images[value]),
    }
    if not by_split["train"] or not by_split["validation"]:
        raise _impossible(
            f"leaves {len(rest)} images without {printable(value)}, which cannot be divided into some to train on and some to"
            " validate on"
        )
    return replace(known, by_split=by_split)


def untaught(truth: GroundTruth) -> list[str]:
    """Classes that occur in the group but in no training image."""
    shown = {split: {int(one) for sample in truth.samples(split) for one in sample.class_ids} for split in SPLITS}
    return [truth.labels[one] for one in sorted(shown["test"] - shown["train"])]


def together(
    field: str, each: Mapping[str, Mapping[str, float | None]]
) -> tuple[dict[str, float | None], dict[str, float]]:
    """Metrics of each group and their means, by their names; and sample standard deviations (n - 1) over the groups.

    ``each`` has, by value, the metrics of the model without it on its images (``test/<metric>``). A mean weighs all groups that
    have the metric equally, whatever their size; None if no group has it.
    """
    found: dict[str, float | None] = {}
    values: dict[str, list[float]] = {}
    for value, metrics in each.items():
        for name, figure in metrics.items():
            told = names.parsed(name)
            if told is None or told.kind is not names.Kind.TEST or told.label is not None:
                continue
            found[names.of_left_out(field, told.metric, value)] = figure
            if told.metric not in names.SETTINGS:
                values.setdefault(told.metric, []).extend([] if figure is None else [figure])
    means = {names.of_left_out(field, name): statistics.fmean(some) if some else None for name, some in values.items()}
    spread = {names.of_left_out(field, name): statistics.stdev(some) for name, some in values.items() if len(some) > 1}
    return found | means, spread


def excluded(field: str, unknown: Sequence[str], many: int) -> list[str]:
    """The warning about ``many`` images without a known value, of which ``unknown`` are the first."""
    if not many:
        return []
    return [
        f"{many} images have no {field}, and are in no model and no figure of leaveOneOut: {format_names(unknown, of=many)}"
    ]


def _all(known: GroundTruth) -> list[Sample]:
    """The images of all splits, sorted by name as in the version."""
    return sorted((sample for split in SPLITS for sample in known.samples(split)), key=lambda sample: sample.name)


def _tenth(rest: Sequence[Sample]) -> set[str]:
    """Names of a tenth of the images, or slightly more, since tiles of one file, and groups, stay together."""
    kept: dict[str, list[str]] = {}
    for sample in rest:
        kept.setdefault(sample.group or sample.source or sample.name, []).append(sample.name)
    chosen: set[str] = set()
    for whole in sorted(kept, key=lambda one: hashlib.sha256(one.encode()).digest()):
        if len(chosen) * _SHARE >= len(rest):
            break
        chosen.update(kept[whole])
    return chosen


def _impossible(words: str) -> RefusedError:
    return RefusedError(Reason.LEAVE_ONE_OUT_IMPOSSIBLE, f"{FIELD} {words}", FIELD)
