"""The order in which people get images: first those from which a model can learn most. Pure; features come from preparations.

Images get two ranks, and the mean of both counts. *Least sure*: by the model's confidence in what it found (uncertainty sampling,
Lewis and Gale 1994, doi:10.1007/978-1-4471-2099-5_1). *Most novel*: the greedy choice of a core-set (k-center; Sener and Savarese
2018, arXiv:1708.00489), in which each next image is the one least like the training images and those chosen before, so that of
similar frames one comes early and the others late.

The squared distance of two images is the squared chord between their looks, in the orientation in which they are closest (a
mirrored or turned organism is the same), plus the mean squared difference of their figures, in standard deviations of the
training images. Measured on the six classes of the sample phytoplankton-crops, each left out of the training in turn, 20 times:
an image of the new class comes before one of the others in 61 of 100 pairs; by looks alone in 55, by chance in 50.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pelagos_contract.looks import SIDE, Seen

MOST_TRAINED = 20_000
"""Most training images to compare with; of more, every n-th is used."""
_AT_ONCE = 1024
_MOST = 4.0
"""Largest distance of a figure from the training's mean, in standard deviations; larger ones are clipped."""
_LEAST = (0.1, 5.0, 5.0, 0.1, 0.1, 0.1)
"""Smallest standard deviation of each figure, because training images from one camera, or a single one, have none."""
_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def by_both(scores: Sequence[float], novelty: Sequence[int] | None) -> list[int]:
    """The indices of the images, in the order in which to show them.

    ``scores`` is the model's confidence per image, ``novelty`` the ranks of ``novel_first``; None: use ``scores`` alone. Equal
    images keep their order.
    """
    unsure = _ranks(scores)
    ranks = unsure if novelty is None else [one + other for one, other in zip(unsure, novelty, strict=True)]
    return sorted(range(len(scores)), key=lambda place: (ranks[place], unsure[place]))


def novel_first(images: Sequence[Seen | None], trained: Sequence[Seen]) -> list[int]:
    """The rank of each image in the greedy choice, from 0; images without features or look share the last rank.

    ``trained`` are the model's training images, of which at least one must have a look.
    """
    places = [place for place, image in enumerate(images) if image is not None and image.look is not None]
    ranks = [len(places)] * len(images)
    learned = [image for image in trained if image.look is not None]
    if not places:
        return ranks
    scale = _Scale.of(learned)
    known, mine = (
        scale.taken(learned[:: -(-len(learned) // MOST_TRAINED)]),
        scale.taken([images[one] for one in places]),
    )
    laid = _laid(mine.waves)
    closest: npt.NDArray[np.float32] = np.full(len(places), -np.inf, np.float32)
    for start in range(0, len(known.waves), _AT_ONCE):
        closest = np.maximum(closest, _closeness(laid, mine.figures, known.part(start, start + _AT_ONCE)).max(axis=1))
    for rank in range(len(places)):
        chosen = int(np.argmin(closest))
        ranks[places[chosen]] = rank
        closest = np.maximum(closest, _closeness(laid, mine.figures, mine.part(chosen, chosen + 1))[:, 0])
        closest[chosen] = np.inf
    return ranks


class _Taken(NamedTuple):
    """Images as arrays: looks of length 1 [images, waves], and figures in standard deviations [images, figures]."""

    waves: npt.NDArray[np.float32]
    figures: npt.NDArray[np.float32]

    def part(self, start: int, end: int) -> _Taken:
        return _Taken(self.waves[start:end], self.figures[start:end])


class _Scale(NamedTuple):
    """The scale on which figures are compared."""

    middle: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]

    @classmethod
    def of(cls, learned: Sequence[Seen]) -> _Scale:
        figures: npt.NDArray[np.float64] = np.array([image.figures for image in learned], np.float64)
        return cls(figures.mean(axis=0), np.maximum(figures.std(axis=0), _LEAST))

    def taken(self, images: Sequence[Seen | None]) -> _Taken:
        there = [image for image in images if image is not None]
        figures: npt.NDArray[np.float64] = np.array([image.figures for image in there], np.float64)
        apart = np.clip((figures - self.middle) / self.spread, -_MOST, _MOST).astype(np.float32)
        return _Taken(_units([image.look or bytes(SIDE * SIDE) for image in there]), apart)


def _closeness(
    laid: npt.NDArray[np.float32], figures: npt.NDArray[np.float32], others: _Taken
) -> npt.NDArray[np.float32]:
    """One minus half the squared distance, as an array [images, others]."""
    apart = np.square(figures[:, None] - others.figures[None]).mean(axis=2)
    found: npt.NDArray[np.float32] = (laid @ others.waves.T).max(axis=0) - apart / 2
    return found


def _ranks(values: Sequence[float]) -> list[int]:
    """For each value, how many are smaller."""
    ascending = np.sort(np.asarray(values, np.float64))
    found: Any = np.searchsorted(ascending, np.asarray(values, np.float64), "left")
    return [int(rank) for rank in found]


def _units(looks: Sequence[bytes]) -> npt.NDArray[np.float32]:
    waves = np.frombuffer(b"".join(looks), np.int8).astype(np.float32).reshape(len(looks), SIDE * SIDE)
    found: npt.NDArray[np.float32] = waves / np.maximum(np.linalg.norm(waves, axis=1, keepdims=True), 1.0)
    return found


def _laid(waves: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Looks in all eight orientations, [8, images, waves]: transposed or not, and mirrored, which flips the sign of odd waves."""
    square = waves.reshape(-1, SIDE, SIDE)
    odd: Any = np.arange(SIDE) % 2
    found = []
    for one in (square, square.transpose(0, 2, 1)):
        for down, across in _SIGNS:
            rows, columns = np.where(odd, down, 1)[:, None], np.where(odd, across, 1)[None, :]
            found.append((one * rows * columns).reshape(-1, SIDE * SIDE))
    return np.stack(found).astype(np.float32)
