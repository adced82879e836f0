"""Finds blurred, badly exposed, flat or oblong images by the thresholds of ``cleaning``, and summarises all measures.

Called by cleaning.py with the results of children (measuring.py). Nothing is dropped without a threshold: images of deep water
and of plankton are dark, grey or white on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pelagos_contract.dataset import Cleaning
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.measures import Measured
from pelagos_pipelines.annotations.model import Exclusion

_LIMITS: tuple[tuple[ExclusionReason, str, Callable[[Cleaning], int | None], bool], ...] = (
    (ExclusionReason.ODD_ASPECT, "aspect", lambda rules: rules.max_aspect, False),
    (ExclusionReason.TOO_DARK, "brightness", lambda rules: rules.min_brightness, True),
    (ExclusionReason.TOO_BRIGHT, "brightness", lambda rules: rules.max_brightness, False),
    (ExclusionReason.CLIPPED, "clipped", lambda rules: rules.max_clipped, False),
    (ExclusionReason.LOW_CONTRAST, "contrast", lambda rules: rules.min_contrast, True),
    (ExclusionReason.BLURRED, "sharpness", lambda rules: rules.min_sharpness, True),
)
"""For each reason: the measure, its threshold, and whether that is a minimum. The first that applies is reported."""
FIELDS: Mapping[ExclusionReason, str] = {
    ExclusionReason.ODD_ASPECT: "cleaning.maxAspect",
    ExclusionReason.TOO_DARK: "cleaning.minBrightness",
    ExclusionReason.TOO_BRIGHT: "cleaning.maxBrightness",
    ExclusionReason.CLIPPED: "cleaning.maxClipped",
    ExclusionReason.LOW_CONTRAST: "cleaning.minContrast",
    ExclusionReason.BLURRED: "cleaning.minSharpness",
}
"""The field of a request behind each reason."""
_NAMES = ("sharpness", "brightness", "contrast", "clipped", "aspect")


@dataclass(frozen=True, slots=True)
class Measures:
    """The measures of one image.

    ``sharpness`` is the variance of its Laplacian. ``brightness`` and ``contrast`` are mean and standard deviation of its grey
    levels, 0 to 255. ``clipped`` is the percentage of its pixels that are black or white.
    """

    sharpness: float
    brightness: float
    contrast: float
    clipped: float

    @classmethod
    def recalled(cls, values: Sequence[float] | None) -> Measures | None:
        """The measures from `written`. Raises TypeError or ValueError unless they are four numbers."""
        return None if values is None else cls(*map(float, values))

    def written(self) -> tuple[float, ...]:
        """The values for `recalled`."""
        return self.sharpness, self.brightness, self.contrast, self.clipped


def believed(document: Mapping[str, object], pixels: int) -> Measures | None:
    """The measures from a child's sums over ``pixels`` pixels; None if implausible: the image may have taken over the child."""
    found = [document.get(name) for name in ("grey", "grey2", "clipped", "edges", "edges2", "among")]
    numbers = [one for one in found if type(one) is int]
    if len(numbers) != len(found):
        return None
    grey, grey2, clipped, edges, edges2, among = numbers
    spread, variance = pixels * grey2 - grey * grey, among * edges2 - edges * edges
    plausible = 0 <= grey <= 255 * pixels and 0 <= grey2 <= 255**2 * pixels and 0 <= clipped <= pixels
    if not plausible or not 0 < among <= pixels or not 0 <= edges2 <= 1020**2 * among or min(spread, variance) < 0:
        return None
    return Measures(
        sharpness=round(variance / among**2, 2),
        brightness=round(grey / pixels, 2),
        contrast=round(math.sqrt(spread / pixels**2), 2),
        clipped=round(100 * clipped / pixels, 2),
    )


def values(measures: Measures | None, width: int, height: int) -> dict[str, float]:
    """The values that thresholds apply to, by name. ``aspect`` is the longer side divided by the shorter one."""
    known = {} if measures is None else dict(zip(_NAMES, measures.written(), strict=False))
    return known | {"aspect": round(max(width, height) / min(width, height), 2)}


def beyond(found: Mapping[str, Mapping[str, float]], rules: Cleaning) -> Iterator[Exclusion]:
    """Exclusions of the images whose `values` are beyond a threshold, each with the measured value."""
    asked = [(reason, name, limit(rules), least) for reason, name, limit, least in _LIMITS if limit(rules) is not None]
    for path, known in found.items():
        for reason, name, limit, least in asked:
            value = known.get(name)
            if value is not None and limit is not None and (value < limit if least else value > limit):
                yield Exclusion(path, reason, measured=value)
                break


def distribution(found: Iterable[Mapping[str, float]]) -> list[Measured]:
    """For each measure: the minimum, the 1st percentile, the median, the 99th percentile and the maximum."""
    listed = list(found)
    told = []
    for name in _NAMES:
        ranked = sorted(known[name] for known in listed if name in known)
        if ranked:
            last = len(ranked) - 1
            picked = [ranked[round(last * share)] for share in (0, 0.01, 0.5, 0.99, 1)]
            told.append(Measured.of(name, picked))
    return told
