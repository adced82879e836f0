"""Plans how often an epoch shows each training image, and what each class weighs. Decided once, and kept in the version.

Called by the step prepare after splitting. The same images, split and seed give the same plan on every machine: random choices
follow from a hash of the seed and of an image's content. Trainings carry out the plan, and decide nothing.

* Oversample, if each image shows one class: a class below the target is shown exactly as often as the target. If images show
  several: repeat factor sampling (Gupta, Dollár and Girshick, LVIS, CVPR 2019, doi:10.1109/CVPR.2019.00550). A class in
  ``shown`` images requires max(1, sqrt(target / shown)) repeats, and an image gets the maximum over its classes. A fraction
  becomes one more repeat for that share of the images.
* Undersample: images are left out in random order, as long as every class that an image shows keeps as many as the target.
  Images that show nothing stay, because they teach the background.
* ClassWeights: max(1, target / count), which is the inverse frequency if the largest class is the target (King and Zeng,
  Political Analysis 9, 2001), at most MOST_WEIGHT, and scaled to a mean of 1 over the classes.

The cost of repeats and weights is reported as the effective number (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965). For counts
of classes, that is Hill's number of order 2.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pelagos_contract.balancing import (
    ABOVE_TARGET,
    MOST_REPEATS,
    MOST_WEIGHT,
    Balance,
    Balanced,
    BalancedClass,
    LeftOut,
    Strategy,
)
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.model import Collection, ImageRecord
from pelagos_pipelines.annotations.tasks import TASKS
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, format_names, printable

_STRATEGIES = frozenset(get_args(Strategy)) - {"None"}
_DIGITS = 6
_MANY_REPEATS = 10
"""Repeats of an image per epoch from which on a warning says that it may be learnt by heart."""


@dataclass(frozen=True)
class Plan:
    """A plan. ``repeats`` maps paths of training images to how often an epoch shows them: once if absent, never if 0.

    ``weights`` has the weights of the classes in the loss, in order.
    """

    strategy: str
    target: int
    repeats: Mapping[str, int]
    weights: tuple[float, ...] | None = None

    def written(self) -> dict[str, Any]:
        """The plan's entry in a manifest."""
        weights = {} if self.weights is None else {"weights": list(self.weights)}
        return {"strategy": self.strategy, "target": self.target, "repeats": dict(self.repeats)} | weights

    @classmethod
    def restored(cls, found: Any, images: Iterable[ImageRecord], classes: Sequence[str]) -> Plan:
        """The plan from a manifest, which is untrusted. Raises ValueError for anything that no preparation plans."""
        training = {image.path for image in images if image.split == "train"}
        strategy, target = found["strategy"], found["target"]
        repeats, weights = found["repeats"], found.get("weights")
        if strategy not in _STRATEGIES or type(target) is not int or target < 0:
            raise ValueError("balance")
        if not isinstance(repeats, dict) or not repeats.keys() <= training:
            raise ValueError("balance.repeats")
        if any(type(times) is not int or not 0 <= times <= MOST_REPEATS for times in repeats.values()):
            raise ValueError("balance.repeats")
        if training and not any(repeats.get(path, 1) for path in training):
            raise ValueError("balance.repeats")
        if weights is not None:
            usual = [isinstance(one, int | float) and 0 < one <= MOST_WEIGHT for one in weights]
            if len(usual) != len(classes) or not all(usual):
                raise ValueError("balance.weights")
        return cls(strategy, target, repeats, None if weights is None else tuple(float(one) for one in weights))


def plan(
    images: Sequence[ImageRecord], classes: Sequence[str], task: Task, declared: Balance, order: Callable[[str], float]
) -> Plan:
    """The plan for ``declared``; ``order`` returns a random number in [0, 1) for a path, see `chance`."""
    training = sorted((image for image in images if image.split == "train"), key=lambda image: image.path)
    weighs = declared.strategy == "ClassWeights"
    counts = _annotations(training, task) if weighs else _showing(training)
    target = _target(declared.aim, counts)
    if weighs:
        return Plan(declared.strategy, target, {}, _weights(classes, counts, target))
    times = _left_out if declared.strategy == "Undersample" else _repeated
    found = times(training, counts, target, order)
    return Plan(declared.strategy, target, {path: many for path, many in found.items() if many != 1})


def chance(seed: int, digests: Mapping[str, str]) -> Callable[[str], float]:
    """A function from paths to numbers in [0, 1), by seed and content, and by path for images with the same content."""

    def number(path: str) -> float:
        told = hashlib.sha256(f"balance {seed} {digests[path]} {path}".encode()).digest()
        return int.from_bytes(told[:6], "big") / 2**48

    return number


def effective(values: Mapping[float, int]) -> float:
    """The effective number, (sum w)^2 / sum w^2, of values w, each with its number of occurrences; 0 for no values."""
    total, squares = (math.fsum(many * value**power for value, many in values.items()) for power in (1, 2))
    return total**2 / squares if squares else 0.0


def told(found: Plan | None, collection: Collection) -> Balanced | None:
    """The plan's effect in figures, before and after; None without a plan."""
    if found is None:
        return None
    classes, task = collection.classes, collection.task
    training = [image for image in collection.images if image.split == "train"]
    times = {image.path: found.repeats.get(image.path, 1) for image in training}
    weights = dict.fromkeys(classes, 1.0) if found.weights is None else dict(zip(classes, found.weights, strict=True))
    weighs = found.weights is not None
    before = _annotations(training, task) if weighs else _showing(training)
    after: Counter[str] = Counter()
    for image in training:
        for label in image.labels:
            after[label] += times[image.path]
    counted = {name: before[name] * weights[name] if weighs else float(after[name]) for name in classes}
    units = Counter(map(float, times.values()))
    if weighs:
        units = Counter()
        for name in classes:
            units[weights[name]] += before[name]
    left = [image for image in training if not times[image.path]]
    missed = _showing(left)
    first = [printable(image.path) for image in sorted(left, key=lambda image: image.path)[:MAX_NAMED]]
    return Balanced(
        strategy=found.strategy,
        target=found.target,
        counted="Annotations" if weighs else "Images",
        images=len(training),
        shown=sum(times.values()),
        most_repeats=max(times.values(), default=0),
        effective_classes=[f"{effective(Counter(numbers.values())):.2f}" for numbers in (before, counted)],
        effective=f"{effective(units):.1f}",
        left_out=LeftOut(reason=ABOVE_TARGET, images=len(left), first=first) if left else None,
        classes=[
            BalancedClass(
                name=name,
                before=before[name],
                after=f"{counted[name]:.6g}",
                left_out=missed[name],
                weight=f"{weights[name]:.4g}" if weighs else None,
            )
            for name in classes
        ],
    )


def warnings(found: Balanced | None) -> list[str]:
    """Warnings about many repeats, and about many images left out."""
    said: list[str] = []
    if found is None:
        return said
    if found.most_repeats >= _MANY_REPEATS:
        few = [one.name for one in found.classes if 0 < _MANY_REPEATS * one.before <= float(one.after)]
        told = f" ({format_names(few)})" if few else ""
        said.append(
            f"balance: some images of rare classes{told} are shown up to {found.most_repeats} times in an epoch; a model may"
            " learn them by heart, and only more images help: lower balance.target, or add images"
        )
    if found.left_out is not None and 2 * found.left_out.images > found.images:
        said.append(
            f"balance: Undersample leaves out {found.left_out.images} of {found.images} training images; raise balance.target, or"
            " use Oversample or ClassWeights"
        )
    return said


def _showing(images: Iterable[ImageRecord]) -> Counter[str]:
    return Counter(label for image in images for label in image.labels)


def _annotations(images: Iterable[ImageRecord], task: Task) -> Counter[str]:
    strategy = TASKS.named(task)
    return Counter(label for image in images for label in strategy.marks(image))


def _target(aim: str, counts: Mapping[str, int]) -> int:
    """The target count. Classes that no image shows are ignored. The lower median is the count of an actual class."""
    if aim.isdecimal():
        return int(aim)
    present = [count for count in counts.values() if count] or [0]
    return {"Median": statistics.median_low(present), "Largest": max(present), "Smallest": min(present)}[aim]


def _repeated(
    images: Sequence[ImageRecord], counts: Mapping[str, int], target: int, order: Callable[[str], float]
) -> dict[str, int]:
    if all(len(image.labels) <= 1 for image in images):
        return _repeated_to(images, counts, target, order)
    asked = {label: max(1.0, math.sqrt(target / count)) for label, count in counts.items()}
    found = {}
    for image in images:
        factor = min(max((asked[label] for label in image.labels), default=1.0), MOST_REPEATS)
        whole = math.floor(factor)
        found[image.path] = whole + (order(image.path) < factor - whole)
    return found


def _repeated_to(
    images: Sequence[ImageRecord], counts: Mapping[str, int], target: int, order: Callable[[str], float]
) -> dict[str, int]:
    """Repeats of images that show at most one class: each class as often as the target, its images equally often or once more."""
    found, seen = {}, Counter[str]()
    for image in sorted(images, key=lambda image: order(image.path)):
        (label,) = image.labels or {""}
        whole, more = divmod(max(target, counts.get(label, 0)), counts.get(label) or 1)
        found[image.path] = min(whole + (seen[label] < more), MOST_REPEATS) if label else 1
        seen[label] += 1
    return found


def _left_out(
    images: Sequence[ImageRecord], counts: Mapping[str, int], target: int, order: Callable[[str], float]
) -> dict[str, int]:
    left, found = Counter(counts), {}
    for image in sorted(images, key=lambda image: order(image.path)):
        spare = bool(image.labels) and all(left[label] > target for label in image.labels)
        found[image.path] = 0 if spare else 1
        if spare:
            left.subtract(image.labels)
    return found


def _weights(classes: Sequence[str], counts: Mapping[str, int], target: int) -> tuple[float, ...]:
    """Weights with a mean of 1. A class that no training image shows gets 1, because nothing is known about it."""
    asked = {name: min(max(1.0, target / counts[name]), MOST_WEIGHT) for name in classes if counts[name]}
    mean = math.fsum(asked.values()) / len(asked) if asked else 1.0
    return tuple(round(asked[name] / mean, _DIGITS) if name in asked else 1.0 for name in classes)
