"""Non-maximum suppression: of overlapping boxes, the best one is kept.

Called by the serving code on the outputs of networks, and by the operator's probe where a service has another IoU than its
package. Depends on numpy only, 1.26 or 2. numpy would cost an idle operator tens of megabytes: import this module only where
numpy is loaded anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SLACK = 1e-9
"""Tolerance, relative to their size, within which an edge outside of a rectangle counts as on its edge; exceeds rounding
errors."""
_AT_ONCE = 2**20
"""Approximate number of pairs of turned boxes that are compared at once, which bounds memory."""


def nms(boxes: npt.NDArray[np.float32], iou: float, limit: int | None = None) -> tuple[list[int], bool]:
    """Indices of the boxes ``[n, 4]`` (x1, y1, x2, y2, best first) that remain, and whether more than ``limit`` would.

    Same arithmetic as torchvision.ops.nms, in the dtype of ``boxes``: a box is dropped when its IoU with a better kept one is
    above ``iou``. A kept box is only compared with boxes whose centres are close enough for that, so that thousands can be kept.
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
            # For two boxes without area this is NaN, which compares false: both stay.
            alive[near] &= ~(shared / (areas[at] + areas[near] - shared) > iou)
    return kept, False


def _reach(boxes: npt.NDArray[np.float32], iou: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The horizontal centres of boxes, and the largest distance from them of the centres of boxes with an IoU above ``iou``.

    The IoU of two boxes is at most that of their horizontal sides. With ``iou`` the sides differ at most by this factor, and the
    centres by (1 - iou) / (1 + iou) of the longer one. A small margin is added, because IoU is computed in float32.
    """
    left, right = boxes[:, 0].astype(np.float64), boxes[:, 2].astype(np.float64)
    centres, least = (left + right) / 2, iou - 1e-3
    if least <= 0:  # No bound: a box of any size can overlap, wherever its centre is.
        return centres, np.full(len(boxes), np.inf)
    return centres, (right - left) * (1 - least) / (1 + least) / least + 1e-3


def turned_nms(boxes: npt.NDArray[np.float32], iou: float, limit: int | None = None) -> tuple[list[int], bool]:
    """Indices of the boxes ``[n, 5]`` (see `turned_overlap`; best first) that remain, and whether more than ``limit`` do.

    As in ultralytics, a box is dropped when its overlap with any better one is above ``iou``, even if that one is itself dropped.
    Source: Bolya et al., YOLACT, ICCV 2019, arXiv:1904.02689, section 4.3. Only boxes that are close enough are compared.
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


def turned_overlap(boxes: npt.NDArray[np.float32], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The overlap of boxes ``[n, 5]`` and ``[m, 5]``, from 0 to 1, as ``[n, m]``, in the dtype of ``boxes``.

    A box is its centre x, y, width, height and angle in radians, from the x axis towards the y axis. Boxes are compared as
    Gaussian distributions, by 1 minus the Hellinger distance. Source: Llerena et al., Gaussian bounding boxes and probabilistic
    intersection-over-union for object detection, 2021, arXiv:2106.06072; arithmetic and small constants are those of ultralytics.
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
    found: npt.NDArray[Any] = 1 - np.sqrt(1.0 - np.exp(-apart) + least)
    return found


def _variances(boxes: npt.NDArray[Any]) -> tuple[Any, Any, Any]:
    """Covariances of the Gaussians of turned boxes: the variance in x, the variance in y, and the covariance."""
    wide, high = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cosine, sine = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return wide * cosine**2 + high * sine**2, wide * sine**2 + high * cosine**2, (wide - high) * cosine * sine


def _turned_reach(iou: float) -> float:
    """The largest distance in x, in standard deviations of a box, to the centre of one that overlaps it by more than ``iou``.

    The distance of two Gaussians is at least that of their marginals in x. That bounds the ratio of their variances, and with it
    the distance of their centres. A small margin is added, because overlaps are computed in float32.
    """
    least = iou - 1e-3
    if least <= 0:
        return float("inf")
    apart = -np.log(1 - (1 - least) ** 2)
    ratio = np.exp(2 * apart) + np.sqrt(np.exp(4 * apart) - 1)
    return float(2 * np.sqrt(apart * (1 + ratio**2)))


def common_area(corners: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The intersection area ``[n]`` of pairs of rectangles, given by their corners ``[n, 4, 2]`` in clockwise order.

    Uses the shoelace formula over the parts of each one's edges that lie in the other. Coinciding edges count once where both
    rectangles are on the same side of them, else not at all. Source: Cyrus and Beck, Generalized two- and three-dimensional
    clipping, Computers and Graphics 3 (1978).
    """
    middle = corners.mean(axis=1, keepdims=True)
    first, second = corners - middle, others - middle
    sides = [np.hypot(*np.moveaxis(each[:, 1:3] - each[:, :2], -1, 0)) for each in (first, second)]
    slack = SLACK * np.concatenate(sides, axis=1).max(axis=1)
    twice = _swept(first, second, -slack, slack) + _swept(second, first, slack, slack)
    return np.clip(twice / 2, 0, np.minimum(*(each.prod(axis=1) for each in sides)))


def _swept(
    edges: npt.NDArray[np.float64],
    within: npt.NDArray[np.float64],
    along_side: npt.NDArray[np.float64],
    against: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Twice the area that the edges of boxes cover as seen from the origin, for the parts of them that lie in other boxes.

    A part lies inside from this distance on: ``along_side`` where an edge runs in the direction of a side, else ``against``.
    """
    start, along = edges, np.roll(edges, -1, axis=1) - edges
    side = np.roll(within, -1, axis=1) - within
    length = np.maximum(np.hypot(side[..., 0], side[..., 1]), np.finfo(float).tiny)
    inward = np.stack((-side[..., 1], side[..., 0]), axis=-1) / length[..., None]
    # Distances from each side, and their change along the edge: [pair, edge, side].
    same_way = (along[:, :, None] * side[:, None]).sum(axis=-1) > 0
    least = np.where(same_way, along_side[:, None, None], against[:, None, None])
    at = ((start[:, :, None] - within[:, None]) * inward[:, None]).sum(axis=-1) - least
    change = (along[:, :, None] * inward[:, None]).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -at / change
    enters = np.where(change > 0, crossing, np.where((change == 0) & (at < 0), np.inf, -np.inf)).max(axis=2)
    leaves = np.where(change < 0, crossing, np.inf).min(axis=2)
    part = np.clip(np.minimum(leaves, 1) - np.maximum(enters, 0), 0, None)
    found: npt.NDArray[np.float64] = ((start[..., 0] * along[..., 1] - start[..., 1] * along[..., 0]) * part).sum(
        axis=1
    )
    return found


def across_tiles(boxes: Any, scores: Any, tiles: Any, is_cut: Any, share: float, corners: Any = None) -> list[int]:
    """Ordered indices of the boxes ``[n, 4]`` of one class that remain when objects in several tiles are kept once.

    ``tiles`` [n] are the numbers of the tiles in which boxes were found; ``is_cut`` [n] marks boxes at an edge of their tile
    within the image. ``corners`` [n, 4, 2] are those of turned boxes, around which ``boxes`` lie. When two boxes of different
    tiles share more than ``share`` of the smaller one (IoS), the cut one is dropped, else the one with the lower score. Boxes of
    one tile never drop each other, since suppression was applied within the tile before. Source: the postprocessing of Akyon,
    Altinuc and Temizel, Slicing aided hyper inference and fine-tuning for small object detection, ICIP 2022,
    doi:10.1109/ICIP46576.2022.9897990, which however treats boxes of one tile and of several alike.
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
