"""Builds the answer for an image, in the JSON form of the service contract, and chooses its thresholds.

Called by model.py in the server, and by the container image that holds a model (pelagos_pipelines.deepaas): both give the same
answers. It may import only serving.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pelagos_pipelines.serving.predictions import Prediction, Settings, Thresholds


def thresholds(settings: Settings, general: Thresholds, *, of_package: bool) -> Thresholds:
    """A service's thresholds: ``general``, with the package's confidences for classes if the service applies them."""
    return general.of(settings.labels, settings.confidences if of_package else None)


def asked_for(known: Thresholds, confidence: float | None, settings: Settings) -> Thresholds:
    """The thresholds of a request: its confidence, if any, replaces the service's for all classes."""
    if confidence is None:
        return known
    return replace(known, confidence=confidence, by_class=(confidence,) * len(settings.labels))


def content(found: Prediction, settings: Settings, known: Thresholds, *, is_asked: bool) -> dict[str, Any]:
    """The answer. ``known`` are the service's thresholds; ``is_asked`` says that the request has set its own."""
    answer = found.render(settings.labels)
    if settings.tile is not None:
        answer["tile"] = {"size": settings.tile[0], "overlap": settings.tile[1]}
    # Clients must know if scores are calibrated, or thresholds differ from the general ones.
    if settings.scaling is not None:
        answer["calibrated"] = True
    if is_asked:
        answer["thresholds"] = "Request"
    elif known.by_class is not None:
        answer["thresholds"] = "Classes"
    return answer
