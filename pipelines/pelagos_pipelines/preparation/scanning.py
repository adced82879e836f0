"""The tasks of scanner.py in a sandboxed child: inspects images of any size, or writes their rows into a pipe.

Called with an open file, of which only a few rows are in memory at a time if its encoding allows that (streaming.py). It loads
OpenCV.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np

from pelagos_pipelines.preparation import looks, measuring, pictures, streaming
from pelagos_pipelines.preparation.inspection import DIM, TRANSPARENT, dim
from pelagos_pipelines.sandbox import Answer, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import Ceilings, raise_it
from pelagos_pipelines.serving import images
from pelagos_pipelines.serving.decoding import ImageRefusedError, TooManyPixelsError

_ROWS = 64
"""The least number of rows that are processed at a time."""


def nothing(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """A task that does nothing, to show that a child can be started."""
    return Answer()


def inspect(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: the findings of inspection.py for an image that need not fit in memory.

    Rows are digested as the file stores them. So an image that EXIF turns, or that is grey in three channels, has another digest
    of its pixels than one that is upright, or has one channel.
    """
    scan = _opened(file)
    header = f"{scan.width}x{scan.height}x{scan.channels}:{scan.bits}:{scan.orientation}:"
    identity = hashlib.sha256(header.encode())
    opaque = hashlib.sha256(b"opacity:")
    partial, largest = False, 0
    for colours, opacity in _refusing(scan.bands()):
        identity.update(np.ascontiguousarray(colours).data)
        largest = max(largest, int(colours.max()))
        if opacity is not None:
            partial = partial or bool(opacity.min() < np.iinfo(opacity.dtype).max)
            opaque.update(np.ascontiguousarray(opacity).data)
    remarks = [one for one in scan.remarks if one != TRANSPARENT]
    if partial:
        identity.update(opaque.digest())
        remarks.append(TRANSPARENT)
    depth = images.depth_of(largest) if scan.bits > 8 else 8
    if scan.bits > 8:
        remarks.append(f"{depth} bits of 16")
        remarks += [DIM] if dim(largest >> (depth - 8)) else []
    step = max(1, min(scan.width, scan.height) // looks.LARGEST)
    measured, kept, row = measuring.Measuring(scan.width, scan.height), [], 0
    for colours in _gathered(_shown(scan, depth)):
        grey = colours[..., 0] if colours.shape[2] == 1 else cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY)
        measured.add(np.ascontiguousarray(grey))
        kept.append(grey[-row % step :: step, ::step].copy())  # a view would keep all rows
        row += len(grey)
    look = looks.look(np.concatenate(kept))
    turned = scan.orientation >= 5
    width, height = (scan.height, scan.width) if turned else (scan.width, scan.height)
    found: dict[str, Any] = {"width": width, "height": height, "pixels": identity.hexdigest()}
    remarks += images.turns(scan.orientation)
    described = {"remarks": remarks, "look": None if look is None else look.hex(), "measures": measured.sums()}
    return Answer(found | described)


def pour(arguments: dict[str, Any], file: BinaryIO) -> Answer:
    """The task: write an image as a model sees it into the pipe ``into``: a head, then rows of 8 bits per sample, blue first."""
    scan, into = _opened(file), int(arguments["into"])
    depth = 8
    if scan.bits > 8:
        depth = images.depth_of(max(int(colours.max()) for colours, _ in _refusing(scan.bands())))
    _write(into, pictures.ROWS_HEAD.pack(scan.width, scan.height, scan.channels, scan.orientation))
    for colours in _shown(scan, depth):
        _write(into, np.ascontiguousarray(colours).data)
    return Answer()


def _opened(file: BinaryIO) -> streaming.Scan:
    try:
        scan = streaming.opened(file)
    except TooManyPixelsError:
        raise _too_large(None) from None
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None
    if scan.width * scan.height > Ceilings.read().scan_megapixels * 1_000_000:
        raise _too_large(f"{scan.width} x {scan.height} pixels")
    return scan


def _too_large(size: str | None) -> TaskRefusedError:
    allowed = f"{Ceilings.read().scan_megapixels} megapixels"
    found = (
        f"the image has {size}; at most {allowed} are cut into tiles" if size else f"the image has more than {allowed}"
    )
    return TaskRefusedError(f"{found} ({raise_it('scan_megapixels')})")


def _refusing(bands: Iterator[Any]) -> Iterator[Any]:
    """The same bands; refusals become those of this task."""
    try:
        yield from bands
    except TooManyPixelsError:
        raise _too_large(None) from None
    except ImageRefusedError as error:
        raise TaskRefusedError(str(error)) from None


def _shown(scan: streaming.Scan, depth: int) -> Iterator[Any]:
    """Bands as a model sees them, by the rule of `images.seen`, which depends on the depth of the whole image."""
    for colours, _ in _refusing(scan.bands()):
        yield colours if colours.dtype == np.uint8 else (colours >> (depth - 8)).astype(np.uint8)


def _gathered(bands: Iterator[Any]) -> Iterator[Any]:
    """The same rows in bands of at least ``_ROWS``, so that the overhead per band stays small."""
    waiting: list[Any] = []
    for band in bands:
        waiting.append(band)
        if sum(map(len, waiting)) >= _ROWS:
            yield np.concatenate(waiting) if len(waiting) > 1 else band
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _write(into: int, content: Any) -> None:
    view = memoryview(content).cast("B")
    while view:
        view = view[os.write(into, view) :]
