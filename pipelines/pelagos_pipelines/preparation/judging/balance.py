"""The report's section about the balance of the training split: the plan and its cost. Called by page.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pelagos_contract.balancing import Balanced, BalancedClass
from pelagos_pipelines.pages import words
from pelagos_pipelines.preparation.judging import drawing

MOST = 60
"""The most rows: the classes with the highest and the lowest counts before balancing."""
BEFORE, AFTER = "#999999", "#0072B2"
_DONE = {
    "Oversample": "An epoch shows images of rarer classes several times; nothing is copied.",
    "Undersample": "An epoch leaves images out that only show frequent classes; they stay in the version.",
    "ClassWeights": "Mistakes on rarer classes weigh more in the loss.",
}


def section(found: Balanced | None) -> Iterator[str]:
    """The section's HTML; nothing if no balance is declared."""
    if found is None:
        return
    unit = found.counted.lower()
    before, after = found.effective_classes
    yield f"<h2>Balance of the training split</h2><p>{words(found.strategy)} to {found.target} {words(unit)} of a class."
    yield f" {_DONE.get(found.strategy, '')} Validation and test are as they are.</p>"
    yield (
        f"<p>An epoch shows {found.shown} images, of {found.images} in the split, and none more than {found.most_repeats} times."
        f" By how evenly they are shown, the classes weigh as much as {words(before)} equally frequent ones before, and"
        f" {words(after)} after. That is no new knowledge: what an epoch shows says as much as {words(found.effective)} different"
        f" {words(unit)} that all count alike (effective sample size; Kish, 1965).</p>"
    )
    if found.left_out is not None:
        yield (
            f"<p>{found.left_out.images} images are left out ({words(found.left_out.reason)}: all classes that they show have"
            f" enough others), for example {words(', '.join(found.left_out.first))}.</p>"
        )
    yield from _table(_shown(found.classes), unit, weighs=found.strategy == "ClassWeights")


def _shown(classes: Sequence[BalancedClass]) -> Sequence[BalancedClass]:
    order = sorted(classes, key=lambda one: (-one.before, one.name))
    return order if len(order) <= MOST else order[: MOST // 2] + order[-MOST // 2 :]


def _table(rows: Sequence[BalancedClass], unit: str, *, weighs: bool) -> Iterator[str]:
    if not rows:
        return
    names = [name for one in rows for name in (f"{one.name}, before", f"{one.name}, after")]
    parts = np.array([part for one in rows for part in ((one.before, 0.0), (0.0, float(one.after)))])
    figures = [told for one in rows for told in (str(one.before), one.after)]
    bars = drawing.bars(names, parts, {"before": BEFORE, "after": AFTER}, figures, f"Training {unit} of each class")
    yield f'<div class="wide">{bars.svg}</div>'
    last = "weight" if weighs else "left out"
    yield f"<table><tr><th>class</th><th class=n>{unit} before</th><th class=n>after</th><th class=n>{last}</th></tr>"
    for one in rows:
        more = one.weight if weighs else one.left_out
        yield (
            f"<tr><td>{words(one.name)}</td><td class=n>{one.before}</td><td class=n>{words(one.after)}</td>"
            f"<td class=n>{words(more)}</td></tr>"
        )
    yield "</table>"
