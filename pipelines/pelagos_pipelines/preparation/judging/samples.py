"""Sheets of samples: small pictures of the images of a class, or of its boxes, decoded in children of the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pelagos_pipelines.preparation import pictures
from pelagos_pipelines.preparation.integrity import Inspector
from pelagos_pipelines.preparation.judging.tables import Tables
from pelagos_pipelines.sandbox import SandboxError, TaskRefusedError

SIDE = 96
"""Pixels of a small picture."""
GAP = 4
A_SHEET = 12
"""Pictures of a class."""
MOST_SHEETS = 40
"""Classes with one: the rarest, where mistakes weigh most, and the most frequent ones."""
FEWEST = 4
"""Pictures of a class with which a sheet is worth looking at."""
MEGAPIXELS = 2_500
"""That are decoded for all sheets: of large images there are fewer pictures, so that nobody waits for them."""
MARGIN = 0.15
"""Of a box, what is shown around it."""
PAPER = 246
"""Brightness behind the pictures."""
SEED = 14


@dataclass(frozen=True)
class Wanted:
    """A part of an image: left, top, width and height as shares of it; None: all of it. ``box`` is its row in Tables.boxes."""

    image: int
    part: tuple[float, float, float, float] | None = None
    box: int | None = None


@dataclass(frozen=True)
class Sheet:
    """``png`` has the pictures in rows of A_SHEET; ``drawn`` are those that could be drawn, in their order."""

    png: bytes
    width: int
    height: int
    drawn: tuple[Wanted, ...]


def of_classes(tables: Tables) -> dict[int, list[Wanted]]:
    """By class, what stands on its sheet: chosen by a seed, from different images as far as there are."""
    order = sorted(range(len(tables.classes)), key=lambda number: (int(tables.by_class[number]), number))
    affordable = affordable_pictures(tables)
    sheets = min(len(order), MOST_SHEETS, max(affordable // FEWEST, 2))
    chosen = order if len(order) <= sheets else order[: sheets // 2] + order[-(sheets - sheets // 2) :]
    each = max(FEWEST, min(A_SHEET, affordable // max(sheets, 1)))
    random = np.random.default_rng(SEED)
    return {number: list(_of_class(tables, number, each, random)) for number in sorted(chosen)}


def affordable_pictures(tables: Tables) -> int:
    """How many images of the size that these have in the mean may be decoded."""
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
    """A box with a margin, as a square of pixels as far as the image allows."""
    image = int(tables.box_of[row, 0])
    return Wanted(image, _around(tables, image, tables.boxes[row]), row)


def beside(tables: Tables, image: int, box: Sequence[float]) -> Wanted:
    """Likewise a box that is in no table, as shares of its image."""
    return Wanted(image, _around(tables, image, box))


def _around(tables: Tables, image: int, box: Any) -> tuple[float, float, float, float]:
    left, top, width, height = (float(side) for side in box)
    across, down = (max(int(side), 1) for side in tables.sizes[image])
    side = max(width * across, height * down, 8) * (1 + 2 * MARGIN)
    middle = left + width / 2, top + height / 2
    return middle[0] - side / across / 2, middle[1] - side / down / 2, side / across, side / down


def sheet(wanted: Sequence[Wanted], file_of: Callable[[int], Path], inspector: Inspector) -> Sheet | None:
    """The pictures as one PNG; None when none can be drawn. ``file_of`` gives the file of an image."""
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


def _drawn(wanted: Wanted, file: Path, inspector: Inspector) -> Any:
    """[SIDE, SIDE, 3], red first; None for one that cannot be drawn, which is no reason to go without the others."""
    arguments = {"side": SIDE, "part": None if wanted.part is None else list(wanted.part), "paper": PAPER}
    try:
        raw = inspector.pool.run("small", arguments, file.read_bytes()).raw
    except (SandboxError, TaskRefusedError, OSError):
        return None
    if len(raw) != SIDE * SIDE * 3:  # of a child that was taken over
        return None
    return np.frombuffer(raw, np.uint8).reshape(SIDE, SIDE, 3)
