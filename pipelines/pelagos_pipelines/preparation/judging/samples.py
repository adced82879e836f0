"""Draws sheets of samples: small pictures of a class's images or boxes, decoded in sandboxed children."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.preparation import pictures
from pelagos_pipelines.preparation.integrity import Inspector
from pelagos_pipelines.preparation.judging.tables import Tables
from pelagos_pipelines.sandbox import SandboxError, TaskRefusedError

SIDE = 96
"""Pixels of a side of a small picture."""
GAP = 4
A_SHEET = 12
"""The most pictures of a class, and the pictures in a row."""
MOST_SHEETS = 40
"""The most classes with a sheet: the rarest ones, where mistakes weigh most, and the most frequent ones."""
FEWEST = 4
"""The least pictures of a class that make a sheet useful."""
MEGAPIXELS = 2_500
"""About how many megapixels are decoded for all sheets. If images are large, there are fewer pictures, to bound the time."""
MARGIN = 0.15
"""The margin around a box, in fractions of it."""
PAPER = 246
"""Brightness behind the pictures."""
SEED = 14


@dataclass(frozen=True)
class Wanted:
    """A part of an image to draw: left, top, width and height in fractions; None for all. ``box`` is its row in Tables.boxes."""

    image: int
    part: tuple[float, float, float, float] | None = None
    box: int | None = None


@dataclass(frozen=True)
class Sheet:
    """A sheet: ``png`` has the pictures in rows of A_SHEET; ``drawn`` lists those that could be drawn, in order."""

    png: bytes
    width: int
    height: int
    drawn: tuple[Wanted, ...]


def of_classes(tables: Tables) -> dict[int, list[Wanted]]:
    """The pictures for each class's sheet: chosen by a seed, and from different images as far as possible."""
    order = sorted(range(len(tables.classes)), key=lambda number: (int(tables.by_class[number]), number))
    affordable = affordable_pictures(tables)
    sheets = min(len(order), MOST_SHEETS, max(affordable // FEWEST, 2))
    chosen = order if len(order) <= sheets else order[: sheets // 2] + order[-(sheets - sheets // 2) :]
    each = max(FEWEST, min(A_SHEET, affordable // max(sheets, 1)))
    random = np.random.default_rng(SEED)
    return {number: list(_of_class(tables, number, each, random)) for number in sorted(chosen)}


def affordable_pictures(tables: Tables) -> int:
    """How many images of this version's mean size may be decoded for sheets."""
    mean = float(tables.sizes.prod(axis=1, dtype=float).mean()) if len(tables.sizes) else 0.0
    return int(MEGAPIXELS * 1e6 / max(mean, 1.0))


def _of_class(tables: Tables, number: int, most: int, random: Any) -> Iterator[Wanted]:
    rows = np.flatnonzero(tables.box_of[:, 1] == number)
    if len(rows):
        rows = random.permutation(rows)
        firsts = np.sort(np.unique(tables.box_of[rows, 0], return_index=True)[1])
        chosen = [*rows[firsts], *np.delete(rows, firsts)][:most]
        yield from (around(tables, int(row)) for row in chosen)
        return
    images = tables.shown[tables.shown[:, 1] == number, 0]
    yield from (Wanted(int(index)) for index in random.permutation(images)[:most])


def around(tables: Tables, row: int) -> Wanted:
    """A box with a margin, as a square in pixels, which may reach beyond the image."""
    image = int(tables.box_of[row, 0])
    return Wanted(image, _around(tables, image, tables.boxes[row]), row)


def beside(tables: Tables, image: int, box: Sequence[float]) -> Wanted:
    """Like `around`, for a box that is in no table, in fractions of its image."""
    return Wanted(image, _around(tables, image, box))


def _around(tables: Tables, image: int, box: Any) -> tuple[float, float, float, float]:
    left, top, width, height = (float(side) for side in box)
    across, down = (max(int(side), 1) for side in tables.sizes[image])
    side = max(width * across, height * down, 8) * (1 + 2 * MARGIN)
    middle = left + width / 2, top + height / 2
    return middle[0] - side / across / 2, middle[1] - side / down / 2, side / across, side / down


def sheet(wanted: Sequence[Wanted], file_of: Callable[[int], Path], inspector: Inspector) -> Sheet | None:
    """The pictures as one sheet; None when none can be drawn. ``file_of`` returns the file of an image."""
    with ThreadPoolExecutor(inspector.children) as threads:
        found = list(threads.map(lambda one: _drawn(one, file_of(one.image), inspector), wanted))
    drawn = [(one, picture) for one, picture in zip(wanted, found, strict=True) if picture is not None]
    if not drawn:
        return None
    columns = min(A_SHEET, len(drawn))
    rows = -(-len(drawn) // columns)
    paper: Any = np.full((rows * (SIDE + GAP) - GAP, columns * (SIDE + GAP) - GAP, 3), PAPER, np.uint8)
    for place, (_, picture) in enumerate(drawn):
        top, left = (SIDE + GAP) * (place // columns), (SIDE + GAP) * (place % columns)
        paper[top : top + SIDE, left : left + SIDE] = picture
    height, width = paper.shape[:2]
    return Sheet(pictures.png(paper.data.cast("B"), width, height, 3, 8), width, height, tuple(one for one, _ in drawn))


def _drawn(wanted: Wanted, file: Path, inspector: Inspector) -> npt.NDArray[np.uint8] | None:
    """A picture [SIDE, SIDE, 3], red first; None if it cannot be drawn, so that the others still are."""
    arguments = {"side": SIDE, "part": None if wanted.part is None else list(wanted.part), "paper": PAPER}
    try:
        raw = inspector.pool.run("small", arguments, file.read_bytes()).raw
    except (SandboxError, TaskRefusedError, OSError):
        return None
    if len(raw) != SIDE * SIDE * 3:  # the child was taken over
        return None
    return np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3)
