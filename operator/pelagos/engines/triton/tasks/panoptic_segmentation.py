"""Panoptic segmentation in serving: segments with scores and pixels, the best first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from pelagos.engines.triton.fields import Label, Share, Strict
from pelagos.engines.triton.tasks.semantic_segmentation import Mask, Pixels, Unclassified, differing
from pelagos.engines.triton.tasks.strategy import Found, Output, Strategy
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pelagos.ports.serving import DesiredService

SCORE = 0.02
PART = 0.1
"""How far an answer may deviate from the training framework's: as different arithmetic causes, but no other model. For scores,
and for the pixels of a segment."""
FEW = 16
"""Pixels that may differ in a segment of any size."""
MARGIN = 0.03
"""Segments this close above the threshold may or may not be reported, so they are not required."""
LEAST = 0.002
"""Segments with a smaller share of the image are not required either."""
COMPARED = 100
"""How many segments are compared; the best ones."""


class _Segment(Strict):
    id: int
    label: Label
    class_id: int
    is_thing: bool
    score: Share
    area: Pixels
    share: Share
    mask: Mask | None = None


class _Segmented(Strict):
    task: Literal["PanopticSegmentation"]
    width: int
    height: int
    cut: bool = False
    segments: list[_Segment]
    unclassified: Unclassified


class PanopticSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, answer = Task.PANOPTIC_SEGMENTATION, _Segmented

    @override
    def outputs(self, labels: int) -> Iterator[Output]:
        """The map as PNG in base64, one row per segment, their number, and whether there were more."""
        yield "count", "TYPE_INT32", [1]
        yield "segment_map", "TYPE_STRING", [1]
        yield "scores", "TYPE_FP32", [-1]
        yield "class_ids", "TYPE_INT32", [-1]
        yield "areas", "TYPE_INT32", [-1]
        yield "cut", "TYPE_BOOL", [1]

    @override
    def most(self, want: DesiredService, exported: int) -> int:
        """The service's number."""
        return want.max_detections

    @override
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """Compare all clear segments if thresholds are equal. Else segments may hide others, so require only the best one."""
        same = float(want.confidence) == float(package.get("confidence", 0)) and want.max_detections >= len(
            expected["segments"]
        )
        floor = max(float(want.confidence), float(package.get("confidence", 0))) + MARGIN
        known, got = (
            [found for found in one["segments"][:COMPARED] if found["score"] >= floor and found["share"] >= LEAST]
            for one in (expected, answer)
        )
        if not same:
            best = next(iter(known), None)
            there = best is None or any(_alike(best, found) for found in answer["segments"][:COMPARED])
            return None if there or best is None else f"missing: {_words(best)}"
        return _unpaired(known, answer["segments"], "missing") or _unpaired(got, expected["segments"], "not expected")


def _unpaired(wanted: Sequence[Found], others: Sequence[Found], what: str) -> str | None:
    alone = next((found for found in wanted if not any(_same(found, other) for other in others)), None)
    return f"{what}: {_words(alone)}" if alone else None


def _alike(one: Found, other: Found) -> bool:
    return bool(one["classId"] == other["classId"] and abs(one["score"] - other["score"]) <= SCORE)


def _same(one: Found, other: Found) -> bool:
    # Compare masks last: among many segments of one class, most differ already in area.
    most = PART * one["area"] + FEW
    return _alike(one, other) and abs(one["area"] - other["area"]) <= most and differing(one, other) <= most


def _words(found: Found) -> str:
    return f"{found['label']} with score {found['score']:.3f} and {found['area']} pixels"


STRATEGY = PanopticSegmentation()
