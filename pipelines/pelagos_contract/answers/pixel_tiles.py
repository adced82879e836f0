"""Merges predictions for the tiles of a large image, for tasks that label pixels: see merging.

Where tiles overlap, the tile whose edges are farther away decides a pixel. Objects of two tiles are merged when their IoU within
the overlap is at least `SAME`. No step costs objects times pixels, since a large image may have tens of thousands of objects.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pelagos_contract.tasks import Task
from pelagos_contract.tiles import Place

SAME = 0.5
"""IoU within the overlap of two tiles from which two segments of one class are the same object."""
AT_ONCE = 2**24
"""Approximate number of pixels that are searched for runs at once, which bounds memory."""


class Asked(NamedTuple):
    """A tile and the model's prediction for it, in the JSON form of the service contract."""

    place: Place
    content: Mapping[str, Any]


class MisfitError(ValueError):
    """A prediction does not fit its tile."""

    def __init__(self, error: object) -> None:
        """``error`` says what is wrong with it."""
        super().__init__(f"the answer for a tile does not fit it: {error}")


class _Tiles:
    """The pixels of predictions for tiles."""

    def __init__(self, found: Sequence[Asked], results: str) -> None:
        self.found = found
        self.rows: Sequence[Sequence[Mapping[str, Any]]] = [content[results] for _, content in found]
        # Tiles are processed row by row, and those of the previous row are needed again: cache two rows of tiles.
        self.numbers = lru_cache(2 * len({place.x for place, _ in found}) + 2)(self._numbers)

    def _numbers(self, tile: int) -> Any:
        """For each pixel of a tile, 1 + the index of its row in ``rows``, or 0 for none; int32 [height, width].

        Raises:
            MisfitError: a mask does not fit the tile.
        """
        # Imported here, since the control plane does not need numpy before predictions arrive.
        import numpy as np

        from pelagos_contract import run_lengths

        place = self.found[tile][0]
        whole: Any = np.zeros((place.height, place.width), np.int32)
        for number, row in enumerate(self.rows[tile], start=1):
            if row.get("mask") is None:  # masks beyond the size limit of a response are left out
                continue
            try:
                # By the tile's own size: the size in the server's response is not trusted.
                part = run_lengths.part_of(row["mask"]["counts"], (place.height, place.width))
            except ValueError as error:
                raise MisfitError(error) from error
            rows, columns = part.inside.shape
            whole[part.top : part.top + rows, part.left : part.left + columns][part.inside] = number
        return whole

    def pasted(self, size: tuple[int, int], known: Sequence[Sequence[int]]) -> Any:
        """The value in ``known`` (by tile and row) for each pixel of the image, 0 for none; int32 [height, width]."""
        import numpy as np

        whole: Any = np.zeros((size[1], size[0]), np.int32)
        across = _own([(place.x, place.width) for place, _ in self.found])
        down = _own([(place.y, place.height) for place, _ in self.found])
        for tile, (place, _) in enumerate(self.found):
            (left, right), (top, bottom) = across[place.x], down[place.y]
            own = self.numbers(tile)[top - place.y : bottom - place.y, left - place.x : right - place.x]
            whole[top:bottom, left:right] = np.array([0, *known[tile]], np.int32)[own]
        return whole

    def pairs(self) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        """Pairs of objects of two tiles that are the same, each as (tile, index of its row)."""
        import numpy as np

        for tile, beside in self._neighbours():
            places = self.found[tile][0], self.found[beside][0]
            left, top = (max(getattr(place, side) for place in places) for side in ("x", "y"))
            right, bottom = min(one.x + one.width for one in places), min(one.y + one.height for one in places)
            here, there = (
                self.numbers(one)[top - place.y : bottom - place.y, left - place.x : right - place.x].ravel()
                for one, place in zip((tile, beside), places, strict=True)
            )
            both, others = (here > 0) & (there > 0), len(self.rows[beside]) + 1
            keys, counts = np.unique(here[both].astype(np.int64) * others + there[both], return_counts=True)
            areas = np.bincount(here), np.bincount(there)
            for key, common in zip(keys.tolist(), counts.tolist(), strict=True):
                one, other = divmod(key, others)
                row, known = self.rows[tile][one - 1], self.rows[beside][other - 1]
                alike = common > SAME * (areas[0][one] + areas[1][other] - common)
                if alike and row["isThing"] and row["classId"] == known["classId"]:
                    yield (beside, other - 1), (tile, one - 1)

    def _neighbours(self) -> Iterator[tuple[int, int]]:
        """Pairs of overlapping tiles, the later one first."""
        at = {(place.x, place.y): tile for tile, (place, _) in enumerate(self.found)}
        lefts, tops = (sorted({place[side] for place in at}) for side in (0, 1))
        for tile, (place, _) in enumerate(self.found):
            for y in tops[bisect_right(tops, place.y - place.height) : bisect_left(tops, place.y + place.height)]:
                for x in lefts[bisect_right(lefts, place.x - place.width) : bisect_left(lefts, place.x + place.width)]:
                    if at.get((x, y), tile) < tile:
                        yield tile, at[x, y]


def of_classes(size: tuple[int, int], found: Sequence[Asked]) -> dict[str, Any]:
    """Merge class maps of tiles into one prediction for an image of ``size`` (width, height)."""
    tiles = _Tiles(found, "classes")
    labels = {int(row["classId"]): row["label"] for rows in reversed(tiles.rows) for row in reversed(rows)}
    told = _told(tiles.pasted(size, [[int(row["classId"]) + 1 for row in rows] for rows in tiles.rows]))
    entries = [
        {"label": labels[one - 1], "classId": one - 1, **entry}
        for one, entry in sorted(told.items(), key=lambda pair: -pair[1]["area"])
    ]
    return _answer(size, found, "classes", entries)


def of_segments(size: tuple[int, int], found: Sequence[Asked]) -> dict[str, Any]:
    """Merge segments of tiles into one prediction for an image of ``size`` (width, height)."""
    tiles = _Tiles(found, "segments")
    every = [(tile, place) for tile, rows in enumerate(tiles.rows) for place in range(len(rows))]
    number = {one: index for index, one in enumerate(every)}
    parents = list(range(len(every)))

    def root(one: int) -> int:
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    def join(one: int, other: int) -> None:
        parents[max(root(one), root(other))] = min(root(one), root(other))

    extents: dict[int, int] = {}
    for index, (tile, place) in enumerate(every):
        row = tiles.rows[tile][place]
        if not row["isThing"]:
            join(index, extents.setdefault(row["classId"], index))
    for one, other in tiles.pairs():
        join(number[one], number[other])
    known = [[root(number[tile, place]) + 1 for place in range(len(rows))] for tile, rows in enumerate(tiles.rows)]
    told = _told(tiles.pasted(size, known))
    best: dict[int, Mapping[str, Any]] = {}
    for tile, place in every:
        segment, row = known[tile][place], tiles.rows[tile][place]
        if segment not in best or row["score"] > best[segment]["score"]:
            best[segment] = row
    entries = [
        {**{name: best[one][name] for name in ("label", "classId", "isThing", "score")}, **entry}
        for one, entry in sorted(told.items(), key=lambda pair: -best[pair[0]]["score"])
    ]
    return _answer(size, found, "segments", [{"id": place, **entry} for place, entry in enumerate(entries, start=1)])


def _told(numbers: Any) -> dict[int, dict[str, Any]]:
    """Area, share and mask of each number but 0 in a map [height, width]."""
    import numpy as np

    from pelagos_contract import run_lengths

    height, width = numbers.shape
    step = max(1, AT_ONCE // height)
    starts, values = [], []
    for left in range(0, width, step):
        down = np.ravel(numbers[:, left : left + step], order="F")
        begin = np.concatenate(([0], np.flatnonzero(down[1:] != down[:-1]) + 1))
        starts.append(begin + left * height)
        values.append(down[begin])
    begins, found = np.concatenate(starts), np.concatenate(values)
    lengths = np.diff(begins, append=numbers.size)
    order = np.argsort(found, kind="stable")
    ones, first = np.unique(found[order], return_index=True)
    told = {}
    for one, places in zip(ones.tolist(), np.split(order, first[1:]), strict=True):
        if one:
            part = np.stack((begins[places], begins[places] + lengths[places]), axis=1).ravel()
            # A run that ends where the search of the next block of columns starts continues there.
            apart: Any = part[1:-1:2] != part[2::2]
            part = part[np.concatenate(([True], np.repeat(apart, 2), [True]))]
            runs = np.diff(np.concatenate(([0], part, [numbers.size])))
            counts = run_lengths.compressed(runs if runs[-1] else runs[:-1])
            area = int(lengths[places].sum())
            mask = {"size": [height, width], "counts": counts}
            told[one] = {"area": area, "share": round(area / numbers.size, 6), "mask": mask}
    return told


def _own(sides: Sequence[tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """By the start of each tile along a side: the range of pixels that are farther from its edges than from those of others."""
    starts = sorted(dict(sides).items())
    found = {}
    for index, (start, length) in enumerate(starts):
        before = start if not index else (start + starts[index - 1][0] + starts[index - 1][1]) // 2
        after = start + length if index + 1 == len(starts) else (starts[index + 1][0] + start + length) // 2
        found[start] = before, after
    return found


def _answer(
    size: tuple[int, int], found: Sequence[Asked], results: str, entries: list[dict[str, Any]]
) -> dict[str, Any]:
    left = size[0] * size[1] - sum(entry["area"] for entry in entries)
    return {
        "task": found[0][1]["task"],
        "width": size[0],
        "height": size[1],
        "cut": any(content.get("cut") for _, content in found),
        results: entries,
        "unclassified": {"area": left, "share": round(left / (size[0] * size[1]), 6)},
        "tiles": len(found),
    }


MERGES: Mapping[str, Callable[[tuple[int, int], Sequence[Asked]], dict[str, Any]]] = {
    Task.SEMANTIC_SEGMENTATION: of_classes,
    Task.PANOPTIC_SEGMENTATION: of_segments,
}
"""The function that merges predictions of a task that labels pixels."""
