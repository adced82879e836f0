"""What an image is answered, in the JSON shape of the service contract, and by which thresholds.

Called by model.py in the server, and by the container image that holds a model (pelagos_pipelines.deepaas): both answer the same.
It may know serving alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pelagos_pipelines.serving.predictions import Prediction, Settings, Thresholds


def thresholds(settings: Settings, general: Thresholds, *, of_package: bool) -> Thresholds:
    """Those of a service: ``general``, with the confidences that the package has for classes where the service heeds them."""
    return general.of(settings.labels, settings.confidences if of_package else None)


def asked_for(known: Thresholds, confidence: float | None, settings: Settings) -> Thresholds:
    """With the confidence that whoever asks wants of all classes, in the place of those of the service."""
    if confidence is None:
        return known
    return replace(known, confidence=confidence, by_class=(confidence,) * len(settings.labels))


def content(found: Prediction, settings: Settings, known: Thresholds, *, is_asked: bool) -> dict[str, Any]:
    """The answer. ``known``: thresholds of the service; ``is_asked``: whoever asked has named others."""
    answer = found.render(settings.labels)
    if settings.tile is not None:
        answer["tile"] = {"size": settings.tile[0], "overlap": settings.tile[1]}
    # What is to be known of scores and thresholds, where they are no usual ones.
    if settings.scaling is not None:
        answer["calibrated"] = True
    if is_asked:
        answer["thresholds"] = "Request"
    elif known.by_class is not None:
        answer["thresholds"] = "Classes"
    return answer
