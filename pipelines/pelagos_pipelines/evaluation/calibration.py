"""Calibration of confidences, and the confidence thresholds of classes with the highest F1.

Each claim of a model is a row: a classifier claims a class for every image, a detector for every object that it finds. This
module is independent of tasks: evaluation.tasks produce the claims.

* Expected calibration error (ECE): claims are divided by confidence into 15 bins of equal width, open below and closed above. ECE
  is the mean absolute difference between the share of right claims in a bin and their mean confidence, weighted by the number of
  claims in the bin (Naeini, Cooper and Hauskrecht, AAAI 2015; Guo et al. 2017, arXiv:1706.04599, equation 3). For detectors it is
  the detection ECE by confidence of Küppers et al. 2020, arXiv:2004.13546: right claims have the class of an object and an IoU of
  0.50 with it.
* Scaling: temperature, and for detectors an offset, with the least negative log-likelihood, which is convex in 1 / temperature
  and offset (Guo et al.; Platt 1999).
* Confidence of a class: the one with the highest F1. For the F1 of a single class this is exact: Lipton, Elkan and Naryanaswamy,
  Optimal thresholding of classifiers to maximize F1 measure, ECML 2014, arXiv:1402.1892.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

from pelagos_pipelines.evaluation import shares
from pelagos_pipelines.evaluation.shares import Share
from pelagos_pipelines.serving.packages import OFFSETS, TEMPERATURES
from pelagos_pipelines.serving.predictions import Scaling

BINS = 15
AT_CONFIDENCES = ("precision", "recall", "F1")
"""Metrics that depend on the confidences of classes."""
_CLOSE, _STEPS = 1e-12, 60


@dataclass(frozen=True)
class Claims:
    """A model's ``n`` claims about ``images`` images.

    ``logits`` ``[n, k]`` are unscaled; ``claimed`` ``[n]`` is the column that the model claims, and ``true`` ``[n]`` the correct
    one. ``class_ids`` ``[n]`` are the claimed classes, and ``right`` ``[n]`` says whether each claim is right. ``objects``
    ``[classes]`` are the numbers of true annotations. Claims with an unscaled confidence below ``faintest`` are disregarded: they
    are most of a detector's output, and hardly any is right. ``is_own``: each score is a separate probability, whose logits
    ``[n, 2]`` are 0 for "wrong", and that of the score for "right".
    """

    images: int
    logits: npt.NDArray[np.float64]
    claimed: npt.NDArray[np.int64]
    true: npt.NDArray[np.int64]
    class_ids: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]
    faintest: float = 0.0
    is_own: bool = False

    @property
    def clear(self) -> Claims:
        """The claims that are not faint."""
        if not self.faintest:
            return self
        chosen = self.confidence() >= self.faintest
        names = ("logits", "claimed", "true", "class_ids", "right")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def scaled(self, scaling: Scaling | None) -> npt.NDArray[np.float64]:
        """The logits ``[n, k]`` after scaling."""
        logits = self.logits.astype(np.float64)
        if scaling is None:
            return logits
        logits /= scaling.temperature
        if self.is_own:
            logits[:, 1] += scaling.offset
        return logits

    def confidence(self, scaling: Scaling | None = None) -> npt.NDArray[np.float64]:
        """The confidence of each claim, ``[n]``."""
        logits = self.scaled(scaling)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        found: npt.NDArray[np.float64] = odds[np.arange(len(odds)), self.claimed] / odds.sum(axis=1)
        return found

    def unlikelihood(self, scaling: Scaling | None = None) -> float:
        """The mean negative log-likelihood of the truth, in nats; NaN without claims."""
        if not len(self.logits):
            return math.nan
        logits = self.scaled(scaling)
        top = logits.max(axis=1)
        whole = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        return float((whole - logits[np.arange(len(logits)), self.true]).mean())


@dataclass(frozen=True)
class Reliability:
    """Claims by bins of confidence, each ``[BINS]``: their number, mean confidence, and share of right ones.

    The latter two are NaN for an empty bin. ``error`` is the ECE; NaN without claims.
    """

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    right: npt.NDArray[np.float64]
    error: float

    def document(self) -> dict[str, Any]:
        """The JSON document; unknown values are null."""
        numbers = {"confidence": self.confidence, "right": self.right}
        known = {name: [_finite(value) for value in values.tolist()] for name, values in numbers.items()}
        return {"counts": self.counts.tolist(), **known, "error": _finite(self.error)}


def reliability(confidence: npt.NDArray[np.float64], right: npt.NDArray[Any]) -> Reliability:
    """Bin claims and compute the ECE as defined above. ``confidence`` ``[n]`` is from 0 to 1, ``right`` ``[n]`` is boolean."""
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    bins = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.maximum(counts, 1)
    mean, share = (
        np.where(counts > 0, np.bincount(bins, weights=values, minlength=BINS) / filled, np.nan)
        for values in (confidence, right)
    )
    error = float(np.nansum(counts * np.abs(share - mean)) / len(confidence)) if len(confidence) else math.nan
    return Reliability(counts, mean, share, error)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def scaling(claims: Claims) -> Scaling | None:
    """The scaling with the highest likelihood of the truth; None if it is outside of the bounds of packages."""
    if claims.is_own:
        return _own(claims.logits[:, 1].astype(np.float64), claims.right.astype(np.float64))
    logits = claims.logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    so = logits[np.arange(len(logits)), claims.true]

    def slope(inverse: float) -> float:
        odds = np.exp(logits * inverse)
        return float(((odds * logits).sum(axis=1) / odds.sum(axis=1) - so).mean())

    coldest, hottest = (1 / bound for bound in TEMPERATURES)
    # The loss is convex, so its slope is increasing and 0 at the minimum. Without a change of sign the minimum is out of bounds.
    if not slope(hottest) < 0 < slope(coldest):
        return None
    return Scaling(1 / float(brentq(slope, hottest, coldest, xtol=_CLOSE)))


def _own(logits: npt.NDArray[np.float64], right: npt.NDArray[Any]) -> Scaling | None:
    """Minimize the convex loss by Newton's method; each step is halved until the loss decreases."""

    def loss(at: npt.NDArray[np.float64]) -> float:
        told = at[0] * logits + at[1]
        return float((np.logaddexp(0, told) - right * told).mean())

    at, both = np.array([1.0, 0.0]), np.stack((logits, np.ones(len(logits))))
    for _ in range(_STEPS):
        sure = 1 / (1 + np.exp(-(at[0] * logits + at[1])))
        slope, bend = both @ (sure - right) / len(right), (both * (sure * (1 - sure))) @ both.T / len(right)
        if np.abs(slope).max() < _CLOSE:
            break
        step, before = np.linalg.lstsq(bend, slope)[0], loss(at)
        for _ in range(_STEPS):
            if loss(at - step) < before:
                break
            step /= 2
        at -= step
    (low, high), (least, most) = TEMPERATURES, OFFSETS
    is_within = 1 / high < at[0] < 1 / low and least < at[1] < most
    return Scaling(1 / float(at[0]), float(at[1])) if is_within else None


def confidences(claims: Claims, confidence: npt.NDArray[np.float64], faintest: float) -> dict[int, float]:
    """By class, the confidence that claims must exceed for the highest F1; the lowest of several equally good ones.

    ``confidence`` ``[n]`` is that of the claims, ``faintest`` their lower bound. Classes without objects or without right claims
    are omitted, since nothing is known about them.
    """
    found = {}
    for class_id in np.flatnonzero(claims.objects).tolist():
        chosen = claims.class_ids == class_id
        best = _best(confidence[chosen], claims.right[chosen], int(claims.objects[class_id]), faintest)
        if best is not None:
            found[class_id] = best
    return found


def _best(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], objects: int, faintest: float
) -> float | None:
    order = np.argsort(-confidence, kind="stable")
    sorted_, hits = confidence[order], np.cumsum(right[order])
    if not len(hits) or not hits[-1]:
        return None
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + objects)
    # Claims of equal confidence pass a threshold together.
    ends = np.flatnonzero(np.append(np.diff(sorted_) != 0, True))
    last = ends[np.flatnonzero(f1[ends] == f1[ends].max())[-1]]
    below = float(sorted_[last + 1]) if last + 1 < len(sorted_) else min(faintest, float(sorted_[last]))
    # Halfway to the next, excluded claim, so that rounding differences between machines do not matter.
    return (float(sorted_[last]) + below) / 2


def at_confidences(claims: Claims, confidence: npt.NDArray[np.float64], least: Any) -> dict[str, Share]:
    """Precision, recall and F1 of the claims whose ``confidence`` exceeds the value in ``least`` for their class."""
    passed = confidence > np.asarray(least, np.float64)[claims.class_ids]
    claimed, hits = (
        np.bincount(claims.class_ids[chosen], minlength=len(claims.objects))
        for chosen in (passed, passed & claims.right)
    )
    counts = shares.of_counts(hits, claims.objects, claimed)
    return {name: counts[name] for name in AT_CONFIDENCES}
