"""Non-maximum suppression: of boxes that lie over each other, the best one is kept.

Called by the code that serves, for the boxes that networks give, and by the operator's probe, where a service has another IoU
than its package. It may know numpy only, and runs with numpy 1.26 and 2. Nothing else of the contract needs numpy, which would
cost an idle operator tens of megabytes: import it where numpy is loaded anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SLACK = 1e-9
"""By how much, as a share of their size, an edge may lie outside of a rectangle and be on its edge: more than rounding makes."""
_AT_ONCE = 2**20
"""Pairs of turned boxes that are compared at once, about."""


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


def turned_nms(boxes: Any, iou: float, limit: int | None = None) -> tuple[list[int], bool]:
    """Places of the boxes ``[n, 5]`` (see `turned_overlap`; the best box first) that survive, and whether more than ``limit`` do.

    As ultralytics does it: a box is dropped when its overlap with any better one is above ``iou``, also where that one is dropped
    itself. Source: Bolya et al., YOLACT, ICCV 2019, arXiv:1904.02689, section 4.3. Only boxes that lie close enough are compared.
    """
    variances = _variances(boxes)[0].astype(np.float64)
    across = np.argsort(boxes[:, 0], kind="stable")
    centres: Any = boxes[across, 0].astype(np.float64)
    reach = np.sqrt(variances[across]) * _turned_reach(iou) + 1e-2
    first, last = centres.searchsorted(centres - reach), centres.searchsorted(centres + reach, "right")
    dropped: Any = np.zeros(len(boxes), bool)
    start = 0
    while start < len(boxes):
        end = start + 1
        low, high = int(first[start]), int(last[start])
        while (
            end < len(boxes) and (end + 1 - start) * (max(high, int(last[end])) - min(low, int(first[end]))) <= _AT_ONCE
        ):
            low, high, end = min(low, int(first[end])), max(high, int(last[end])), end + 1
        rows, columns = across[start:end], across[low:high]
        above = turned_overlap(boxes[rows], boxes[columns]) > iou
        dropped[rows] |= (above & (columns[None] < rows[:, None])).any(axis=1)
        start = end
    kept = np.flatnonzero(~dropped).tolist()
    return kept[:limit], limit is not None and len(kept) > limit


def turned_overlap(boxes: Any, others: Any) -> Any:
    """How much boxes ``[n, 5]`` and ``[m, 5]`` overlap, from 0 to 1, as ``[n, m]``, in the type of ``boxes``.

    Each is the centre x, y, width, height and an angle in radians, from the x axis towards the y axis. They are compared as
    Gaussian distributions, by 1 minus the Hellinger distance. Source: Llerena et al., Gaussian bounding boxes and probabilistic
    intersection-over-union for object detection, 2021, arXiv:2106.06072; the arithmetic, with its small numbers, is ultralytics'.
    """
    least = 1e-7
    x, y = boxes[:, None, 0] - others[None, :, 0], boxes[:, None, 1] - others[None, :, 1]
    (a1, b1, c1), (a2, b2, c2) = _variances(boxes), _variances(others)
    a, b, c = a1[:, None] + a2[None], b1[:, None] + b2[None], c1[:, None] + c2[None]
    area = a * b - c**2
    place = (a * y**2 + b * x**2) / (area + least) * 0.25 - (c * x * y) / (area + least) * 0.5
    own = np.maximum(a1 * b1 - c1**2, 0)[:, None] * np.maximum(a2 * b2 - c2**2, 0)[None]
    form = np.log(area / (4 * np.sqrt(own) + least) + least) * 0.5
    apart = np.clip(place + form, least, 100.0)
    return 1 - np.sqrt(1.0 - np.exp(-apart) + least)


def _variances(boxes: Any) -> tuple[Any, Any, Any]:
    """Of the Gaussians of turned boxes: across, down, and of both."""
    wide, high = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cosine, sine = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return wide * cosine**2 + high * sine**2, wide * sine**2 + high * cosine**2, (wide - high) * cosine * sine


def _turned_reach(iou: float) -> float:
    """How far from a box, in its standard deviations across, the centres of those are that overlap it by more than ``iou``.

    The distance of two Gaussians is at least that of what they are across: it bounds what one is as a multiple of the other, and
    with that how far both are apart. A little more is allowed for, because overlaps are computed in float32.
    """
    least = iou - 1e-3
    if least <= 0:
        return float("inf")
    apart = -np.log(1 - (1 - least) ** 2)
    ratio = np.exp(2 * apart) + np.sqrt(np.exp(4 * apart) - 1)
    return float(2 * np.sqrt(apart * (1 + ratio**2)))


def common_area(corners: Any, others: Any) -> Any:
    """The area ``[n]`` that two rectangles of each pair have in common, by their corners ``[n, 4, 2]`` in turn, clockwise.

    The shoelace formula, by those parts of either one's edges that lie in the other. Edges that lie on each other are taken once
    where both rectangles are on the same side of them, else not at all. Source: Cyrus and Beck, Generalized two- and
    three-dimensional clipping, Computers and Graphics 3 (1978).
    """
    middle = corners.mean(axis=1, keepdims=True)
    first, second = corners - middle, others - middle
    sides = [np.hypot(*np.moveaxis(each[:, 1:3] - each[:, :2], -1, 0)) for each in (first, second)]
    slack = SLACK * np.concatenate(sides, axis=1).max(axis=1)
    twice = _swept(first, second, -slack, slack) + _swept(second, first, slack, slack)
    return np.clip(twice / 2, 0, np.minimum(*(each.prod(axis=1) for each in sides)))


def _swept(edges: Any, within: Any, along_side: Any, against: Any) -> Any:
    """Twice the area that the edges of boxes pass over as seen from the origin, as far as they lie in others.

    In by so much, or more: by ``along_side`` where an edge goes the way of a side of the other, else by ``against``.
    """
    start, along = edges, np.roll(edges, -1, axis=1) - edges
    side = np.roll(within, -1, axis=1) - within
    length = np.maximum(np.hypot(side[..., 0], side[..., 1]), np.finfo(float).tiny)
    inward = np.stack((-side[..., 1], side[..., 0]), axis=-1) / length[..., None]
    # Distances from each side, and by how much they change along the edge: [pair, edge, side].
    same_way = (along[:, :, None] * side[:, None]).sum(axis=-1) > 0
    least = np.where(same_way, along_side[:, None, None], against[:, None, None])
    at = ((start[:, :, None] - within[:, None]) * inward[:, None]).sum(axis=-1) - least
    change = (along[:, :, None] * inward[:, None]).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -at / change
    enters = np.where(change > 0, crossing, np.where((change == 0) & (at < 0), np.inf, -np.inf)).max(axis=2)
    leaves = np.where(change < 0, crossing, np.inf).min(axis=2)
    part = np.clip(np.minimum(leaves, 1) - np.maximum(enters, 0), 0, None)
    return ((start[..., 0] * along[..., 1] - start[..., 1] * along[..., 0]) * part).sum(axis=1)


def across_tiles(boxes: Any, scores: Any, tiles: Any, is_cut: Any, share: float, corners: Any = None) -> list[int]:
    """Places of the boxes ``[n, 4]`` of one class that remain when what several tiles show is kept once, in their order.

    ``tiles`` [n] are the numbers of those in which boxes were found, and ``is_cut`` [n] says which reach an edge of theirs within
    the image. ``corners`` [n, 4, 2] are those of turned boxes, where ``boxes`` are around these. Of two boxes of different tiles
    that have more than ``share`` of the smaller one in common (IoS), the one that is cut is dropped, or that of the lower score.
    Boxes of one tile, which has been suppressed by itself, never drop each other.

    Source: the postprocessing of Akyon, Altinuc and Temizel, Slicing aided hyper inference and fine-tuning for small object
    detection, ICIP 2022, doi:10.1109/ICIP46576.2022.9897990; there boxes of one tile and of several are treated alike.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float64).reshape(-1, 4).T
    areas = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    if corners is not None:
        areas = common_area(corners, corners)
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
        if corners is not None:
            shared = common_area(corners[[one] * len(near)], corners[near])
        dropped = (shared > share * np.minimum(areas[one], areas[near])) & (tiles[near] != tiles[one])
        alive[near[dropped]] = False
    return np.flatnonzero(alive).tolist()
