"""Masks as COCO's compressed run lengths (RLE), with runs down the columns of an image.

Called by the serving code, by the evaluation, and by the operator and ``pelagos predict`` for responses with masks. A mask is not
expanded to a whole image where a part of it is enough. Depends on numpy only, 1.26 or 2; import it only where numpy is loaded
anyway.
Source: cocoapi, ``common/maskApi.c``: rleEncode, rleToString, rleFrString. Runs alternate between pixels outside and inside,
outside first. From the fourth run on, the text has the difference to the run two places before, with five bits per character.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_FIRST = ord("0")
_BITS, _MORE, _SIGN = 5, 0x20, 0x10
_LONGEST = 7
"""Most characters of a number: no image has more than 2^31 pixels."""


class Part(NamedTuple):
    """The pixels of a mask, bool ``[height, width]``, within the part of an image that begins at ``left``, ``top``."""

    left: int
    top: int
    inside: Any


def encoded(part: Part, size: tuple[int, int]) -> str:
    """The compressed mask on an image of ``size`` (height, width), which must contain the whole part."""
    return compressed(_runs_of(part, size))


def compressed(runs: npt.NDArray[np.int64]) -> str:
    """Compress runs, int ``[n]``, to text."""
    values = np.array(runs, np.int64)
    values[3:] -= np.asarray(runs, np.int64)[1:-2]
    shifts: Any = _BITS * np.arange(_LONGEST)
    left = values[:, None] >> shifts
    goes_on = (left < -_SIGN) | (left >= _SIGN)
    written = np.concatenate((np.ones((len(values), 1), bool), goes_on[:, :-1]), axis=1)
    characters = (left & (_MORE - 1)) + goes_on * _MORE + _FIRST
    text: str = characters[written].astype(np.uint8).tobytes().decode("ascii")
    return text


def runs_of(counts: str, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Decode the runs of a text, int64 ``[n]``. Raises ValueError if they are not a mask on an image of ``size`` (height,
    width)."""
    try:
        characters = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        raise ValueError("a mask is not in COCO's compressed form") from None
    if not len(characters) or characters.min() < 0 or characters.max() >= 2 * _MORE or characters[-1] & _MORE:
        raise ValueError("a mask is not in COCO's compressed form")
    ends = np.flatnonzero(characters & _MORE == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise ValueError("a mask has a run that is longer than any image")
    place = np.arange(len(characters)) - np.repeat(starts, lengths)
    values = np.add.reduceat((characters & (_MORE - 1)) << (_BITS * place), starts)
    values -= np.where(characters[ends] & _SIGN, np.int64(1) << (_BITS * lengths), 0)
    # The values are differences to the run two places before: the cumulative sum of every second one restores the runs.
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    height, width = size
    # Check each run before the sum: the sum of huge runs could overflow 64 bits and wrap around to the right value.
    if values.min() < 0 or values.max() > height * width or int(values.sum()) != height * width:
        raise ValueError(f"a mask has runs that do not fit an image of {width} x {height} pixels")
    return values


def area(counts: str, size: tuple[int, int]) -> int:
    """The number of pixels inside. Raises ValueError as `runs_of` does."""
    return int(runs_of(counts, size)[1::2].sum())


def part_of(counts: str, size: tuple[int, int]) -> Part:
    """The smallest part of the image that contains the mask; zero pixels for an empty one. Raises ValueError as `runs_of`
    does."""
    height, _ = size
    starts, ends = _spans(runs_of(counts, size))
    if not len(starts):
        return Part(0, 0, np.zeros((0, 0), bool))
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    # A run that continues in the next column touches both the lower and the upper edge.
    torn = starts // height != (ends - 1) // height
    top = 0 if torn.any() else int((starts % height).min())
    bottom = height if torn.any() else int(((ends - 1) % height).max()) + 1
    edges: Any = np.zeros((right - left) * height + 1, np.int8)
    edges[starts - left * height] += 1
    edges[ends - left * height] -= 1
    whole = edges[:-1].cumsum(dtype=np.int8).reshape(right - left, height).astype(bool)
    return Part(left, top, np.ascontiguousarray(whole[:, top:bottom].T))


def shared(one: str, other: str, size: tuple[int, int]) -> tuple[int, int]:
    """The numbers of pixels in the intersection and in the union of two masks. Raises ValueError as `runs_of` does."""
    (first, last), (begin, end) = (_spans(runs_of(counts, size)) for counts in (one, other))
    both = int((last - first).sum() + (end - begin).sum())
    # For each run of the first mask: pixels of the second one before its end, less those before its start.
    common = _before(begin, end, last) - _before(begin, end, first)
    return int(common.sum()), both - int(common.sum())


def _before(
    starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """For each of ``places``, the number of pixels before it that lie in the spans from ``starts`` to ``ends``."""
    if not len(starts):
        return np.zeros(len(places), np.int64)
    known = np.concatenate(([0], (ends - starts).cumsum()))
    number = starts.searchsorted(places, "right")
    previous = np.maximum(number - 1, 0)
    beyond = np.maximum(ends[previous] - places, 0) * (number > 0)
    found: npt.NDArray[np.int64] = known[number] - beyond
    return found


def _spans(runs: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Starts and ends of the runs inside, as pixel offsets down the columns, without empty runs."""
    ends = runs.cumsum()
    starts, beyond = ends[:-1:2], ends[1::2]
    some = beyond > starts
    return starts[some], beyond[some]


def _runs_of(part: Part, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    height, width = size
    rows, columns = part.inside.shape
    if min(part.left, part.top) < 0 or part.left + columns > width or part.top + rows > height:
        raise ValueError("a part of an image reaches beyond it")
    padded: Any = np.zeros((columns, rows + 2), np.int8)
    padded[:, 1:-1] = part.inside.T
    steps = np.diff(padded, axis=1)
    starts, ends = (
        (part.left + places // (rows + 1)) * height + part.top + places % (rows + 1)
        for places in (np.flatnonzero(steps == 1), np.flatnonzero(steps == -1))
    )
    # A span that ends at the lower edge is joined with one that begins at the top of the next column.
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.concatenate(([True], apart))[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]
    edges = np.stack((starts, ends), axis=1).ravel()
    runs = np.diff(np.concatenate(([0], edges, [height * width])))
    return runs[:-1] if len(edges) and runs[-1] == 0 else runs
