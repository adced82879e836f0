"""Images that show the same: the same bytes or pixels, and, when asked for, nearly the same by their perceptual hash.

Duplicates matter because a copy in the test split is an exam question that was given away. Called by cleaning.
Near duplicates are off by default (``maxDistance: 0``), because organisms on a plain background look alike to any coarse hash.
Measured on the 105 real FlowCam crops of the samples: within 4 bits lie all copies that are saved again at JPEG quality 50 or
brightened by 15 grey levels, 72 % of those of half the size, and 1 of the 5,460 pairs of different organisms (3 within 6 bits).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pelagos_pipelines.preparation.integrity import Inspection

BATCH = 512
"""Rows compared at once: 512 x 100,000 hashes are 400 MB as 64-bit numbers, 50 MB for 12,000."""


@dataclass(frozen=True)
class Found:
    """The first image, by path, that each later one repeats. ``near`` are alike but not the same."""

    exact: Mapping[str, str]
    near: Mapping[str, str]

    @property
    def first_of(self) -> dict[str, str]:
        """Both kinds."""
        return {**self.near, **self.exact}


def find(inspections: Mapping[str, Inspection], max_distance: int) -> Found:
    """Compare readable images in the order of their paths; the answer does not depend on the order in which files were listed.

    An image is a near duplicate of the first *kept* one within ``max_distance`` bits, so a slowly changing series of frames
    keeps one frame per step instead of collapsing into its first.
    """
    exact: dict[str, str] = {}
    first: dict[str, str] = {}
    distinct: list[str] = []
    for path in sorted(inspections):
        identity = inspections[path].pixels
        if identity in first:
            exact[path] = first[identity]
        else:
            first[identity] = path
            distinct.append(path)
    near = _near(distinct, inspections, max_distance) if max_distance > 0 else {}
    return Found({path: near.get(original, original) for path, original in exact.items()}, near)


def _near(paths: Sequence[str], inspections: Mapping[str, Inspection], max_distance: int) -> dict[str, str]:
    hashed = [(path, inspections[path].phash) for path in paths]
    comparable = [(path, value) for path, value in hashed if value is not None]
    earlier = _pairs([value for _, value in comparable], max_distance)
    near: dict[str, str] = {}
    for index, (path, _) in enumerate(comparable):
        original = next(
            (comparable[other][0] for other in earlier.get(index, ()) if comparable[other][0] not in near), None
        )
        if original is not None:
            near[path] = original
    return near


def _pairs(hashes: Sequence[int], max_distance: int) -> dict[int, list[int]]:
    """For every index the smaller indices whose hash differs in at most ``max_distance`` bits, ascending."""
    import numpy as np

    values = np.array(hashes, np.uint64)
    found: dict[int, list[int]] = {}
    for start in range(0, len(values), BATCH):
        rows = values[start : start + BATCH, None]
        earlier = values[None, : start + BATCH]
        close = np.bitwise_count(rows ^ earlier) <= max_distance
        for row, other in np.argwhere(close).tolist():
            if other < start + row:
                found.setdefault(start + row, []).append(other)
    return found
