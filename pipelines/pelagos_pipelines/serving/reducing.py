"""Reduces images to a longest side, for dataset versions and for servers. Nothing else does so.

Called by inspection.py and images.py, in children, and by the predictor. Each pixel is the mean of the area that it covers in the
original, in whole numbers, so that every machine gets the same. It may import only numpy, and runs with numpy 1.26 and 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def size(width: int, height: int, longest: int | None) -> tuple[int, int]:
    """Width and height after reducing the longer side to at most ``longest`` pixels; no image becomes larger."""
    longer = max(width, height)
    if longest is None or longer <= longest:
        return width, height
    wide, high = (max(1, (2 * side * longest + longer) // (2 * longer)) for side in (width, height))
    return wide, high


def reduced(image: npt.NDArray[np.uint8], longest: int | None) -> npt.NDArray[np.uint8]:
    """The image [height, width, channels], 8 bits per sample, reduced to that size; ``image`` itself if it is no larger."""
    height, width = image.shape[:2]
    wide, high = size(width, height, longest)
    if (wide, high) == (width, height):
        return image
    found: npt.NDArray[np.uint8] = np.empty((high, wide, image.shape[2]), np.uint8)
    edges: Any = np.arange(wide + 1, dtype=np.int64) * width
    whole, part = edges // wide, (edges % wide)[:, None]
    area = width * height
    for row in range(high):
        # Positions are counted in 1/high of a row, so that all sums are of whole numbers.
        (first, before), (last, behind) = divmod(row * height, high), divmod((row + 1) * height, high)
        column: Any = image[first:last].sum(axis=0, dtype=np.int64) * high - image[first].astype(np.int64) * before
        if behind:
            column += image[last].astype(np.int64) * behind
        sums = np.concatenate((np.zeros((1, column.shape[1]), np.int64), np.cumsum(column, axis=0)))
        column = np.concatenate((column, np.zeros((1, column.shape[1]), np.int64)))
        totals = np.diff(sums[whole] * wide + column[whole] * part, axis=0)
        found[row] = (2 * totals + area) // (2 * area)
    return found
