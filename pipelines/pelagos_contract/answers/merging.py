"""Merges the predictions for the tiles of a large image into one, in the JSON form of the service contract.

Called by programs that cut an image into tiles: ``pelagos predict`` with responses of servers, and a model's container image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos_contract.answers import pixel_tiles
from pelagos_contract.answers.pixel_tiles import Asked, MisfitError
from pelagos_contract.tasks import Task
from pelagos_contract.tiles import Place

SHARE = 0.5
"""Share of the smaller of two boxes that both must have in common to be the same object."""
EDGE = 2.0
"""Distance in pixels from the edge of its tile within which a box counts as cut by it."""
_RESULTS: Mapping[str, str] = {Task.INSTANCE_SEGMENTATION: "instances"}
"""The member of a prediction with its objects, by task; others use "detections"."""


def merged(size: tuple[int, int], found: Sequence[Asked]) -> dict[str, Any]:
    """One prediction for an image of ``size`` (width, height): objects that several tiles show appear once
    (suppression.across_tiles).

    Raises:
        MisfitError: a mask does not fit its tile.
    """
    task = found[0].content["task"]
    if (merge := pixel_tiles.MERGES.get(task)) is not None:
        return merge(size, found)
    # Imported here, since the control plane does not need numpy before predictions arrive.
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
    """An object of a tile, in pixel coordinates of the whole image."""
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
        # By the tile's own size: the size in the server's response is not trusted.
        part = run_lengths.part_of(mask["counts"], (place.height, place.width))
    except ValueError as error:
        raise MisfitError(error) from error
    moved = run_lengths.Part(part.left + place.x, part.top + place.y, part.inside)
    return {"size": list(whole), "counts": run_lengths.encoded(moved, whole)}


def _around(found: Mapping[str, Any]) -> Sequence[float]:
    """The upright box of a detection, or the one around its corners."""
    if "corners" not in found:
        sides: Sequence[float] = found["box"]
        return sides
    xs, ys = zip(*found["corners"], strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _is_cut(box: Sequence[float], place: Place, size: tuple[int, int]) -> bool:
    """Whether a box reaches an edge of its tile that is not an edge of the image."""
    x1, y1, x2, y2 = box
    right, bottom = place.x + place.width < size[0], place.y + place.height < size[1]
    return bool(
        (place.x > 0 and x1 <= EDGE)
        or (place.y > 0 and y1 <= EDGE)
        or (right and x2 >= place.width - EDGE)
        or (bottom and y2 >= place.height - EDGE)
    )
