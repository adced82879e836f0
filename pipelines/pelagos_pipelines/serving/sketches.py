"""What a network gives for one image before any threshold, in few numbers: what tells one model from another.

Tasks make rows of a network's output, and a sketch of the rows. model.py sends it to a request that asks for it, and the export
needs both for parity and for the known answer of a package. Detections and classes are judgements: of a model that is sure of
nothing they are empty, or ties that anything turns around. The numbers before them are not. It may know numpy only, and runs with
numpy 1.26 and 2.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ULPS = 1.2e-7
"""Two units of the last digit of 1 in float32, about."""
FAINTEST = 1e-5
"""Scores below it are taken for it: arithmetic differs by 1e-7, which is much of them."""


def packed(sketch: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """As JSON: the labels of the classes, and by kind the rows one after another, little-endian float32 in base64."""
    rows = {kind: base64.b64encode(values.astype("<f4").tobytes()).decode() for kind, values in sketch.items()}
    return {"labels": list(labels)} | rows


def distances(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How far the rows of two networks' outputs, or of two sketches, are apart by kind: root mean squares."""
    return {kind: np.sqrt(np.square(values - other[kind]).mean(axis=1)) for kind, values in one.items()}
