"""Oriented detection in serving: turned boxes with scores, the best first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from pelagos.engines.triton.fields import Label, Number, Share, Strict
from pelagos.engines.triton.tasks.detection import COMPARED, MARGIN, PIXELS, SCORE, Detection
from pelagos.engines.triton.tasks.strategy import Found, Output, least
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from pelagos.ports.serving import DesiredService

_Point = Annotated[list[Number], Field(min_length=2, max_length=2)]


class _Turned(Strict):
    label: Label
    class_id: int
    score: Share
    box: Annotated[list[Number], Field(min_length=5, max_length=5)]
    corners: Annotated[list[_Point], Field(min_length=4, max_length=4)]


class _Detected(Strict):
    task: Literal["OrientedDetection"]
    width: int
    height: int
    cut: bool = False
    detections: list[_Turned]


class OrientedDetection(Detection):
    """See `Strategy` for the contract of its methods."""

    task, answer = Task.ORIENTED_DETECTION, _Detected

    @override
    def outputs(self, labels: int) -> Iterator[Output]:
        """Those of detection, where boxes have a fifth number; also x and y of each box's corners."""
        for name, kind, shape in super().outputs(labels):
            yield name, kind, [-1, 5] if name == "boxes" else shape
        yield "corners", "TYPE_FP32", [-1, 8]

    @override
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """Compare detections. A lower IoU threshold leaves fewer boxes, all of which a higher one leaves, too."""
        known, got, floor = expected["detections"], answer["detections"], 0.0
        # Either side may contain only the best ones, and there is no need to compare thousands.
        most = min(len(known) if expected.get("cut") else COMPARED, want.max_detections, COMPARED)
        for found in (known, got):
            if len(found) >= most:
                floor = max(floor, float(found[most - 1]["score"]))
        known, got = known[:most], got[:most]
        iou = float(want.iou)
        made_with = float(package.get("iou", iou))

        def is_clear(found: Found) -> bool:
            return bool(found["score"] >= max(floor, least(found["label"], package, want)) + MARGIN)

        if iou >= made_with and (missing := _alone(known, got, is_clear)):
            return f"missing: {_words(missing)}; got {len(got)} of {len(known)} detections"
        if iou <= made_with and (extra := _alone(got, known, is_clear)):
            return f"not expected: {_words(extra)}"
        return None


def _alone(some: Sequence[Found], others: Sequence[Found], is_clear: Callable[[Found], bool]) -> Found | None:
    """The first clear detection on one side without a match on the other."""
    left = list(others)
    for found in some:
        pair = next((other for other in left if _same(found, other)), None)
        if pair is not None:
            left.remove(pair)
        elif is_clear(found):
            return found
    return None


def _same(one: Found, other: Found) -> bool:
    """Whether two turned boxes are the same, whichever corner comes first.

    Any side of a square may count as its longer one, and 0 degrees equal 180.
    """
    if (
        one["classId"] != other["classId"]
        or one["label"] != other["label"]
        or abs(one["score"] - other["score"]) > SCORE
    ):
        return False
    points, others = one["corners"], other["corners"]
    return any(
        all(
            abs(x - across) <= PIXELS and abs(y - down) <= PIXELS
            for (x, y), (across, down) in zip(points, others[first:] + others[:first], strict=True)
        )
        for first in range(len(others))
    )


def _words(found: Found) -> str:
    x, y, length, width, angle = found["box"]
    place = f"at ({x:.1f}, {y:.1f}), {length:.1f} x {width:.1f}, at {angle:.1f} degrees"
    return f"{found['label']} with score {found['score']:.3f} {place}"


STRATEGY = OrientedDetection()
