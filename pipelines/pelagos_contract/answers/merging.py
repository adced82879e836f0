"""What a model finds in the tiles of a large image, put together, in the JSON shape of the service contract.

Called by whoever cuts an image: ``pelagos predict`` with answers of servers, and the container image that holds a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos_contract.answers import pixel_tiles
from pelagos_contract.answers.pixel_tiles import Asked, MisfitError
from pelagos_contract.tasks import Task
from pelagos_contract.tiles import Place

SHARE = 0.5
"""Of the smaller of two boxes, that both have in common when they are of one object."""
EDGE = 2.0
"""Pixels from the edge of its tile at which a box is taken to be cut by it."""
_RESULTS: Mapping[str, str] = {Task.INSTANCE_SEGMENTATION: "instances"}
"""By task, where an answer has its objects, if not in "detections"."""


def merged(size: tuple[int, int], found: Sequence[Asked]) -> dict[str, Any]:
    """One answer for an image of ``size`` (width, height): what several tiles show is there once (suppression.across_tiles).

    Raises:
        MisfitError: a mask is none of its tile.
    """
    task = found[0].content["task"]
    if (merge := pixel_tiles.MERGES.get(task)) is not None:
        return merge(size, found)
    # Here: the control plane has no need of numpy before answers have come.
    import numpy as np

    from pelagos_contract.suppression import across_tiles

    results = _RESULTS.get(task, "detections")
    every = [(number, one) for number, asked in enumerate(found) for one in asked.content[results]]
    moved = [_moved(one, found[number].place, size) for number, one in every]
    kept: list[int] = []
    for class_id in {one["classId"] for one in moved}:
        members = [place for place, one in enumerate(moved) if one["classId"] == class_id]
        tiles: Any = np.array([every[place][0] for place in members])
        is_cut = [_is_cut(_around(every[place][1]), found[every[place][0]].place, size) for place in members]
        boxes, scores = [_around(moved[place]) for place in members], [moved[place]["score"] for place in members]
        turned = "corners" in moved[members[0]]
        corners = np.array([moved[place]["corners"] for place in members], float) if turned else None
        kept += [members[one] for one in across_tiles(boxes, scores, tiles, is_cut, SHARE, corners)]
    return {
        "task": task,
        "width": size[0],
        "height": size[1],
        "cut": any(asked.content.get("cut") for asked in found),
        results: sorted((moved[place] for place in kept), key=lambda one: -one["score"]),
        "tiles": len(found),
        **{name: found[0].content[name] for name in ("calibrated", "thresholds") if name in found[0].content},
    }


def _moved(found: Mapping[str, Any], place: Place, size: tuple[int, int]) -> dict[str, Any]:
    """An object in pixels of the whole image."""
    if "corners" in found:
        x, y, *rest = found["box"]
        corners = [[round(x + place.x, 2), round(y + place.y, 2)] for x, y in found["corners"]]
        return {**found, "box": [round(x + place.x, 2), round(y + place.y, 2), *rest], "corners": corners}
    box = [round(value + (place.x, place.y)[side % 2], 2) for side, value in enumerate(found["box"])]
    return {**found, "box": box} | ({"mask": _moved_mask(found["mask"], place, size)} if "mask" in found else {})


def _moved_mask(mask: Mapping[str, Any], place: Place, size: tuple[int, int]) -> dict[str, Any]:
    from pelagos_contract import run_lengths

    whole = size[1], size[0]
    try:
        # Of the tile, whatever the server says of its size.
        part = run_lengths.part_of(mask["counts"], (place.height, place.width))
    except ValueError as error:
        raise MisfitError(error) from error
    moved = run_lengths.Part(part.left + place.x, part.top + place.y, part.inside)
    return {"size": list(whole), "counts": run_lengths.encoded(moved, whole)}


def _around(found: Mapping[str, Any]) -> Sequence[float]:
    """The upright box of a detection, or that around its corners."""
    if "corners" not in found:
        sides: Sequence[float] = found["box"]
        return sides
    xs, ys = zip(*found["corners"], strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _is_cut(box: Sequence[float], place: Place, size: tuple[int, int]) -> bool:
    """Whether a box reaches an edge of its tile within the image."""
    x1, y1, x2, y2 = box
    right, bottom = place.x + place.width < size[0], place.y + place.height < size[1]
    return bool(
        (place.x > 0 and x1 <= EDGE)
        or (place.y > 0 and y1 <= EDGE)
        or (right and x2 >= place.width - EDGE)
        or (bottom and y2 >= place.height - EDGE)
    )
