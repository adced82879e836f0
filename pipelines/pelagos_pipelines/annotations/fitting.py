"""Checks whether the boxes of a COCO file fit their polygons or masks, and their area.

Called in a child of the sandbox by coco_document.py. A box may be larger than its outline, because an animal is half hidden or
the box was drawn roughly. An outline that extends beyond its box shows that the box is not in COCO's notation, or of another
image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pelagos_contract.failures import RefusedError
from pelagos_pipelines.annotations import outlines
from pelagos_pipelines.annotations.untrusted_input import MAX_NAMED, format_names, format_words, invalid

_ROUNDED = 2.0
"""Tolerance in pixels between a box and that of its outline, since the sides of both may be rounded outwards."""
AS_GOOD_AS = 0.001
"""Relative tolerance within which two areas are equal."""
_STICKING_OUT = 0.1
"""The share of an outline's side by which it must extend beyond its box to contradict it."""
_FEW = 3
"""Least number of boxes that can refute a file, unless it has fewer."""
_MOST_MASKS = 20_000
"""Most masks that are checked, since it takes time and a systematic fault also affects the first ones."""
_CORNERS = "left, top, right and bottom"
_CENTRES = "centre, width and height"

Sides = outlines.Sides


@dataclass
class Fitting:
    """Counts over the boxes read to this point."""

    told: int = 0
    """Boxes with an area, or an outline, that could be compared."""
    outlined: int = 0
    cornered: int = 0
    misfits: int = 0
    """Boxes that their outline contradicts, including cornered ones; ``centred`` are those that fit as centre and size."""
    centred: int = 0
    first_cornered: list[str] = field(default_factory=list)
    first_misfits: list[str] = field(default_factory=list)
    _masks: int = 0

    def take(self, sides: Sides, entry: dict[str, Any], place: str) -> None:
        """Compare the box of an annotation with its outline and area."""
        around = self._around(entry.get("segmentation"))
        self.told += around is not None or (outlines.is_finite(entry.get("area")) and entry["area"] > 0)
        self.outlined += around is not None
        corners = around is not None and _is_cornered_around(sides, around)
        if corners or _is_cornered(sides, entry.get("area")):
            self.cornered += 1
            _keep(self.first_cornered, place)
        if around is not None and (corners or _sticks_out(sides, around)):
            self.misfits += 1
            self.centred += _is_centred_in(sides, around)
            _keep(self.first_misfits, f"{place} is {_numbers(sides)}, its outline's box {_numbers(around)}")

    def fault(self, boxes: int) -> RefusedError | None:
        """The refusal of a file if most of its comparable boxes are not in COCO's notation, else None. ``boxes`` is their
        total."""
        enough = min(_FEW, boxes)
        if self.cornered >= enough and 2 * self.cornered > self.told:
            return invalid(
                f"{self.cornered} of {boxes} boxes are {_CORNERS}, by their area or their outlines, not x, y, width and height,"
                f" as in COCO: {format_names(self.first_cornered, of=self.cornered)}; export it again"
            )
        if self.misfits >= enough and 2 * self.misfits > self.outlined:
            centred = 2 * self.centred > self.misfits
            why = f"they are {_CENTRES}" if centred else "as if for an image of another size, or in another order"
            shown = format_words(self.first_misfits[:2], self.misfits)
            return invalid(
                f"{self.misfits} of {self.outlined} boxes do not surround the polygon or mask given with them, {why}, not x, y, "
                f"width and height, as in COCO: {shown}; correct the boxes, or leave bbox out to use the box around the outline"
            )
        return None

    def _around(self, outline: object) -> Sides | None:
        """The box around the outline; None without a readable one, which is not a fault beside a box."""
        if not outline or (isinstance(outline, dict) and self._masks >= _MOST_MASKS):
            return None
        self._masks += isinstance(outline, dict)
        try:
            return outlines.box_of(outline, "", None)
        except RefusedError:
            return None


def _keep(places: list[str], place: str) -> None:
    if len(places) < MAX_NAMED:
        places.append(place)


def _numbers(sides: Sides) -> str:
    return "[" + ", ".join(f"{side:g}" for side in sides) + "]"


def _is_cornered(sides: Sides, area: object) -> bool:
    """Whether the box is meant as left, top, right and bottom, by ``area``, which is that of the box or of its content.

    For one mask the area can match by chance, but not for most masks of a file.
    """
    left, top, right, bottom = sides
    if not (outlines.is_finite(area) and right > left and bottom > top):
        return False
    stated = float(area)  # type: ignore[arg-type]
    if math.isclose(right * bottom, stated, rel_tol=AS_GOOD_AS):
        return False
    return stated > 0 and math.isclose((right - left) * (bottom - top), stated, rel_tol=AS_GOOD_AS)


def _is_cornered_around(sides: Sides, around: Sides) -> bool:
    """The same, by the outline in the box."""
    left, top, right, bottom = sides
    if not (right > left and bottom > top):
        return False
    x, y, width, height = around
    return _differ(sides, (x, y, x + width, y + height)) <= _ROUNDED < _differ(sides, around)


def _is_centred_in(sides: Sides, around: Sides) -> bool:
    """Whether the box is meant as centre, width and height, as in YOLO."""
    x, y, width, height = around
    return _differ(sides, (x + width / 2, y + height / 2, width, height)) <= _ROUNDED


def _sticks_out(sides: Sides, around: Sides) -> bool:
    left, top, width, height = sides
    x, y, inner_width, inner_height = around
    across = max(left - x, x + inner_width - left - width)
    down = max(top - y, y + inner_height - top - height)
    return across > max(_ROUNDED, _STICKING_OUT * inner_width) or down > max(_ROUNDED, _STICKING_OUT * inner_height)


def _differ(some: Sides, others: Sides) -> float:
    return max(abs(one - other) for one, other in zip(some, others, strict=True))
