"""Answers of tasks that label pixels, for tiles of a large image, put together. For ``predict``, see tiles.

Where tiles overlap, a pixel is what the tile says whose edges are farther away. Objects that two tiles show are one where both
say so of most of the pixels that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pelagos.engines.triton import inference
from pelagos_contract.tasks import Task
from pelagos_contract.tiles import Place

Tile = tuple[Place, Mapping[str, Any]]
"""A place, and the answer for it in the JSON shape of the service contract."""

SAME = 0.5
"""IoU, within what two tiles share, of two segments of one class that are one object."""


def of_classes(size: tuple[int, int], found: Sequence[Tile]) -> dict[str, Any]:
    """One class map for an image of ``size`` (width, height)."""
    labels: dict[int, Mapping[str, Any]] = {}

    def number(_: int, row: Mapping[str, Any]) -> int:
        labels.setdefault(row["classId"], row)
        return int(row["classId"]) + 1

    numbers = _pasted(size, found, "classes", number)
    areas = _areas(numbers)
    entries = [
        {"label": labels[one - 1]["label"], "classId": one - 1, **_told(numbers, one, area)}
        for one, area in sorted(areas.items(), key=lambda pair: -pair[1])
    ]
    return _answer(size, found, "classes", entries, areas)


def of_segments(size: tuple[int, int], found: Sequence[Tile]) -> dict[str, Any]:
    """One map of segments for an image of ``size`` (width, height)."""
    rows = [(tile, row) for tile, (_, content) in enumerate(found) for row in content["segments"]]
    numbers = {(tile, row["id"]): place for place, (tile, row) in enumerate(rows)}
    parents = list(range(len(rows)))

    def root(one: int) -> int:
        while parents[one] != one:
            one = parents[one]
        return one

    for one, other in _pairs(found, rows):
        parents[max(root(one), root(other))] = min(root(one), root(other))
    pixels = _pasted(size, found, "segments", lambda tile, row: root(numbers[tile, row["id"]]) + 1)
    areas = _areas(pixels)
    best: dict[int, Mapping[str, Any]] = {}
    for place, (_, row) in enumerate(rows):
        known = best.get(root(place) + 1)
        if known is None or row["score"] > known["score"]:
            best[root(place) + 1] = row
    entries = [
        {**{name: best[one][name] for name in ("label", "classId", "isThing", "score")}, **_told(pixels, one, area)}
        for one, area in sorted(areas.items(), key=lambda pair: -best[pair[0]]["score"])
    ]
    numbered = [{"id": place, **entry} for place, entry in enumerate(entries, start=1)]
    return _answer(size, found, "segments", numbered, areas)


def _pairs(found: Sequence[Tile], rows: Sequence[tuple[int, Mapping[str, Any]]]) -> list[tuple[int, int]]:
    """Places of segments that are of one object, or of one class without objects."""
    pairs = []
    masks = [_mask(row, found[tile][0]) for tile, row in rows]
    for one, (tile, row) in enumerate(rows):
        for other in range(one):
            beside, known = rows[other]
            if row["classId"] != known["classId"]:
                continue
            if not row["isThing"] or (tile != beside and _agree(found, (tile, masks[one]), (beside, masks[other]))):
                pairs.append((other, one))
    return pairs


def _agree(found: Sequence[Tile], one: tuple[int, Any], other: tuple[int, Any]) -> bool:
    places = found[one[0]][0], found[other[0]][0]
    left, top = (max(getattr(place, side) for place in places) for side in ("x", "y"))
    right, bottom = min(place.x + place.width for place in places), min(place.y + place.height for place in places)
    if right <= left or bottom <= top or one[1] is None or other[1] is None:
        return False
    here, there = (
        mask[top - place.y : bottom - place.y, left - place.x : right - place.x]
        for place, mask in zip(places, (one[1], other[1]), strict=True)
    )
    either = int((here | there).sum())
    return either > 0 and int((here & there).sum()) > SAME * either


def _mask(row: Mapping[str, Any], place: Place) -> Any:
    """Its pixels in its tile, bool [height, width]; None where an answer had no room for them.

    Raises:
        InferenceError: they are none of such a tile.
    """
    # Here, where answers have come by tritonclient: numpy is loaded already.
    import numpy as np

    from pelagos_contract import run_lengths

    if row.get("mask") is None:
        return None
    try:
        # Of the tile, whatever the server says of its size.
        part = run_lengths.part_of(row["mask"]["counts"], (place.height, place.width))
    except ValueError as error:
        raise inference.InferenceError(f"the answer for a tile does not fit it: {error}") from error
    whole: Any = np.zeros((place.height, place.width), bool)
    rows, columns = part.inside.shape
    whole[part.top : part.top + rows, part.left : part.left + columns] = part.inside
    return whole


def _pasted(
    size: tuple[int, int], found: Sequence[Tile], results: str, number: Callable[[int, Mapping[str, Any]], int]
) -> Any:
    """The numbers of all pixels, int32 [height, width], each from the tile whose own it is; 0 for nothing."""
    import numpy as np

    whole: Any = np.zeros((size[1], size[0]), np.int32)
    across = _own([(place.x, place.width) for place, _ in found])
    down = _own([(place.y, place.height) for place, _ in found])
    for tile, (place, content) in enumerate(found):
        numbers: Any = np.zeros((place.height, place.width), np.int32)
        for row in content[results]:
            if (mask := _mask(row, place)) is not None:
                numbers[mask] = number(tile, row)
        (left, right), (top, bottom) = across[place.x], down[place.y]
        whole[top:bottom, left:right] = numbers[top - place.y : bottom - place.y, left - place.x : right - place.x]
    return whole


def _own(sides: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """By where tiles begin along a side, from where to where the pixels are that others have farther at their edges."""
    starts = sorted(dict(sides).items())
    found = {}
    for index, (start, length) in enumerate(starts):
        before = start if not index else (start + starts[index - 1][0] + starts[index - 1][1]) // 2
        after = start + length if index + 1 == len(starts) else (starts[index + 1][0] + start + length) // 2
        found[start] = before, after
    return found


def _areas(numbers: Any) -> dict[int, int]:
    import numpy as np

    found, counts = np.unique(numbers, return_counts=True)
    return {int(one): int(count) for one, count in zip(found, counts, strict=True) if one}


def _told(numbers: Any, one: int, area: int) -> dict[str, Any]:
    from pelagos_contract import run_lengths

    size = numbers.shape
    counts = run_lengths.encoded(run_lengths.Part(0, 0, numbers == one), size)
    return {"area": area, "share": round(area / numbers.size, 6), "mask": {"size": list(size), "counts": counts}}


def _answer(
    size: tuple[int, int], found: Sequence[Tile], results: str, entries: list[dict[str, Any]], areas: Mapping[int, int]
) -> dict[str, Any]:
    left = size[0] * size[1] - sum(areas.values())
    return {
        "task": found[0][1]["task"],
        "width": size[0],
        "height": size[1],
        "cut": any(content.get("cut") for _, content in found),
        results: entries,
        "unclassified": {"area": left, "share": round(left / (size[0] * size[1]), 6)},
        "tiles": len(found),
    }


MERGES: Mapping[str, Callable[[tuple[int, int], Sequence[Tile]], dict[str, Any]]] = {
    Task.SEMANTIC_SEGMENTATION: of_classes,
    Task.PANOPTIC_SEGMENTATION: of_segments,
}
"""By task."""
