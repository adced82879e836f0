"""Composes frames: several real organisms on a background with the brightness and noise of the crops.

Used by the composer. All randomness comes from one generator, so equal seeds give equal frames.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_pipelines.samples.organisms import Background, Organism

SIDE = 320
"""Pixels of a frame's side; at an input of 192 pixels the longest side of the smallest organism still has about 33."""
ORGANISMS = (3, 6)
"""Least and most organisms of a frame."""
EXTENT = (64.0, 150.0)
"""Least and most pixels of an organism's longest side before it is jittered; real sizes between them are kept."""
FEATHER = 2.5
"""Pixels over which an organism fades into the frame, so that no edge of its crop shows."""
ATTEMPTS = 40
OVERLAP = 0.05
"""Largest share of the smaller of two boxes that may be covered by the other."""


@dataclass(frozen=True)
class Placed:
    """An organism in a frame: left, top, width and height of its mask in pixels, and ``mask``, uint8 [height, width] 0 or 1."""

    name: str
    label: str
    box: tuple[int, int, int, int]
    mask: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """``pixels`` is uint8 [SIDE, SIDE]."""

    pixels: npt.NDArray[np.uint8]
    placed: tuple[Placed, ...]


def compose(
    organisms: Sequence[Organism], count: int, generator: np.random.Generator, *, turned: bool = False
) -> Iterator[Frame]:
    """Compose ``count`` frames in which classes, and the organisms of a class, take turns, so that rare ones are as frequent.

    Organisms are turned by multiples of 90 degrees, which keeps their pixels exact; ``turned``: by any angle.
    """
    turns = _turns(organisms, generator)
    for _ in range(count):
        wanted = int(generator.integers(ORGANISMS[0], ORGANISMS[1] + 1))
        canvas = empty(organisms[int(generator.integers(len(organisms)))].background, generator)
        placed: list[Placed] = []
        for organism in [next(turns) for _ in range(wanted)]:
            transmission, mask, opacity = _varied(organism, generator, turned)
            left, top, width, height = _box(mask)
            place = _place((width, height), [other.box for other in placed], generator)
            if place is None:
                continue
            _multiply(canvas, transmission, opacity, (place[0] - left, place[1] - top))
            seen = mask[top : top + height, left : left + width]
            placed.append(Placed(organism.name, organism.label, (*place, width, height), seen))
        yield Frame(np.clip(np.rint(canvas), 0, 255).astype(np.uint8), tuple(placed))


def empty(background: Background, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """A frame without organisms as float32: the level, uneven illumination, and noise with the measured correlation."""
    # White noise smoothed by a Gaussian of width s has the correlation exp(-1 / 4s^2) between neighbours.
    width = 1 / (2 * np.sqrt(-np.log(background.correlation)))
    noise = cv2.GaussianBlur(generator.normal(size=(SIDE, SIDE)).astype(np.float32), (0, 0), float(width))
    uneven = cv2.resize(generator.normal(size=(3, 3)).astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    found: npt.NDArray[np.float32] = background.level * (1 + 0.01 * uneven) + noise / noise.std() * background.noise
    return found


def _turns(organisms: Sequence[Organism], generator: np.random.Generator) -> Iterator[Organism]:
    by_label: dict[str, list[Organism]] = defaultdict(list)
    for organism in organisms:
        by_label[organism.label].append(organism)
    within = {label: _shuffled(members, generator) for label, members in sorted(by_label.items())}
    for label in _shuffled(list(within), generator):
        yield next(within[label])


def _shuffled(items: Sequence[Any], generator: np.random.Generator) -> Iterator[Any]:
    """Endlessly repeat all items, in a new random order each time."""
    while True:
        for index in generator.permutation(len(items)):
            yield items[index]


def _varied(
    organism: Organism, generator: np.random.Generator, turned: bool
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Transmission, mask and opacity, randomly turned, mirrored, scaled, and made denser or fainter."""
    _, _, width, height = _box(organism.mask)
    natural = float(np.clip(max(width, height), *EXTENT)) / max(width, height)
    scale = natural * generator.uniform(0.85, 1.15)
    turns, mirrored, density = int(generator.integers(4)), bool(generator.integers(2)), generator.uniform(0.85, 1.15)
    varied = []
    for plane in (np.maximum(organism.transmission, 0.01) ** density, organism.mask):
        quarter = np.rot90(plane[:, ::-1] if mirrored else plane, turns)
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        varied.append(cv2.resize(np.ascontiguousarray(quarter), None, fx=scale, fy=scale, interpolation=interpolation))
    transmission, mask = varied[0], (varied[1] > 0.5).astype(np.uint8)
    opacity = _opacity(mask)
    if not turned:
        return transmission, mask, opacity
    angle = generator.uniform(0, 90)
    # Turn the mask before the threshold is applied, while its edge still has partly covered pixels.
    inside = _turned(varied[1], angle, 0)
    return _turned(transmission, angle, 1), (inside > 0.5).astype(np.uint8), _turned(opacity, angle, 0)


def _turned(plane: Any, angle: float, around: float) -> npt.NDArray[Any]:
    """Turn a plane by ``angle`` degrees onto one that is large enough; pixels outside get the value ``around``."""
    height, width = plane.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    size = int(np.ceil(width * cosine + height * sine)), int(np.ceil(width * sine + height * cosine))
    turn[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    return cv2.warpAffine(plane, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=around)


def _box(mask: npt.NDArray[Any]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top


def _place(
    size: tuple[int, int], taken: Sequence[tuple[int, int, int, int]], generator: np.random.Generator
) -> tuple[int, int] | None:
    """Left and top of a free place for a box of this size, with at most ``OVERLAP``; None if no try finds one."""
    width, height = size
    for _ in range(ATTEMPTS):
        left, top = (int(generator.integers(0, SIDE - extent + 1)) for extent in size)
        if all(_covered((left, top, width, height), other) <= OVERLAP for other in taken):
            return left, top
    return None


def _covered(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0) / min(one[2] * one[3], other[2] * other[3])


def _multiply(
    canvas: npt.NDArray[np.float32],
    transmission: npt.NDArray[np.float32],
    opacity: npt.NDArray[np.float32],
    offset: tuple[int, int],
) -> None:
    """Multiply the organism into the canvas; its crop begins at ``offset`` and may extend beyond the frame."""
    left, top = offset
    height, width = opacity.shape
    rows, columns = slice(max(top, 0), min(top + height, SIDE)), slice(max(left, 0), min(left + width, SIDE))
    inside = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    canvas[rows, columns] *= 1 + opacity[inside] * (transmission[inside] - 1)


def _opacity(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """1 on the organism, fading to 0 around it and at the edges of the crop, where the camera's software cut the image."""
    wide = cv2.dilate(mask, np.ones((5, 5), np.uint8)).astype(np.float32)
    wide[[0, -1], :] = 0
    wide[:, [0, -1]] = 0
    soft = cv2.GaussianBlur(wide, (0, 0), FEATHER, borderType=cv2.BORDER_CONSTANT)
    framed = cv2.copyMakeBorder(np.ones(mask.shape, np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    from_edge = cv2.distanceTransform(framed, cv2.DIST_C, 3)[1:-1, 1:-1] - 1
    found: npt.NDArray[np.float32] = soft * np.clip(from_edge / (2 * FEATHER), 0, 1)
    return found
