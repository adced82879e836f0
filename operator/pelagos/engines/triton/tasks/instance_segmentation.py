"""Instance segmentation in serving: objects with boxes, scores and masks, the best first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from pelagos.engines.triton.fields import Label, Number, Share, Strict
from pelagos.engines.triton.tasks import detection
from pelagos.engines.triton.tasks.strategy import Found, Output, Strategy
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from pelagos.ports.serving import DesiredService

LEAST_IOU = 0.95
"""How much the masks of an object may differ due to arithmetic; of a small one, a row or a column of its box may differ."""

Pixels = Annotated[int, Field(ge=0)]


class _Mask(Strict):
    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    counts: Annotated[str, Field(min_length=1)]


class _Instance(Strict):
    label: Label
    class_id: int
    score: Share
    box: Annotated[list[Number], Field(min_length=4, max_length=4)]
    mask: _Mask
    area: Pixels


class _Segmented(Strict):
    task: Literal["InstanceSegmentation"]
    width: int
    height: int
    cut: bool = False
    instances: list[_Instance]


class InstanceSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, answer = Task.INSTANCE_SEGMENTATION, _Segmented
    heads = ("yolov8-seg", "maskrcnn", "mask2former")

    @override
    def outputs(self, labels: int) -> Iterator[Output]:
        """Those of detection; also a mask per row, and the height and width of the image that the masks are for."""
        yield from detection.STRATEGY.outputs(labels)
        yield "masks", "TYPE_STRING", [-1]
        yield "mask_size", "TYPE_INT32", [2]

    @override
    def most(self, want: DesiredService, exported: int) -> int:
        """The service's number."""
        return want.max_detections

    @override
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """Compare objects; where thresholds differ, only those that both must report."""
        return detection.compare_found(expected, answer, package, want, results="instances", same=_is_same)


def _is_same(one: Found, other: Found) -> bool:
    return detection.is_same(one, other) and _are_alike(one["mask"], other["mask"], one["box"])


def _are_alike(one: Found, other: Found, box: list[float]) -> bool:
    # Imported here: an answer came through tritonclient, so numpy is loaded already; an idle operator never loads it.
    from pelagos_contract import run_lengths

    if one["size"] != other["size"]:
        return False
    height, width = one["size"]
    try:
        common, together = run_lengths.shared(one["counts"], other["counts"], (height, width))
    except ValueError:  # a server's answer may have any shape
        return False
    x1, y1, x2, y2 = box
    return together - common <= max((1 - LEAST_IOU) * together, x2 - x1, y2 - y1, 1)


STRATEGY = InstanceSegmentation()
