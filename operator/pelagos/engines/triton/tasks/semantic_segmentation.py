"""Semantic segmentation in serving: how many pixels each class has, and which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from typing_extensions import override

from pelagos.engines.triton.fields import Label, Share, Strict
from pelagos.engines.triton.tasks.strategy import Found, Output, Strategy
from pelagos_contract.tasks import Task

if TYPE_CHECKING:
    from pelagos.ports.serving import DesiredService

Pixels = Annotated[int, Field(ge=0)]
SHARE = 0.02
"""Share of all pixels that may have another class than in the training framework, due to different arithmetic."""


class Mask(Strict):
    """A mask as COCO's compressed RLE."""

    size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    counts: Annotated[str, Field(min_length=1)]


class Unclassified(Strict):
    """The pixels without a class."""

    area: Pixels
    share: Share


class _Class(Strict):
    label: Label
    class_id: int
    area: Pixels
    share: Share
    mask: Mask | None = None


class _Mapped(Strict):
    task: Literal["SemanticSegmentation"]
    width: int
    height: int
    cut: bool = False
    classes: list[_Class]
    unclassified: Unclassified


class SemanticSegmentation(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, answer = Task.SEMANTIC_SEGMENTATION, _Mapped

    @override
    def outputs(self, labels: int) -> Iterator[Output]:
        """The map as PNG in base64, and the number of pixels per class."""
        yield "class_map", "TYPE_STRING", [1]
        yield "areas", "TYPE_INT64", [labels]

    @override
    def most(self, want: DesiredService, exported: int) -> int:
        """The package's number, because this task has no detections."""
        return exported

    @override
    def compare(self, expected: Found, answer: Found, package: Found, want: DesiredService) -> str | None:
        """Compare the masks class by class; thresholds do not apply."""
        known, got = ({found["label"]: found for found in one["classes"]} for one in (expected, answer))
        total = expected["width"] * expected["height"]
        for label in [*known, *(label for label in got if label not in known)]:
            apart = differing(known.get(label), got.get(label))
            if apart > SHARE * total:
                return f"{label}: {apart} of {total} pixels are not where they are expected; {SHARE * total:.0f} may differ"
        return None


def differing(one: Found | None, other: Found | None) -> int:
    """How many pixels two entries with ``area`` and ``mask`` do not share; None stands for no pixels."""
    if one is None or other is None:
        return int(next((found["area"] for found in (one, other) if found is not None), 0))
    if one.get("mask") is None or other.get("mask") is None:  # left out, because the answer would be too large
        return int(abs(one["area"] - other["area"]))
    # Imported here: an answer came through tritonclient, so numpy is loaded already; an idle operator never loads it.
    from pelagos_contract import run_lengths

    height, width = map(int, one["mask"]["size"])
    if one["mask"]["size"] != other["mask"]["size"]:
        return height * width
    try:
        common, together = run_lengths.shared(one["mask"]["counts"], other["mask"]["counts"], (height, width))
    except ValueError:
        return height * width
    return int(together - common)


STRATEGY = SemanticSegmentation()
