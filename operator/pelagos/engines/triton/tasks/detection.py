"""Detection in serving: boxes with scores, the best first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from pelagos.engines.triton.fields import Label, Number, Share, Strict
from pelagos.engines.triton.tasks.strategy import Found, Output, Strategy, least
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from pelagos.ports.serving import DesiredService

PIXELS = 1.0
SCORE = 0.01
"""How far an answer may deviate from the training framework's: as different arithmetic causes, but no other model."""
COMPARED = 300
"""How many detections are compared; the best ones."""
MARGIN = 0.02
"""Detections this close above the threshold may or may not be reported, so they are not required."""


class _Box(Strict):
    label: Label
    class_id: int
    score: Share
    box: Annotated[list[Number], Field(min_length=4, max_length=4)]


class _Detected(Strict):
    task: Literal["Detection"]
    width: int
    height: int
    cut: bool = False
    detections: list[_Box]


class Detection(Strategy):
    """See `Strategy` for the contract of its methods."""

    task: ClassVar[Task] = Task.DETECTION
    answer: ClassVar[type[Strict]] = _Detected

    @override
    def outputs(self, labels: int) -> Iterator[Output]:
        """One row per detection, their number, and whether there were more."""
        yield "count", "TYPE_INT32", [1]
        yield "boxes", "TYPE_FP32", [-1, 4]
        yield "scores", "TYPE_FP32", [-1]
        yield "class_ids", "TYPE_INT32", [-1]
        yield "cut", "TYPE_BOOL", [1]

    @override
    def most(self, want: DesiredService, exported: int) -> int:
        """The service's number."""
        return want.max_detections

    @override
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """Compare detections; where thresholds differ, only those that both must report."""
        return compare_found(expected, answer, package, want, results="detections", same=is_same)


def compare_found(
    expected: Found,
    answer: Found,
    package: Found,
    want: DesiredService,
    *,
    results: str,
    same: Callable[[Found, Found], bool],
) -> str | None:
    """The problem with an answer whose ``results`` are objects with boxes; ``same`` decides whether two are the same object."""
    known, got, floor = expected[results], answer[results], 0.0
    # Either side may contain only the best ones, and there is no need to compare thousands.
    most = min(len(known) if expected.get("cut") else COMPARED, want.max_detections, COMPARED)
    for found in (known, got):
        if 0 < most <= len(found):
            floor = max(floor, float(found[most - 1]["score"]))
    known, got = known[:most], got[:most]
    iou = float(want.iou)
    if iou != (made_with := float(package.get("iou", iou))):
        strictest = min(iou, made_with)
        known, got = _suppressed(known, strictest), _suppressed(got, strictest)

    def is_clear(found: Found) -> bool:
        return bool(found["score"] >= max(floor, least(found["label"], package, want)) + MARGIN)

    return _compare_detections(known, got, is_clear, same)


def _compare_detections(
    expected: Sequence[Found],
    answer: Sequence[Found],
    is_clear: Callable[[Found], bool],
    same: Callable[[Found, Found], bool],
) -> str | None:
    """Pair every clear detection on either side with one on the other."""
    left = list(answer)
    for found in expected:
        pair = next((other for other in left if same(found, other)), None)
        if pair is not None:
            left.remove(pair)
        elif is_clear(found):
            return f"missing: {_words(found)}; got {len(answer)} of {len(expected)} detections"
    extra = next((found for found in left if is_clear(found)), None)
    return f"not expected: {_words(extra)}" if extra else None


def is_same(one: Found, other: Found) -> bool:
    """Whether two objects with boxes are the same, up to differences in arithmetic."""
    return (
        one["classId"] == other["classId"]
        and one["label"] == other["label"]
        and abs(one["score"] - other["score"]) <= SCORE
        and all(abs(a - b) <= PIXELS for a, b in zip(one["box"], other["box"], strict=True))
    )


def _suppressed(detections: Sequence[Found], iou: float) -> list[Found]:
    """The detections that remain if boxes of a class may overlap by at most ``iou``; they must be sorted by score, descending."""
    # Imported here: an answer came through tritonclient, so numpy is loaded already; an idle operator never loads it.
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


STRATEGY = Detection()
