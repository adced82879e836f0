"""Whether the newest version is good enough to train on: what spec.quality asks of the figures that its preparation counted.

Gates are no inputs: changing one judges the same figures again, and nothing is prepared for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pelagos.api import reasons
from pelagos.api.dataset import DatasetVersion
from pelagos.api.judgement import QualityGates
from pelagos.decisions.chains import Passed
from pelagos.decisions.dataset.conditions import QUALITY_PASSED
from pelagos.decisions.dataset.observed import Observed
from pelagos.decisions.verdicts import ConditionState, Verdict
from pelagos_contract.text import shown

MOST_NAMED = 5
"""Classes that a message lists."""
LONGEST_NAME = 60
"""Characters of each in it."""
_BOUNDS = ("min_images_per_class", "max_imbalance", "max_duplicates")


def judged(seen: Observed) -> Passed:
    """What blocks keeps the Dataset from being Ready; the version is prepared all the same, and can be looked at."""
    return Passed((judge(seen.spec.quality, seen.result),))


def judge(gates: QualityGates | None, result: Mapping[str, Any]) -> Verdict:
    """The verdict about what a preparation reported."""
    asked = 0 if gates is None else sum(getattr(gates, name) is not None for name in _BOUNDS)
    if gates is None or not asked:
        return Verdict(QUALITY_PASSED, ConditionState.DONE, reasons.NO_QUALITY_GATES, "spec.quality asks for nothing")
    failures = list(_failures(gates, result))
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
    """Whether a gate that does not pass keeps trainings from starting."""
    return gates is not None and gates.on_fail != "Warn"


def marked(seen: Observed, versions: Sequence[DatasetVersion]) -> list[DatasetVersion]:
    """The versions, the newest one with why no training may start on it.

    Earlier ones keep what was said of them while they were the newest, as their figures are not here any more, until nothing
    blocks at all.
    """
    newest, *earlier = versions
    verdict = judge(seen.spec.quality, seen.result)
    blocked = verdict.message if verdict.state is ConditionState.REFUSED else None
    if not blocks(seen.spec.quality):
        earlier = [version.model_copy(update={"blocked": None}) for version in earlier]
    return [newest.model_copy(update={"blocked": blocked}), *earlier]


def _failures(gates: QualityGates, result: Mapping[str, Any]) -> Iterator[str]:
    """What does not pass: field, value, what is allowed, and what to do."""
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


def _imbalance(most: Decimal, classes: Mapping[str, int]) -> Iterator[str]:
    rarest, largest = min(classes, key=lambda name: classes[name]), max(classes, key=lambda name: classes[name])
    # Without a division: a class may have no image at all.
    if classes[largest] <= most * classes[rarest]:
        return
    ratio = f"{classes[largest] / classes[rarest]:.4g}" if classes[rarest] else "infinitely many"
    yield (
        f"spec.quality.maxImbalance: {_named({largest: classes[largest]})} has {ratio} times the images of"
        f" {_named({rarest: classes[rarest]})}, and {most} times are allowed; add images of the rare classes, or merge or exclude"
        " them by spec.labels"
    )


def _duplicates(most: Decimal, counted: Mapping[str, Any]) -> Iterator[str]:
    found, exact, near = (int(counted[name]) for name in ("found", "duplicates", "nearDuplicates"))
    if exact + near > most * found:
        yield (
            f"spec.quality.maxDuplicates: {exact} of {found} images repeat an earlier one and {near} look like one, which is a"
            f" share of {(exact + near) / found:.3g}, and {most} is allowed; remove them from the source"
        )


def _named(classes: Mapping[str, int]) -> str:
    """The rarest of them, with how many images show each."""
    rarest = sorted(classes, key=lambda name: (classes[name], name))
    told = [f"{_short(name)} ({classes[name]})" for name in rarest[:MOST_NAMED]]
    return ", ".join(told) + (f" and {len(rarest) - MOST_NAMED} more" if len(rarest) > MOST_NAMED else "")


def _short(name: str) -> str:
    return shown(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")
