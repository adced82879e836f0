"""The synthetic inference of a service, and the judgement of its answer. Called by all serving engines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from pelagos.engines.triton import inference, outputs
from pelagos.engines.triton.package import Known
from pelagos.ports.serving import ProbeResult

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pelagos.ports.serving import DesiredService

    Found = Mapping[str, Any]

TIMEOUT = 10.0
PIXELS = 1.0
SCORE = 0.01
PROBABILITY = 0.01
"""How far the answer may be from that of the training framework: other arithmetic, not another model."""
COMPARED = 300
"""Detections, the best ones."""
MARGIN = 0.02
"""Detections this close above the threshold may or may not be reported, so they are not asked for."""


async def probe(address: str, want: DesiredService, known: Known, timeout: float = TIMEOUT) -> ProbeResult:
    """Send the package's probe image by gRPC, as clients do, and compare the answer with the known one."""
    begun = monotonic()
    asked = known.outputs is not None
    try:
        answer, latency = await inference.infer(address, want.model_name, known.image, timeout, raw=asked)
    except inference.InferenceError as error:
        return ProbeResult(correct=False, message=str(error), latency=monotonic() - begun)
    difference = compare(known.expected, answer, known.thresholds, want)
    if known.outputs is not None:  # what tells models apart that are sure of nothing
        gpu = want.placement.gpus > 0
        difference = outputs.compare(known.outputs, answer, want.onnx_sha256, gpu=gpu) or difference
    return ProbeResult(correct=difference is None, message=difference or "", latency=latency)


def compare(expected: Found, answer: Found, package: Mapping[str, Any], want: DesiredService) -> str | None:
    """What is wrong with an answer; None when it is right.

    ``package`` holds the thresholds that ``expected`` was made with, ``want`` those of the service. Where they differ,
    what both must report is compared.
    """
    for key in ("task", "width", "height"):
        if expected.get(key) != answer.get(key):
            return f"{key}: expected {expected.get(key)}, got {answer.get(key)}"
    if expected["task"] == "Classification":
        return _compare_classes(expected["classes"], answer["classes"])
    floor = max(float(want.confidence), float(package.get("confidence", 0)))
    known, got = expected["detections"], answer["detections"]
    # Either side may hold the best ones only, and thousands need not be compared.
    most = min(len(known) if expected.get("cut") else COMPARED, want.max_detections, COMPARED)
    for found in (known, got):
        if len(found) >= most:
            floor = max(floor, float(found[most - 1]["score"]))
    known, got = known[:most], got[:most]
    iou = float(want.iou)
    if iou != (made_with := float(package.get("iou", iou))):
        strictest = min(iou, made_with)
        known, got = _suppressed(known, strictest), _suppressed(got, strictest)
    return _compare_detections(known, got, floor)


def _compare_classes(expected: Sequence[Found], answer: Sequence[Found]) -> str | None:
    got = {found["label"]: found["probability"] for found in answer}
    for found in expected:
        label, probability = found["label"], found["probability"]
        if abs(got.get(label, -1) - probability) > PROBABILITY:
            return f"{label}: expected probability {probability:.4f}, got {got.get(label)}"
    return None if len(got) == len(expected) else f"expected {len(expected)} classes, got {len(got)}"


def _compare_detections(expected: Sequence[Found], answer: Sequence[Found], floor: float) -> str | None:
    """Pair every clear detection of either side with one of the other side."""
    left = list(answer)
    for found in expected:
        pair = next((other for other in left if _same(found, other)), None)
        if pair is not None:
            left.remove(pair)
        elif found["score"] >= floor + MARGIN:
            return f"missing: {_words(found)}; got {len(answer)} of {len(expected)} detections"
    extra = next((found for found in left if found["score"] >= floor + MARGIN), None)
    return f"not expected: {_words(extra)}" if extra else None


def _same(one: Found, other: Found) -> bool:
    return (
        one["classId"] == other["classId"]
        and one["label"] == other["label"]
        and abs(one["score"] - other["score"]) <= SCORE
        and all(abs(a - b) <= PIXELS for a, b in zip(one["box"], other["box"], strict=True))
    )


def _suppressed(detections: Sequence[Found], iou: float) -> list[Found]:
    """Those that remain when boxes of one class may overlap by ``iou`` at most; detections come with descending scores."""
    # Here, where an answer has come by tritonclient: numpy is loaded already, and an idle operator has none.
    import numpy as np

    from pelagos_contract.suppression import nms

    kept: list[int] = []
    for class_id in {found["classId"] for found in detections}:
        places = [place for place, found in enumerate(detections) if found["classId"] == class_id]
        survivors, _ = nms(np.array([detections[place]["box"] for place in places], np.float64), iou)
        kept += [places[survivor] for survivor in survivors]
    return [detections[place] for place in sorted(kept)]


def _words(found: Found) -> str:
    corners = ", ".join(f"{value:.1f}" for value in found["box"])
    return f"{found['label']} with score {found['score']:.3f} at [{corners}]"


def read(package: Path) -> Known:
    """What a package in a folder of this machine knows. Raises OSError or ValueError."""
    description = json.loads((package / "package.json").read_text(encoding="utf-8"))
    expected = json.loads((package / "probe.json").read_text(encoding="utf-8"))
    image = (package / "probe.png").read_bytes()
    return Known(image, expected, description.get("thresholds", {}), description.get("probe"))
