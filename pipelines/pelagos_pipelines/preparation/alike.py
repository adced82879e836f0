"""Finds images that look alike: pairs of looks (looks.py) within a distance, without comparing every pair.

Called by duplicates.py. A few images are all compared. With more, each gets a key of some bits in each of several tables: on
which sides of some planes its look lies. Close looks mostly lie on the same sides, and have the same key in one table or another.
An image is looked up in all eight orientations. This is locality-sensitive hashing by random planes (Charikar 2002,
doi:10.1145/509907.509965). Keys get longer with the number of images, so that the work grows little faster than that number. All
values are whole numbers, so every machine finds the same pairs.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.preparation.looks import KEPT, LENGTH

STEP = LENGTH / 15
"""One unit of distance."""
EARLIER = 16
"""The most earlier images reported for one: among frames that all look alike, each would look like all before it."""
FEW = 512
"""Up to this number of images, every pair is compared."""
_TABLES = 16
_BUCKET = 64
"""The most images with the same key that one is compared with: the first ones."""
_LONGEST_KEY = 24
_SKETCH = 64
"""Planes of a longer key, which rules out most candidates before their looks are compared."""
_FAR = 16
"""Bits of the longer key in which a pair must not differ: looks within the usual distance differ in 5 of 64 on average, and
never in so many."""
_ROWS = 512
_CHUNK = 1 << 16
_TOGETHER = 1 << 11
"""Pairs that are compared at a time: their looks stay in the processor's cache."""
_ALONE = 64
"""Rows of a matrix product that are too few for a library to divide among threads."""
_WAYS = tuple(itertools.product((False, True), (1, -1), (1, -1)))
"""The eight orientations of an image: whether it is transposed, and the factors of its odd rows and columns of waves."""

_PARITIES = ((0, 0), (0, 1), (1, 0), (1, 1))


def pairs(looks: Sequence[bytes], distance: int) -> dict[int, list[int]]:
    """For each index, the first smaller ones, ascending, whose looks are within ``distance`` in any of the eight orientations."""
    waves = np.frombuffer(b"".join(looks), np.int8).reshape(-1, KEPT, KEPT)
    found, comparison = _Found(len(waves)), _Comparison(waves, distance * STEP)
    if len(waves) <= FEW:
        for start in range(0, len(waves), _ROWS):
            found.add(*comparison.within(start, start + _ROWS))
        return found.first()
    sides = _Sides(waves)
    sketches = sides.of("sketch", _SKETCH)
    far = _FAR if distance <= 4 else _SKETCH
    for table in range(_TABLES):
        keys = sides.of(f"table {table}", min(_LONGEST_KEY, 1 + (len(waves) - 1).bit_length()))
        index = _Index(keys[0])
        for way, of_way, sketch in zip(_WAYS, keys, sketches, strict=True):
            for later, earlier in index.candidates(of_way, found.open()):
                near = np.bitwise_count(sketch[later] ^ sketches[0][earlier]) < far
                # Similar images share keys in many tables, so pairs that are known already are not compared again.
                new = found.without(later[near], earlier[near])
                found.add(*comparison.close(*new, way))
    return found.first()


def distances(looks: Sequence[bytes], others: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """[looks]: the distance of each look from the other at its place, in the closest orientation and the unit of `pairs`."""
    waves, fixed = (
        np.frombuffer(b"".join(some), np.int8).reshape(-1, KEPT, KEPT).astype(np.float32) for some in (looks, others)
    )
    squares = [np.square(_laid(waves, way) - fixed).sum(axis=(1, 2)) for way in _WAYS]
    found: npt.NDArray[np.float32] = np.sqrt(np.min(squares, axis=0)) / STEP
    return found


class _Found:
    """The pairs that were found. An image with ``EARLIER`` pairs is no longer open for more."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._pairs: Any = np.zeros(0, np.int64)
        """Each pair once, encoded as one number, ascending."""
        self._known: Any = np.zeros(count, np.int64)

    def without(
        self, later: npt.NDArray[np.int64], earlier: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Those of the given pairs that have not been found yet."""
        if not len(self._pairs) or not len(later):
            return later, earlier
        asked = later.astype(np.int64) * self._count + earlier
        places = np.minimum(np.searchsorted(self._pairs, asked), len(self._pairs) - 1)
        new = self._pairs[places] != asked
        return later[new], earlier[new]

    def add(self, later: npt.NDArray[np.int64], earlier: npt.NDArray[np.int64]) -> None:
        """Add pairs, which must be new and different."""
        if len(later):
            # Kept as a sorted array: numpy's set operations hash, and take longer.
            added = later.astype(np.int64) * self._count + earlier
            self._pairs = np.sort(np.concatenate((self._pairs, added)))
            self._known += np.bincount(later, minlength=self._count)

    def open(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(self._known < EARLIER)

    def first(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for pair in self._pairs.tolist():
            earlier = found.setdefault(pair // self._count, [])
            if len(earlier) < EARLIER:
                earlier.append(pair % self._count)
        return found


class _Comparison:
    """Compares looks. Values are whole numbers in 32-bit floats, which hold them exactly."""

    def __init__(self, waves: npt.NDArray[np.int8], radius: float) -> None:
        self._waves, self._radius = waves, radius
        # A transposed copy is kept as well: contiguous rows are compared several times as fast as gathered values.
        self._flat = [np.ascontiguousarray(one).reshape(-1, KEPT * KEPT) for one in (waves, waves.transpose(0, 2, 1))]
        self._squares = np.square(waves, dtype=np.float32).sum(axis=(1, 2))

    def close(
        self, later: npt.NDArray[np.int64], earlier: npt.NDArray[np.int64], way: tuple[bool, int, int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The pairs that are within the radius when the later image has the orientation ``way``."""
        near: Any = np.zeros(len(later), bool)
        for start in range(0, len(later), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            near[some] = self._are_close(later[some], earlier[some], way)
        return later[near], earlier[near]

    def _are_close(self, later: Any, earlier: Any, way: tuple[bool, int, int]) -> Any:
        transposed, rows, columns = way
        one, other = self._flat[transposed][later].astype(np.float32), self._flat[False][earlier].astype(np.float32)
        if min(rows, columns) < 0:
            one *= (_signs(rows)[:, None] * _signs(columns)).ravel()
        products = np.einsum("ni,ni->n", one, other)
        return self._squares[later] + self._squares[earlier] - 2 * products <= self._radius**2

    def within(self, start: int, end: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The first pairs within the radius whose later image is in ``start`` to ``end``, in any orientation."""
        rows, columns = self._waves[start:end], self._waves[:end].reshape(-1, KEPT * KEPT).astype(np.float32)
        best = np.max([_laid(rows, way).reshape(-1, KEPT * KEPT) @ columns.T for way in _WAYS], axis=0)
        near = self._squares[start:end, None] + self._squares[None, :end] - 2 * best <= self._radius**2
        near &= np.arange(len(columns)) < np.arange(start, start + len(rows))[:, None]
        later, earlier = np.nonzero(near & (near.cumsum(axis=1) <= EARLIER))
        return later + start, earlier


class _Index:
    """Images by their key in one table."""

    def __init__(self, keys: npt.NDArray[np.uint64]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(keys.astype(np.int64)))))

    def candidates(self, keys: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
        """Pairs of ``rows`` with earlier images that have the same key, in chunks."""
        asked = np.minimum(keys[rows].astype(np.int64), len(self._starts) - 1)
        first = self._starts[asked]
        counts = np.minimum(self._starts[np.minimum(asked + 1, len(self._starts) - 1)] - first, _BUCKET)
        for chunk in np.array_split(np.arange(len(rows)), 1 + int(counts.sum()) // _CHUNK):
            many = counts[chunk]
            within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            later: Any = np.repeat(rows[chunk], many)
            earlier = self._order[np.repeat(first[chunk], many) + within]
            before = earlier < later
            yield later[before], earlier[before]


class _Sides:
    """On which sides of planes looks lie, in all orientations."""

    def __init__(self, waves: npt.NDArray[Any]) -> None:
        self._parts = [np.array(_part(waves, *odd), np.float32) for odd in _PARITIES]

    def of(self, name: str, bits: int) -> list[Any]:
        """For each orientation, a number of ``bits`` for each look. Planes are transposed instead of looks, which is the same."""
        planes = _planes(name, bits)
        both = np.concatenate((planes, planes.transpose(0, 2, 1)))
        along = [_product(part, _part(both, *odd).T) for part, odd in zip(self._parts, _PARITIES, strict=True)]
        return [_number(along, way, bits) for way in _WAYS]


def _laid(waves: npt.NDArray[Any], way: tuple[bool, int, int]) -> npt.NDArray[np.float32]:
    """The looks of images in another orientation."""
    transposed, rows, columns = way
    laid = np.array(waves.transpose(0, 2, 1) if transposed else waves, np.float32)
    laid[:, 1::2] *= rows
    laid[:, :, 1::2] *= columns
    return laid


def _signs(odd: int) -> npt.NDArray[np.float32]:
    """The factors of a look's rows or columns."""
    signs: npt.NDArray[np.float32] = np.ones(KEPT, np.float32)
    signs[1::2] = odd
    return signs


def _product(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The matrix product, a few rows at a time: with more, threads would wait for each other longer than they compute."""
    found: npt.NDArray[np.float32] = np.empty((len(one), other.shape[1]), np.float32)
    for start in range(0, len(one), _ALONE):
        np.matmul(one[start : start + _ALONE], other, out=found[start : start + _ALONE])
    return found


def _part(waves: npt.NDArray[Any], row: int, column: int) -> npt.NDArray[Any]:
    """The waves of one parity of row and column, which change their signs together."""
    return waves[:, row::2, column::2].reshape(len(waves), -1)


def _planes(name: str, bits: int) -> npt.NDArray[np.float32]:
    """The direction of each plane, in ones and minus ones, from a digest, so that it does not depend on a library's generator."""
    count = bits * KEPT * KEPT
    drawn = np.frombuffer(hashlib.shake_256(f"alike {name}".encode()).digest(count // 8 + 1), np.uint8)
    return np.unpackbits(drawn)[:count].reshape(bits, KEPT, KEPT).astype(np.float32) * 2 - 1


def _number(along: Sequence[Any], way: tuple[bool, int, int], bits: int) -> npt.NDArray[np.uint64]:
    transposed, rows, columns = way
    signs = (1, rows, columns, rows * columns) if transposed else (1, columns, rows, rows * columns)
    half = slice(bits, None) if transposed else slice(bits)
    total = sum(sign * part[:, half] for sign, part in zip(signs, along, strict=True))
    packed: Any = np.zeros((len(along[0]), 8), np.uint8)
    filled = np.packbits(total > 0, axis=1, bitorder="little")
    packed[:, : filled.shape[1]] = filled
    found: npt.NDArray[np.uint64] = packed.view("<u8").ravel()
    return found
