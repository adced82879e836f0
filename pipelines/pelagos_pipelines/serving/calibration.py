"""Scores that say how often a model is right: its logits are divided by one number, the temperature.

Source: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML 2017, arXiv:1706.04599. To the logit of a
score that is the probability of something of its own, as detectors give them, another number is added (Platt 1999; of detectors
Küppers et al. 2020, arXiv:2004.13546, section 3): few of what is found may be right, however high their scores are. The order of
scores stays as it is: of a classifier the most probable class, of a detector each ranking by score. Called by the predictor, with
what a package says, and by the evaluation, which finds the numbers. It may know numpy only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pelagos_pipelines.serving.predictions import Floats, Scaling, Thresholds

FAINTEST, SUREST = float(np.finfo(np.float32).tiny), 1 - float(np.finfo(np.float32).epsneg)
"""Between these scores are moved when their logarithm is taken: float32 has no more to say."""


def logarithms(probabilities: Any) -> Any:
    """Logits of probabilities that add up to 1, but for a constant."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), FAINTEST))


def odds(scores: Any) -> Any:
    """Logits of scores of which each is the probability of something of its own."""
    kept = np.clip(np.asarray(scores, np.float64), FAINTEST, SUREST)
    return np.log(kept) - np.log1p(-kept)


def softened(probabilities: Any, temperature: float) -> Floats:
    """Probabilities ``[..., classes]`` at a temperature: above 1 they are less sure."""
    logits = logarithms(probabilities) / temperature
    parts = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = (parts / parts.sum(axis=-1, keepdims=True)).astype(np.float32)
    return found


def scaled(scores: Any, scaling: Scaling) -> Floats:
    """Scores ``[n]``, each a probability of its own."""
    with np.errstate(over="ignore"):  # it is 0 then
        found: Floats = (1 / (1 + np.exp(-odds(scores) / scaling.temperature - scaling.offset))).astype(np.float32)
    return found


def undone(thresholds: Thresholds, scaling: Scaling | None) -> Thresholds:
    """What a network's own scores must reach, so that they reach ``thresholds`` once they are scaled."""
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
    with np.errstate(over="ignore"):  # it is 0 then
        logit = np.log(confidence) - np.log1p(-confidence)
        return float(1 / (1 + np.exp(-scaling.temperature * (logit - scaling.offset))))
