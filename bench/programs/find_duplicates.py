"""Hashing and search of near duplicates among planted copies, by looks or by imagededup. Started by duplicating.py.

Run with the interpreter of the environment ``pipelines-dev``: find_duplicates.py pelagos|imagededup SAMPLES SIZE. Prints JSON:
seconds of processor time to hash and to search, child processes included, and the share of planted copies that was found.
Images are generated in memory, so no decoding is counted.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

HEIGHT, WIDTH = 160, 224
BATCH = 16
"""Images per batch, as many as a child of the preparation gets."""
COPIES = 10
"""Every image whose number is a multiple of this is a copy of an earlier one."""
ORGANISMS = 5
DISTANCE = 4
"""Maximum distance of copies: for looks, the preparation's default; for imagededup's hashes, the number of differing bits."""


def main(way: str, samples: Path, size: int) -> None:
    """Measure, and print the result as JSON."""
    cv2.setNumThreads(1)
    hashed, searched = WAYS[way]()
    hashing = 0.0
    for batch in _batches(_crops(samples), size):
        hashing += _seconds(hashed, batch)
    found: list[tuple[int, int]] = []
    searching = _seconds(lambda: found.extend(searched()))
    pairs = {(min(pair), max(pair)) for pair in found}
    planted = [(earlier, later) for later in range(size) if (earlier := _original(later)) is not None]
    recall = sum(pair in pairs for pair in planted) / len(planted)
    others = len(pairs.difference(planted))
    print(json.dumps({"hashing": hashing, "searching": searching, "recall": recall, "others": others}))


def _pelagos() -> tuple[Callable[[Sequence[Any]], None], Callable[[], list[tuple[int, int]]]]:
    from pelagos_pipelines.preparation import alike, looks

    seen: list[bytes] = []
    places: list[int] = []
    count = 0

    def hashed(batch: Sequence[Any]) -> None:
        nonlocal count
        for look in looks.of(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in batch):
            if look is not None:
                seen.append(look)
                places.append(count)
            count += 1

    def searched() -> list[tuple[int, int]]:
        pairs = alike.pairs(seen, DISTANCE)
        return [(places[earlier], places[later]) for later, all_earlier in pairs.items() for earlier in all_earlier]

    return hashed, searched


def _imagededup() -> tuple[Callable[[Sequence[Any]], None], Callable[[], list[tuple[int, int]]]]:
    from imagededup.methods import PHash

    method = PHash(verbose=False)
    hashes: dict[str, str] = {}

    def hashed(batch: Sequence[Any]) -> None:
        for image in batch:
            hashes[str(len(hashes))] = method.encode_image(image_array=image)

    def searched() -> list[tuple[int, int]]:
        found = method.find_duplicates(encoding_map=hashes, max_distance_threshold=DISTANCE)
        return [(int(one), int(other)) for one, others in found.items() for other in others]

    return hashed, searched


WAYS = {"pelagos": _pelagos, "imagededup": _imagededup}


def _original(number: int) -> int | None:
    """The number of the image of which this one is a copy; None if it is an original."""
    if number % COPIES != COPIES - 1:
        return None
    return int(np.random.default_rng(number).integers(number // COPIES + 1)) * COPIES


def _batches(crops: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, size, BATCH):
        yield [_image(crops, number) for number in range(start, min(size, start + BATCH))]


def _image(crops: Sequence[Any], number: int) -> Any:
    """A frame with organisms from the samples; a copy is brighter or darker, and is saved again as JPEG of quality 50 to 90."""
    original = _original(number)
    if original is None:
        return _frame(crops, number)
    generator = np.random.default_rng(number)
    change, quality = int(generator.integers(-12, 13)), int(generator.integers(50, 91))
    changed = np.clip(_frame(crops, original).astype(np.int16) + change, 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", changed, (cv2.IMWRITE_JPEG_QUALITY, quality))[1], cv2.IMREAD_COLOR)


def _frame(crops: Sequence[Any], number: int) -> Any:
    generator = np.random.default_rng([number, 1])
    coarse = generator.uniform(150, 200, (5, 7)).astype(np.float32)
    background = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    frame = np.repeat(background[:, :, None], 3, axis=2) + generator.normal(0, 2, (HEIGHT, WIDTH, 1))
    frame = np.clip(frame, 0, 255).astype(np.uint8)
    for _ in range(int(generator.integers(1, ORGANISMS + 1))):
        height, width = generator.integers(20, 90, 2)
        crop = cv2.resize(crops[int(generator.integers(len(crops)))], (int(width), int(height)))
        top, left = int(generator.integers(HEIGHT - height)), int(generator.integers(WIDTH - width))
        frame[top : top + height, left : left + width] = crop
    return frame


def _crops(samples: Path) -> list[Any]:
    return [cv2.imread(str(path)) for path in sorted((samples / "phytoplankton-crops").glob("*/*.jpg"))]


def _seconds(work: Callable[..., object], *arguments: Any) -> float:
    began = time.process_time() + _of_children()
    work(*arguments)
    return time.process_time() + _of_children() - began


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
