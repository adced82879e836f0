"""Draws a scan like those of a ZooScan, decodes it as a whole, or inspects and cuts it. Started by tiling.py.

``tile_scan.py WHAT FILE WIDTH HEIGHT`` prints the seconds of measured operations as JSON, without the start of Python:

- ``draw``: draws a grey image with organisms of some thousand pixels on a noisy background; the suffix selects the encoding
- ``decode``: decodes all of it by OpenCV, in this process
- ``cut``: inspects it and cuts tiles of 1024 pixels, as the preparation does, but drops the tiles once they are encoded
- ``nothing``: only imports, and starts the child
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(10**9)  # OpenCV reads it when it is imported

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_contract.preprocessing import Tile
from pelagos_contract.sources import VolumeSource
from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.preparation.scanner import scanner_for
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.sources import volume

TILE = Tile(size=1024, overlap=128)
_STRIP = 64


def draw(path: Path, width: int, height: int) -> None:
    """Draw the scan, with the same pixels for every encoding."""
    random = np.random.default_rng(1)
    grain = random.integers(-3, 4, (997, width), np.int16)
    picture: npt.NDArray[np.uint8] = np.empty((height, width), np.uint8)
    for top in range(0, height, len(grain)):
        rows = min(len(grain), height - top)
        picture[top : top + rows] = 235 + np.roll(grain[:rows], top, axis=1)
    for x, y, size in zip(*(random.integers(0, most, 2_000) for most in (width, height, 120)), strict=True):
        cv2.ellipse(
            picture, (int(x), int(y)), (int(size) + 8, int(size) // 2 + 4), int(x) % 180, 0, 360, int(y) % 160, -1
        )
    if path.suffix == ".tif":
        path.write_bytes(_tiff(picture))
    elif path.suffix == ".png":
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    else:
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


def _tiff(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode in strips, compressed with deflate."""
    height, width = picture.shape
    strips = [zlib.compress(picture[top : top + _STRIP].tobytes(), 1) for top in range(0, height, _STRIP)]
    sizes = [len(strip) for strip in strips]
    starts = np.cumsum([8, *sizes[:-1]]).tolist()
    lists = 8 + sum(sizes)
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1), (278, _STRIP)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags[:5])
    entries += struct.pack("<HHII", 273, 4, len(strips), lists)
    entries += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags[5:])
    entries += struct.pack("<HHII", 279, 4, len(strips), lists + 4 * len(strips))
    at = lists + 8 * len(strips)
    body = b"".join(strips) + struct.pack(f"<{2 * len(strips)}I", *starts, *sizes)
    return struct.pack("<2sHI", b"II", 42, at) + body + struct.pack("<H", 9) + entries + bytes(4)


def cut(path: Path, width: int, height: int) -> None:
    """Inspect and cut the scan as the preparation does."""
    tree = volume.collect(VolumeSource(path="."), path.parent)
    found = integrity.inspect_tree(tree, path.parent / ".memory", tile=TILE)[path.name]
    if found.problem is not None:
        raise SystemExit(found.problem)
    scanner = scanner_for(Ceilings.read())
    scanner.cut(tree, path.name, found.sha256, (width, height), TILE, lambda place, picture: None)


def main() -> None:
    """Run the command from the arguments."""
    what, path, width, height = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    scanner = scanner_for(Ceilings.read())
    scanner.pool.run("nothing", {})
    began, used = time.monotonic(), time.process_time()
    if what == "draw":
        draw(path, width, height)
    elif what == "decode":
        found = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        if found is None or found.shape[:2] != (height, width):
            raise SystemExit("it is not decoded")
        time.sleep(0.3)  # gives the parent time to sample the memory
        began += 0.3
    elif what == "cut":
        cut(path, width, height)
    else:
        time.sleep(0.5)
    wall = time.monotonic() - began
    scanner.pool.close()  # the usage of children is known only after they have ended
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = time.process_time() + children.ru_utime + children.ru_stime - used
    print(json.dumps({"wall": wall, "cpu": cpu, "children": True}))


main()
