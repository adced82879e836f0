"""Greedy non-maximum suppression: of boxes that lie over each other, the best one is kept.

Called by the code that serves, for the boxes that networks give, and by the operator's probe, where a service has another IoU
than its package. It may know numpy only, and runs with numpy 1.26 and 2. Nothing else of the contract needs numpy, which would
cost an idle operator tens of megabytes: import it where numpy is loaded anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def nms(boxes: Any, iou: float, limit: int | None = None) -> tuple[list[int], bool]:
    """Places of the boxes ``[n, 4]`` (x1, y1, x2, y2, the best box first) that survive, and whether more than ``limit`` would.

    The arithmetic of torchvision.ops.nms, in the type of ``boxes``: a box is dropped when its IoU with a better one is above
    ``iou``. Each box that is kept is compared with those alone whose centres lie close enough for that, so that thousands may
    be kept.
    """
    centres, reach = _reach(boxes, iou)
    across = np.argsort(centres, kind="stable")
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[across].T)
    areas = (x2 - x1) * (y2 - y1)
    ordered: Any = centres[across]
    first, last = (ordered.searchsorted(centres + reach * side).tolist() for side in (-1, 1))
    alive: Any = np.ones(len(across), bool)
    kept: list[int] = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for index, at in enumerate(np.argsort(across).tolist()):
            if not alive[at]:
                continue
            if len(kept) == limit:
                return kept, True
            kept.append(index)
            near = slice(first[index], last[index])
            width = np.minimum(x2[at], x2[near]) - np.maximum(x1[at], x1[near])
            height = np.minimum(y2[at], y2[near]) - np.maximum(y1[at], y1[near])
            shared = np.maximum(width, 0) * np.maximum(height, 0)
            # Of two boxes without an area that is not a number, which is above nothing: both stay.
            alive[near] &= ~(shared / (areas[at] + areas[near] - shared) > iou)
    return kept, False


def _reach(boxes: Any, iou: float) -> tuple[Any, Any]:
    """Where boxes have their centres from left to right, and how far from there those of boxes with a higher IoU can be.

    The overlap of two boxes is at most that of their sides: with ``iou`` the sides differ by this factor at most, and the centres
    by (1 - iou) / (1 + iou) of the longer one. A little more is allowed for, because IoU is computed in float32.
    """
    left, right = boxes[:, 0].astype(np.float64), boxes[:, 2].astype(np.float64)
    centres, least = (left + right) / 2, iou - 1e-3
    if least <= 0:  # A box of any size counts, wherever its centre is.
        return centres, np.full(len(boxes), np.inf)
    return centres, (right - left) * (1 - least) / (1 + least) / least + 1e-3


def across_tiles(boxes: Any, scores: Any, tiles: Any, is_cut: Any, share: float) -> list[int]:
    """Places of the boxes ``[n, 4]`` of one class that remain when what several tiles show is kept once, in their order.

    ``tiles`` [n] are the numbers of those in which boxes were found, and ``is_cut`` [n] says which reach an edge of theirs within
    the image. Of two boxes of different tiles that have more than ``share`` of the smaller one in common (IoS), the one that is
    cut is dropped, or that of the lower score. Boxes of one tile, which has been suppressed by itself, never drop each other.

    Source: the postprocessing of Akyon, Altinuc and Temizel, Slicing aided hyper inference and fine-tuning for small object
    detection, ICIP 2022, doi:10.1109/ICIP46576.2022.9897990; there boxes of one tile and of several are treated alike.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    across = np.argsort(x1, kind="stable")
    ordered: Any = x1[across]
    widest = (x2 - x1).max(initial=0)
    alive: Any = np.ones(len(areas), bool)
    for one in np.lexsort((-np.asarray(scores), np.asarray(is_cut))).tolist():
        if not alive[one]:
            continue
        near = across[ordered.searchsorted(x1[one] - widest) : ordered.searchsorted(x2[one], "right")]
        width = np.minimum(x2[one], x2[near]) - np.maximum(x1[one], x1[near])
        height = np.minimum(y2[one], y2[near]) - np.maximum(y1[one], y1[near])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        dropped = (shared > share * np.minimum(areas[one], areas[near])) & (tiles[near] != tiles[one])
        alive[near[dropped]] = False
    return np.flatnonzero(alive).tolist()
