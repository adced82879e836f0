"""Runs a package's predictor in this process, without the overhead of a server. Started by serving.py.

Run with the interpreter of the environment ``triton``, which Triton's backend also uses:
``predict_here.py PACKAGE THREADS IMAGES``. Reads lines ``BATCH NUMBER`` and answers each with a line of JSON: seconds of each
call, processor seconds, and detections found.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def measure(folder: Path, threads: int, images: Path) -> None:
    """Answer lines until standard input ends."""
    # pelagos_pipelines is not installed in this environment.
    sys.path.insert(0, str(Path(__file__).parents[2] / "pipelines"))
    predictor = importlib.import_module("pelagos_pipelines.serving.predictor")
    decoding = importlib.import_module("pelagos_pipelines.serving.images")
    model = predictor.load(folder, threads=threads)
    encoded = [path.read_bytes() for path in sorted(images.iterdir())]

    def answer(batch: list[bytes]) -> int:
        """Predict, render the JSON, and return the number of detections."""
        found = model.predict([decoding.decode_known(data) for data in batch])
        texts = [json.dumps(item.render(model.settings.labels)) for item in found]
        return sum(len(item.scores) for item, text in zip(found, texts, strict=True) if text)

    for line in sys.stdin:
        size, number = map(int, line.split())
        batches = [[encoded[index % len(encoded)] for index in range(at, at + size)] for at in range(0, number, size)]
        print(json.dumps(call(answer, batches)), flush=True)


def call(answer: Callable[[list[bytes]], int], batches: list[list[bytes]]) -> dict[str, object]:
    """Call ``answer`` for each batch; returns the seconds of each call and the totals."""
    seconds, detections = [], 0
    wall, cpu = time.monotonic(), time.process_time()
    for batch in batches:
        began = time.monotonic()
        detections += answer(batch)
        seconds.append(time.monotonic() - began)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {"seconds": seconds, "wall": wall, "cpu": cpu, "images": sum(map(len, batches)), "detections": detections}


if __name__ == "__main__":
    measure(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
