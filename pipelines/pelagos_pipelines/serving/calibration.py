"""Calibrates scores so that they say how often a model is right: logits are divided by one number, the temperature.

Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017, arXiv:1706.04599. For scores that
are separate probabilities, such as those of detectors, an offset is added to the logit as well (Platt 1999; for detectors Küppers
et al. 2020, arXiv:2004.13546, section 3), because few detections may be right however high their scores are. The order of scores
does not change: neither a classifier's most probable class, nor a detector's ranking. Called by the predictor, with a package's
numbers, and by the evaluation, which finds the numbers. It may import only numpy, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving.predictions import Floats, Scaling, Thresholds

FAINTEST, SUREST = float(np.finfo(np.float32).tiny), 1 - float(np.finfo(np.float32).epsneg)
"""The range to which scores are limited before a logarithm: float32 cannot distinguish more."""


def logarithms(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Logits, up to a constant, of probabilities that add up to 1."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), FAINTEST))


def odds(scores: npt.NDArray[Any]) -> Any:
    """Logits of scores that are separate probabilities."""
    kept = np.clip(np.asarray(scores, np.float64), FAINTEST, SUREST)
    return np.log(kept) - np.log1p(-kept)


def softened(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities ``[..., classes]`` at a temperature; above 1 they become less confident."""
    logits = logarithms(probabilities) / temperature
    parts = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = (parts / parts.sum(axis=-1, keepdims=True)).astype(np.float32)
    return found


def scaled(scores: npt.NDArray[Any], scaling: Scaling) -> Floats:
    """Calibrated scores ``[n]``, each a separate probability."""
    with np.errstate(over="ignore"):  # the result is 0 then
        found: Floats = (1 / (1 + np.exp(-odds(scores) / scaling.temperature - scaling.offset))).astype(np.float32)
    return found


def undone(thresholds: Thresholds, scaling: Scaling | None) -> Thresholds:
    """The thresholds for a network's own scores that correspond to ``thresholds`` for calibrated ones."""
    if scaling is None:
        return thresholds
    by_class = thresholds.by_class
    return replace(
        thresholds,
        confidence=_undone(thresholds.confidence, scaling),
        by_class=None if by_class is None else tuple(_undone(each, scaling) for each in by_class),
    )


def _undone(confidence: float, scaling: Scaling) -> float:
    if not 0 < confidence < 1:
        return confidence
    with np.errstate(over="ignore"):  # the result is 0 then
        logit = np.log(confidence) - np.log1p(-confidence)
        return float(1 / (1 + np.exp(-scaling.temperature * (logit - scaling.offset))))
