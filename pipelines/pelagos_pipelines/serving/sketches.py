"""What a network gives for one image before any threshold, in few numbers: what tells one model from another.

Called by model.py for a request that asks for it, and by the export for parity and for the known answer of a package. Detections
and classes are judgements: of a model that is sure of nothing they are empty, or ties that anything turns around. The numbers
before them are not. It may know numpy only, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]

VALUES = 16_384
"""Numbers of each kind in a sketch, about."""
ULPS = 1.2e-7
"""Two units of the last digit of 1 in float32, about."""
MOST, LEAST = 128, 4
"""Anchors of a detector that are told."""
FAINTEST = 1e-5
"""Scores below it are taken for it: arithmetic differs by 1e-7, which is much of them."""


def rows(raw: Floats, task: str) -> dict[str, Any]:
    """A detector's ``[4 + classes, anchors]`` or a classifier's ``[classes]`` as ``scores``, a row for each class, and ``boxes``.

    Scores are logarithms of odds or, of a classifier, of probabilities, so that small ones count as large ones do.
    """
    if task == "Classification":
        return {"scores": np.log(np.maximum(raw.astype(np.float64), FAINTEST))[:, None]}
    kept = np.clip(raw[4:].astype(np.float64), FAINTEST, 1 - FAINTEST)
    return {"scores": np.log(kept / (1 - kept)), "boxes": raw[:4].astype(np.float64)}


def sketch(raw: Floats, task: str) -> dict[str, Any]:
    """Some of these rows: all of a classifier; of a detector some anchors, evenly spread.

    Its ``best`` are the highest scores of each class, wherever they are: of a good detector, most anchors see nothing.
    """
    known = rows(raw, task)
    if task == "Classification":
        return known
    anchors = raw.shape[1]
    count = min(max(VALUES // len(raw), LEAST), MOST, anchors)
    chosen = np.linspace(0, anchors - 1, count).astype(int)
    best = np.sort(np.partition(known["scores"], anchors - count, axis=1)[:, anchors - count :], axis=1)
    return {kind: values[:, chosen] for kind, values in known.items()} | {"best": best[:, ::-1]}


def rounding(raw: Floats, task: str) -> dict[str, Any]:
    """What float32 leaves undecided of each row, as root mean squares: a right network may be that far away.

    Runtimes compute a score to some units of the last digit of 1, which is much of a small score.
    """
    if task == "Classification":
        return {"scores": ULPS / np.maximum(raw.astype(np.float64), FAINTEST)}
    kept = np.clip(raw[4:].astype(np.float64), FAINTEST, 1 - FAINTEST)
    undecided = np.sqrt(np.square(ULPS / (kept * (1 - kept))).mean(axis=1))
    return {"scores": undecided, "best": undecided, "boxes": ULPS * np.abs(raw[:4]).max(axis=1)}


def packed(sketch: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """As JSON: the labels of the classes, and by kind the rows one after another, little-endian float32 in base64."""
    rows = {kind: base64.b64encode(values.astype("<f4").tobytes()).decode() for kind, values in sketch.items()}
    return {"labels": list(labels)} | rows


def distances(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """How far the rows of two networks' outputs, or of two sketches, are apart by kind: root mean squares."""
    return {kind: np.sqrt(np.square(values - other[kind]).mean(axis=1)) for kind, values in one.items()}
