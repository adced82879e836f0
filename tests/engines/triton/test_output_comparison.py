"""A network's outputs before thresholds distinguish models with equal detections: none, or ties."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from pelagos.engines.triton import outputs as model_outputs

LABELS = ["copepod", "diatom"]
ONNX = "ab" * 32


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


SKETCH = {
    "labels": LABELS,
    "scores": packed(-7.0, -7.1, -6.8, -6.9),
    "best": packed(-7.0, -6.8),
    "boxes": packed(*range(8)),
}
KNOWN = SKETCH | {"allowed": {"scores": 0.01, "best": 0.01, "boxes": 0.1}}


def answer(onnx: str = ONNX, **changes: Any) -> dict[str, Any]:
    return {"task": "Detection", "detections": [], "onnxSha256": onnx, "raw": SKETCH | changes}


@pytest.mark.parametrize("scores", [(-7.0, -7.1, -6.8, -6.9), (-7.005, -7.095, -6.81, -6.9)])
def test_the_same_numbers_and_those_of_another_processor_are_right(scores: tuple[float, ...]) -> None:
    assert model_outputs.compare(KNOWN, answer(scores=packed(*scores)), ONNX) is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (answer(scores=packed(-6.8, -6.9, -7.0, -7.1)), "the scores differ by 0.2, but the package allows 0.01"),
        (answer(best=packed(-7.0, -6.7)), "the best scores differ by 0.1"),
        (answer(boxes=packed(*range(1, 9))), "the boxes differ by 1,"),
        (answer(labels=LABELS[::-1]), "in another order"),
        (answer(onnx="cd" * 32), "another graph: sha256 cdcd"),
        (answer() | {"raw": None}, "Use the serving image of this release"),
        ({"task": "Detection", "detections": []}, "Use the serving image of this release"),
    ],
    ids=["classes", "best", "boxes", "labels", "graph", "no outputs", "older code"],
)
def test_another_model_is_reported(wrong: dict[str, Any], words: str) -> None:
    assert words in (model_outputs.compare(KNOWN, wrong, ONNX) or "")


@pytest.mark.parametrize(
    "scores", [packed(-7.0), packed(*[float("nan")] * 4), "", "?", "AAA=", None, 7, [1.0, 2.0]], ids=repr
)
def test_what_cannot_be_compared_is_another_model(scores: object) -> None:
    assert "another model answers" in (model_outputs.compare(KNOWN, answer(scores=scores), ONNX) or "")


def test_a_gpu_may_round_as_gpus_do() -> None:
    rounded = answer(scores=packed(-7.02, -7.12, -6.82, -6.92))
    assert model_outputs.compare(KNOWN, rounded, ONNX) is not None
    assert model_outputs.compare(KNOWN, rounded, ONNX, gpu=True) is None
