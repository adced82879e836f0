"""Whether the newest version is good enough to train on, by the gates in spec.quality and the figures from its preparation.

Gates are not inputs: after a change of one, the same figures are judged again, and no version is prepared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pelagos.api import reasons
from pelagos.api.dataset import DatasetSpec, DatasetVersion
from pelagos.api.judgement import QualityGates
from pelagos.decisions.chains import Passed
from pelagos.decisions.dataset.conditions import QUALITY_PASSED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract.judgement import HINTS
from pelagos_contract.text import shown

MOST_NAMED = 5
"""Most classes that a message lists."""
LONGEST_NAME = 60
"""Most characters of each name in it."""
_BOUNDS = ("min_images_per_class", "max_imbalance", "max_duplicates", "max_leakage")
_TORN = "groups of the source are in more than one of its splits"
"""Text of the finding about every version whose splits come from the source. It also identifies versions that it blocks."""


def judged(seen: Observed) -> Passed:
    """QualityPassed. A gate that blocks keeps the Dataset from being Ready, but the version exists and can be inspected."""
    return Passed((judge(seen.spec, seen.result),))


def judge(spec: DatasetSpec, result: Mapping[str, Any]) -> Verdict:
    """The verdict about a preparation's result."""
    gates = spec.quality or QualityGates()
    asked = sum(getattr(gates, name) is not None for name in _BOUNDS)
    failures = [*_failures(gates, result), *_torn_groups(spec, result)]
    if not failures and not asked:
        return Verdict(QUALITY_PASSED, ConditionState.DONE, reasons.NO_QUALITY_GATES, "spec.quality sets no gates")
    if not failures:
        return Verdict(
            QUALITY_PASSED,
            ConditionState.DONE,
            reasons.QUALITY_PASSED,
            f"{asked} of {asked} gates of spec.quality passed",
        )
    state = ConditionState.REFUSED if blocks(gates) else ConditionState.NOTED
    ends = "no TrainingRun starts on the version" if blocks(gates) else "spec.quality.onFail is Warn"
    return Verdict(QUALITY_PASSED, state, reasons.QUALITY_FAILED, f"{'; '.join(failures)} ({ends})")


def blocks(gates: QualityGates | None) -> bool:
    """Whether a gate that is not passed keeps trainings from starting."""
    return gates is None or gates.on_fail != "Warn"


def marked(seen: Observed, versions: Sequence[DatasetVersion]) -> list[DatasetVersion]:
    """The versions; the newest one with the reason why no training may start on it, if there is one.

    Earlier versions keep the reason that they had while they were the newest, since their figures are no longer known, until no
    gate blocks at all.
    """
    newest, *earlier = versions
    verdict = judge(seen.spec, seen.result)
    blocked = verdict.message if verdict.state is ConditionState.REFUSED else None
    gates = seen.spec.quality
    # The finding about splits of the source blocks without any gate, so it remains when all gates are removed.
    if gates is None:
        earlier = [version if _TORN in (version.blocked or "") else _opened(version) for version in earlier]
    elif not blocks(gates):
        earlier = [_opened(version) for version in earlier]
    return [newest.model_copy(update={"blocked": blocked}), *earlier]


def _opened(version: DatasetVersion) -> DatasetVersion:
    return version.model_copy(update={"blocked": None})


def _failures(gates: QualityGates, result: Mapping[str, Any]) -> Iterator[str]:
    """A message for each gate that is not passed: the field, its value, the allowed values, and advice."""
    classes = {str(entry["name"]): int(entry["images"]) for entry in result["classes"]}
    fewest = gates.min_images_per_class
    if fewest is not None and (few := {name: images for name, images in classes.items() if images < fewest}):
        yield (
            f"spec.quality.minImagesPerClass: {len(few)} of {len(classes)} classes have fewer than {fewest} images:"
            f" {_named(few)}; add images of them, or merge or exclude them by spec.labels"
        )
    if gates.max_imbalance is not None and classes:
        yield from _imbalance(Decimal(gates.max_imbalance), classes)
    if gates.max_duplicates is not None:
        yield from _duplicates(Decimal(gates.max_duplicates), result["quality"])
    if gates.max_leakage is not None:
        yield from _leakage(Decimal(gates.max_leakage), result.get("leakage"))


def _imbalance(most: Decimal, classes: Mapping[str, int]) -> Iterator[str]:
    rarest, largest = min(classes, key=lambda name: classes[name]), max(classes, key=lambda name: classes[name])
    # A product and not a quotient, since a class may have no images.
    if classes[largest] <= most * classes[rarest]:
        return
    ratio = f"{classes[largest] / classes[rarest]:.4g}" if classes[rarest] else "infinitely many"
    yield (
        f"spec.quality.maxImbalance: {_named({largest: classes[largest]})} has {ratio} times the images of"
        f" {_named({rarest: classes[rarest]})}; at most {most} times as many are allowed. Add images of the rare classes, or "
        "merge or exclude them by spec.labels"
    )


def _duplicates(most: Decimal, counted: Mapping[str, Any]) -> Iterator[str]:
    found, exact, near = (int(counted[name]) for name in ("found", "duplicates", "nearDuplicates"))
    if exact + near > most * found:
        yield (
            f"spec.quality.maxDuplicates: {exact} of {found} images repeat an earlier one and {near} look like one: a share of "
            f"{(exact + near) / found:.3g}, and at most {most} is allowed; remove them from the source"
        )


def _leakage(most: Decimal, counted: Mapping[str, Any] | None) -> Iterator[str]:
    if counted is None:
        yield (
            "spec.quality.maxLeakage: leakage between splits was not measured, because an earlier release prepared this version; "
            "set the annotation pelagos.dev/retry to a new value to measure it"
        )
        return
    evaluated, leaked = int(counted["evaluated"]), int(counted["leaked"])
    if leaked > most * evaluated:
        yield (
            f"spec.quality.maxLeakage: {leaked} of {evaluated} images of validation and test belong together with images of "
            f"an earlier split ({_links(counted)}): a share of {leaked / evaluated:.3g}, and at most {most} is allowed; use"
            " split.policy Grouped, drop near duplicates by cleaning.duplicates.maxDistance, or correct the splits of the source"
        )


def _torn_groups(spec: DatasetSpec, result: Mapping[str, Any]) -> Iterator[str]:
    """The finding about groups that splits of the source divide, unless maxLeakage bounds that.

    With other policies, spec says whether groups may be divided.
    """
    counted = result.get("leakage")
    is_asked = spec.quality is not None and spec.quality.max_leakage is not None
    if counted is None or is_asked or spec.split.policy != "Provided" or not int(counted["sharedGroups"]):
        return
    yield (
        f"spec.quality.maxLeakage: {counted['sharedGroups']} {_TORN} ({_links(counted)}), so metrics measured on them would be "
        "too good; correct the splits of the source, set split.policy to Grouped, or set maxLeakage to the share that you allow"
    )


def _links(counted: Mapping[str, Any]) -> str:
    """What leaks between which splits, in the order in which it was counted. Hints do not count as leaks."""
    told = [
        f"{entry['images']} of {entry['split']} by {_short(str(entry['kind']))} with {entry['other']}"
        for entry in counted.get("found") or ()
        if entry["kind"] not in HINTS
    ]
    return ", ".join(told[:MOST_NAMED])


def _named(classes: Mapping[str, int]) -> str:
    """The rarest of the classes, each with the number of its images."""
    rarest = sorted(classes, key=lambda name: (classes[name], name))
    told = [f"{_short(name)} ({classes[name]})" for name in rarest[:MOST_NAMED]]
    return ", ".join(told) + (f" and {len(rarest) - MOST_NAMED} more" if len(rarest) > MOST_NAMED else "")


def _short(name: str) -> str:
    return shown(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")
