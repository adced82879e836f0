"""Compares the outputs of a server's network with those in the package, before any threshold. Pure.

Called by the probe with a package's outputs, and an answer to a request for them. Two models without any confident
detection both detect nothing, so their predictions are equal, but their outputs still differ. The package states how far a right
answer may deviate: as much as noise of one grey level in the image causes (pelagos_pipelines.export.probes).
"""

from __future__ import annotations

import array
import base64
import binascii
import math
import sys
from collections.abc import Mapping
from typing import Any

KINDS = ("scores", "best", "boxes", "masks", "angles")
_WORDS = {
    "scores": "the scores",
    "best": "the best scores",
    "boxes": "the boxes",
    "masks": "the masks",
    "angles": "the angles",
}
_ROWS = {"boxes": 4, "masks": 1, "angles": 1}
"""Rows of the kinds that do not have one row per class."""


GPU = {"scores": 0.02, "best": 0.02, "boxes": 0.1, "masks": 0.2, "angles": 0.02}
"""Additional tolerance for GPUs, which multiply with 10 bits of mantissa (TF32); processors and the package used 23."""


def compare(known: Mapping[str, Any], answer: Mapping[str, Any], onnx_sha256: str, *, gpu: bool = False) -> str | None:
    """The problem with the outputs in an answer; None when they are right. ``gpu``: whether a GPU computed them."""
    got = answer.get("raw")
    if not isinstance(got, dict):
        return (
            "the server does not report the outputs of its network before thresholds: its code is older than the package. Use "
            "the serving image of this release"
        )
    if answer.get("onnxSha256") != onnx_sha256:
        return (
            f"the server has loaded another graph: sha256 {str(answer.get('onnxSha256'))[:64]} instead of {onnx_sha256}"
        )
    labels = known["labels"]
    if got.get("labels") != labels:
        return "the server's classes differ from those of the package, or are in another order"
    for kind in KINDS:
        if known.get(kind) is None:
            continue
        difference = _difference(known[kind], got.get(kind), _ROWS.get(kind, len(labels)))
        allowed = known["allowed"][kind] + (GPU[kind] if gpu else 0)
        if not difference <= allowed:
            return (
                f"another model answers: before thresholds, {_WORDS[kind]} differ by {difference:.3g}, but the package allows "
                f"{allowed:.3g}"
            )
    return None


def _difference(known: str, got: object, rows: int) -> float:
    """The largest root mean square difference of any row; infinite when the two cannot be compared."""
    one, other = _numbers(known), _numbers(got)
    if len(one) != len(other) or not one or len(one) % rows:
        return math.inf
    width = len(one) // rows
    squares = [(a - b) ** 2 for a, b in zip(one, other, strict=True)]
    return max(math.sqrt(sum(squares[start : start + width]) / width) for start in range(0, len(squares), width))


def _numbers(packed: object) -> array.array[float]:
    numbers = array.array("f")
    if isinstance(packed, str):
        try:
            numbers.frombytes(base64.b64decode(packed, validate=True))
        except (ValueError, binascii.Error):
            return array.array("f")
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
