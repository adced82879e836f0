"""Summarises a network's output for one image, before any threshold, in a few numbers that distinguish models.

Tasks arrange a network's output in rows, and take a sketch of the rows. model.py returns it to a request that asks for it, and
the export needs both for parity and for a package's known answer. Detections and classes are decisions: for an unsure model they
are empty, or ties that the smallest difference decides. The numbers before them are not. It may import only numpy, and runs with
numpy 1.26 and 2.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ULPS = 1.2e-7
"""About the spacing of float32 numbers at 1."""
FAINTEST = 1e-5
"""Lower scores are raised to this: arithmetic differs by 1e-7, which is a large part of them."""


def packed(sketch: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """The sketch for JSON: the labels, and by kind the rows one after another, as little-endian float32 in base64."""
    rows = {kind: base64.b64encode(values.astype("<f4").tobytes()).decode() for kind, values in sketch.items()}
    return {"labels": list(labels)} | rows


def distances(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The distances between the rows of two outputs, or of two sketches, by kind: root mean squares."""
    return {kind: np.sqrt(np.square(values - other[kind]).mean(axis=1)) for kind, values in one.items()}
