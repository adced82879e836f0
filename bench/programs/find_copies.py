"""Counts the planted copies of real images found by their looks, and by the hash of earlier releases. Started by alike.py.

Run with the interpreter of the environment ``pipelines``: find_copies.py SAMPLES SIZE... Prints JSON, with seconds of processor
time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pelagos_pipelines.preparation import alike, looks

BITS, DISTANCES = 4, (2, 4, 6)
HASHING = 5
"""Number of times that every crop is hashed, for a stable figure."""
CHANGES: dict[str, Callable[[Any], Any]] = {
    "half the size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "2 pixels cut off all around": lambda image: image[2:-2, 2:-2],
    "4 pixels cut off at two sides": lambda image: image[4:, :-4],
    "mirrored": lambda image: image[:, ::-1],
    "turned by 90 degrees": np.rot90,
    "mirrored, half the size, JPEG quality 80": lambda image: _saved(CHANGES["half the size"](image[:, ::-1]), 80),
    "JPEG quality 50": lambda image: _saved(image, 50),
    "brighter by 15": lambda image: cv2.add(image, (15, 15, 15, 0)),
}


def main(samples: Path, sizes: Sequence[int]) -> None:
    """Measure, and print the result as JSON."""
    cv2.setNumThreads(1)
    crops = [cv2.imread(str(path)) for path in sorted((samples / "phytoplankton-crops").glob("*/*.jpg"))]
    frames = [cv2.imread(str(path)) for path in sorted((samples / "phytoplankton-frames").rglob("*.jpg"))]
    found = {name: _recall(crops, change) for name, change in CHANGES.items()}
    apart = {f"{len(images)} {name}": _false(images) for name, images in (("crops", crops), ("frames", frames))}
    one = _seconds(lambda: [_hash(image) for image in crops * HASHING])
    other = _seconds(lambda: _looks_of(crops * HASHING))
    hashing = {"looks": other / HASHING / len(crops), "hashes": one / HASHING / len(crops)}
    seen = [look for look in map(_look, crops) if look is not None]
    searches = {size: _search(_mixed(seen, size)) for size in sizes}
    print(json.dumps({"found": found, "apart": apart, "hashing": hashing, "searches": searches, "crops": len(crops)}))


def _look(image: Any) -> bytes | None:
    return looks.look(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def _looks_of(images: Sequence[Any]) -> None:
    """Compute looks in batches of the size that a child of the preparation gets."""
    for start in range(0, len(images), 16):
        looks.of(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images[start : start + 16])


def _recall(crops: Sequence[Any], change: Callable[[Any], Any]) -> dict[str, int]:
    """Count the copies that are found beside their originals."""
    copies = [np.ascontiguousarray(change(image)) for image in crops]
    originals, changed = [_look(image) for image in crops], [_look(image) for image in copies]
    result = {
        str(distance): sum(_alike(one, other, distance) for one, other in zip(originals, changed, strict=True))
        for distance in DISTANCES
    }
    pairs = zip(map(_hash, crops), map(_hash, copies), strict=True)
    return result | {"hashes": sum(_near(one, other) for one, other in pairs)}


def _alike(one: bytes | None, other: bytes | None, distance: int) -> bool:
    return one is not None and other is not None and bool(alike.pairs([one, other], distance))


def _near(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and (one ^ other).bit_count() <= BITS


def _false(images: Sequence[Any]) -> dict[str, int]:
    """Count pairs of different images that are reported as copies."""
    seen = [look for look in map(_look, images) if look is not None]
    result = {str(distance): sum(map(len, alike.pairs(seen, distance).values())) for distance in DISTANCES}
    hashes = [value for value in map(_hash, images) if value is not None]
    return result | {"hashes": sum(_near(one, other) for n, one in enumerate(hashes) for other in hashes[:n])}


def _mixed(seen: Sequence[bytes], count: int) -> list[bytes]:
    """Looks of a simulated larger collection, interpolated between two of real images, with some noise."""
    generator = np.random.default_rng(7)
    real = np.frombuffer(b"".join(seen), np.int8).reshape(len(seen), -1).astype(float)
    one, other = generator.integers(0, len(real), (2, count))
    share = generator.uniform(0, 1, (count, 1))
    noise = generator.standard_normal((count, real.shape[1])) * generator.uniform(0.5, 5, (count, 1))
    mixed = share * real[one] + (1 - share) * real[other] + noise
    mixed[:, 0] = 0
    mixed *= looks.LENGTH / np.linalg.norm(mixed, axis=1, keepdims=True)
    return [row.tobytes() for row in np.rint(mixed).astype(np.int8)]


def _search(seen: list[bytes]) -> dict[str, float]:
    """Seconds to find all pairs of these looks, and of as many hashes by pairwise comparison."""
    hashes = np.random.default_rng(7).integers(0, 2**63, len(seen), dtype=np.uint64)
    _each_with_each(hashes[:512])
    alike.pairs(seen[:600], 4)
    return {"looks": _seconds(lambda: alike.pairs(seen, 4)), "hashes": _seconds(lambda: _each_with_each(hashes))}


def _each_with_each(hashes: Any) -> None:
    for start in range(0, len(hashes), 512):
        np.argwhere(np.bitwise_count(hashes[start : start + 512, None] ^ hashes[None, : start + 512]) <= BITS)


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _saved(image: Any, quality: int) -> Any:
    return cv2.imdecode(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)


def _hash(pixels: Any) -> int | None:
    """The 64-bit perceptual hash of earlier releases (Zauner 2010): signs of the 8 x 8 lowest frequencies of a thumbnail."""
    step = max(1, min(pixels.shape[:2]) // 512)
    total = cv2.integral(np.ascontiguousarray(pixels[::step, ::step])).view(np.uint32)
    rows, columns = (np.arange(32) * (side - 1) // 32 for side in total.shape[:2])
    below, right = (
        np.maximum(np.append(starts[1:], side - 1), starts + 1)
        for starts, side in zip((rows, columns), total.shape[:2], strict=True)
    )
    bottom, top = total[below], total[rows]
    sums = bottom[:, right] - bottom[:, columns] - top[:, right] + top[:, columns]
    area = np.outer(below - rows, right - columns)
    thumbnail = sums.astype(np.int64) @ [29, 150, 77] // area // 16
    if int(thumbnail.max()) - int(thumbnail.min()) < 64:
        return None
    spectrum = (_WAVES @ thumbnail @ _WAVES.T).ravel()
    above = spectrum > np.median(spectrum[1:])
    above[0] = False
    return int.from_bytes(np.packbits(above).tobytes(), "big")


_WAVES: Any = np.rint(np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(32) + 1) / 64) * 4096).astype(np.int64)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
