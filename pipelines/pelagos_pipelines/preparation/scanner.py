"""Inspects images of any size, and cuts them into tiles, with only a few rows in memory at a time.

Called by integrity.py for images beyond the usual ceilings, and by tiling.py. Files are decoded in children with ceilings
(scanning.py), which write rows into a pipe. Tiles are encoded here as PNG, from a known count of numbers, so that no untrusted
bytes reach the decoders of those who use versions.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract.preprocessing import Tile
from pelagos_contract.tiles import Place, places
from pelagos_pipelines.annotations.model import SourceFiles
from pelagos_pipelines.annotations.untrusted_input import printable
from pelagos_pipelines.preparation import pictures
from pelagos_pipelines.preparation.pictures import ROWS_HEAD as HEAD
from pelagos_pipelines.sandbox import Pool, SandboxError
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import decoding

_TASKS = "pelagos_pipelines.preparation.scanning"
_THREADS = 4
"""Tiles that are encoded concurrently."""


class IncompleteError(Exception):
    """Too few or too many rows arrived, or another image than was inspected: the file changed, or its decoder failed."""


class _EndedError(IncompleteError):
    """The pipe ended before all rows had arrived."""


Take = Callable[[Place, bytes], None]
"""Receives each tile as PNG; called in several threads."""


class Scanner:
    """Reads images in a sandboxed child, one at a time, because each may take as much memory as the ceiling allows."""

    def __init__(self, ceilings: Ceilings) -> None:
        """Start nothing yet: the first image starts the child."""
        self.ceilings = ceilings
        # More pixels take more time, but no more memory.
        larger = max(1, -(-ceilings.scan_megapixels // ceilings.image_megapixels))
        usual = replace(
            ceilings, image_megapixels=ceilings.scan_megapixels, image_seconds=larger * ceilings.image_seconds
        )
        limits = replace(decoding.limits(usual), result=1 << 20)
        self.pool = Pool(_TASKS, limits, 1, decoding.environment(usual))

    def inspect(self, descriptor: int) -> Mapping[str, Any]:
        """The child's findings about the image in an open file. Raises as `Pool.run` does."""
        return self.pool.run("inspect", {}, file=descriptor).document

    def version(self) -> str:
        """The ceilings of scans as a text, to be added to `Inspector.version`."""
        return f" scans {self.ceilings.scan_megapixels} {self.ceilings.scan_mebibytes}"

    def cut(self, tree: SourceFiles, path: str, digest: str, size: tuple[int, int], tile: Tile, take: Take) -> None:
        """Cut an image of ``size`` (width, height), whose file has the sha256 ``digest``, into tiles.

        Raises:
            IncompleteError: it is not the image that was inspected.
            SandboxError, TaskRefusedError: as `Pool.run` does.
            Whatever ``take`` raises.
        """
        ours, theirs = os.pipe()
        with ThreadPoolExecutor(1) as thread:
            receiving = thread.submit(_receive, ours, size, tile, take)
            try:
                with tree.open(path) as opened:
                    with os.fdopen(os.dup(opened.descriptor), "rb") as file:
                        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                            raise IncompleteError(f"{printable(path)} changed while the version was made; try again")
                    self.pool.run("pour", {}, file=opened.descriptor, into=theirs)
                    opened.require_same()
            except SandboxError:
                os.close(theirs)
                theirs = -1
                # The child may have ended because the receiver failed and closed the pipe. That error is the cause then.
                error = receiving.exception()
                if error is not None and not isinstance(error, _EndedError):
                    raise error from None
                raise
            finally:
                if theirs >= 0:
                    os.close(theirs)
            receiving.result()


@cache
def scanner_for(ceilings: Ceilings) -> Scanner:
    """The scanner of this process for all sources; its child is kept until the process ends."""
    return Scanner(ceilings)


# --- reading the pipe


Stored = tuple[Place, tuple[int, int, int, int]]
"""A tile, and its left, top, width and height in the rows as stored."""


def _receive(descriptor: int, size: tuple[int, int], tile: Tile, take: Take) -> None:
    with open(descriptor, "rb", buffering=0) as pipe:
        head = bytearray(HEAD.size)
        _fill(pipe, memoryview(head))
        width, height, channels, orientation = HEAD.unpack(head)
        upright = (height, width) if orientation >= 5 else (width, height)
        if upright != size or channels not in {1, 3} or not 1 <= orientation <= 8:
            raise IncompleteError("another image came than was looked at; try again")
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
            for rows, row in _in_rows(
                pipe, (width, height, channels), places(*size, tile.size, tile.overlap), orientation
            ):
                packing = [threads.submit(_hand_over, rows, part, orientation, take) for part in row]
                # The next rows are read only when all of these are encoded, so that at most one row of tiles is in memory.
                for one in packing:
                    one.result()
        if pipe.read(1):
            raise IncompleteError("more rows came than were announced")


def _in_rows(
    pipe: Any, shape: tuple[int, int, int], tiles: Sequence[Place], orientation: int
) -> Iterator[tuple[Any, list[Stored]]]:
    """Blocks of rows, each with the tiles in it, whose tops are relative to the block's first row."""
    width, height, channels = shape
    stored = [(tile, _where(tile, (width, height), orientation)) for tile in tiles]
    tall = stored[0][1][3]
    rows: Any = np.empty((tall, width, channels), np.uint8)
    end = 0
    for top in sorted({where[1] for _, where in stored}):
        kept = max(end - top, 0)
        rows[:kept] = rows[tall - kept :].copy()
        _fill(pipe, memoryview(rows[kept:]).cast("B"))
        end = top + tall
        yield rows, [(tile, (left, 0, wide, high)) for tile, (left, at, wide, high) in stored if at == top]


def _where(tile: Place, size: tuple[int, int], orientation: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a tile in the image as stored, of ``size``, before its orientation is applied."""
    across, down, wide, high = tile.x, tile.y, tile.width, tile.height
    if orientation >= 5:
        across, down, wide, high = down, across, high, wide
    if orientation in {2, 3, 7, 8}:
        across = size[0] - across - wide
    if orientation in {3, 4, 6, 7}:
        down = size[1] - down - high
    return across, down, wide, high


def _hand_over(rows: npt.NDArray[np.uint8], part: Stored, orientation: int, take: Take) -> None:
    take(part[0], _packed(rows, part, orientation))


def _packed(rows: npt.NDArray[np.uint8], part: Stored, orientation: int) -> bytes:
    """A tile as PNG, upright."""
    left, top, wide, high = part[1]
    pixels = rows[top : top + high, left : left + wide, ::-1]
    if orientation in {2, 3, 7, 8}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 6, 7}:
        pixels = pixels[::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    return pictures.png(
        np.ascontiguousarray(pixels).data.cast("B"), part[0].width, part[0].height, rows.shape[2], 8, runs=True
    )


def _fill(pipe: Any, view: memoryview) -> None:
    while view:
        got = pipe.readinto(view)
        if not got:
            raise _EndedError("rows are missing")
        view = view[got:]
