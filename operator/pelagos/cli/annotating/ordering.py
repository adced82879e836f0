"""In which order images go to people: first those of which a model has most to learn. Pure; looks are those of preparations.

Two ranks are made of the images, and the mean of both counts. *Least sure*: by how sure the model is of what it found
(uncertainty sampling, Lewis and Gale 1994, doi:10.1007/978-1-4471-2099-5_1). *Most novel*: the greedy choice of a core-set
(k-center; Sener and Savarese 2018, arXiv:1708.00489), in which each is the image that looks least like those that the model was
trained on and those chosen before it, so that of frames that look alike one goes first and the others late. How far apart images
look is the angle between their looks, laid as they are closest: mirrored or turned, an organism is no other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pelagos_contract.looks import SIDE

MOST_TRAINED = 20_000
"""Images of a training that are compared with; of more, every n-th."""
_AT_ONCE = 1024
_SIGNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def by_both(scores: Sequence[float], novelty: Sequence[int] | None) -> list[int]:
    """The places of images, the first ones to be shown first.

    ``scores`` say how sure the model is of each, ``novelty`` has the ranks of ``novel_first``; None: by ``scores`` alone. What is
    equal stays in the order in which it came.
    """
    unsure = _ranks(scores)
    ranks = unsure if novelty is None else [one + other for one, other in zip(unsure, novelty, strict=True)]
    return sorted(range(len(scores)), key=lambda place: (ranks[place], unsure[place]))


def novel_first(looks: Sequence[bytes | None], trained: Sequence[bytes]) -> list[int]:
    """The rank of each image in the greedy choice, from 0; images without a look, on which nothing is to be seen, share the last.

    ``trained`` are looks of the images that the model was trained on; there is at least one.
    """
    places = [place for place, look in enumerate(looks) if look is not None]
    ranks = [len(places)] * len(looks)
    if not places:
        return ranks
    waves = _units([look for look in looks if look is not None])
    laid = _laid(waves)
    closest: Any = np.full(len(waves), -1.0, np.float32)
    known = _units(trained[:: -(-len(trained) // MOST_TRAINED)])
    for start in range(0, len(known), _AT_ONCE):
        some = known[start : start + _AT_ONCE].T
        closest = np.maximum(closest, (laid @ some).max(axis=(0, 2)))
    for rank in range(len(waves)):
        chosen = int(np.argmin(closest))
        ranks[places[chosen]] = rank
        closest = np.maximum(closest, (laid @ waves[chosen]).max(axis=0))
        closest[chosen] = np.inf
    return ranks


def _ranks(values: Sequence[float]) -> list[int]:
    """How many are smaller than each."""
    ascending = np.sort(np.asarray(values, np.float64))
    found: Any = np.searchsorted(ascending, np.asarray(values, np.float64), "left")
    return [int(rank) for rank in found]


def _units(looks: Sequence[bytes]) -> Any:
    waves = np.frombuffer(b"".join(looks), np.int8).astype(np.float32).reshape(len(looks), SIDE * SIDE)
    return waves / np.maximum(np.linalg.norm(waves, axis=1, keepdims=True), 1.0)


def _laid(waves: Any) -> Any:
    """In all eight ways [8, images, waves]: transposed or not, and mirrored along a side, which changes signs of odd waves."""
    square = waves.reshape(-1, SIDE, SIDE)
    odd: Any = np.arange(SIDE) % 2
    found = []
    for one in (square, square.transpose(0, 2, 1)):
        for down, across in _SIGNS:
            rows, columns = np.where(odd, down, 1)[:, None], np.where(odd, across, 1)[None, :]
            found.append((one * rows * columns).reshape(-1, SIDE * SIDE))
    return np.stack(found).astype(np.float32)
