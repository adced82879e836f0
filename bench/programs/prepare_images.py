"""One look at a source: by the task prepare, or by the least that any preparation does. Started by preparing.py.

Run with the interpreter of the environment ``pipelines``: ``prepare_images.py prepare|limit PATH DATA STORE REPORT``, with PATH
in DATA; prints seconds as JSON. Imports are done before the clock starts: they are the pipeline's start, not the preparation's
speed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from pelagos_pipelines.preparation import integrity
from pelagos_pipelines.tasks.prepare import prepare


def limit(data: Path) -> int:
    """Read, hash and decode every image, with as many threads as the preparation has."""
    files = sorted(data.rglob("*.jpg"))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, integrity.MAX_THREADS)) as pool:
        return sum(pool.map(_decode, files))


def _decode(file: Path) -> int:
    content = file.read_bytes()
    hashlib.sha256(content).hexdigest()
    return int(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None)


def main() -> None:
    """Measure."""
    what, path, (data, store, report) = sys.argv[1], sys.argv[2], map(Path, sys.argv[3:6])
    request = {"source": {"volume": {"path": path}}, "format": "ImageFolder", "task": "Classification"}
    works: dict[str, Callable[[], object]] = {
        "prepare": lambda: prepare(json.dumps(request), str(data), str(store), str(report)),
        "limit": lambda: limit(data / path),
    }
    wall, cpu = time.monotonic(), time.process_time()
    works[what]()
    found = {"wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}
    if what == "prepare":
        found["images"] = json.loads((report / "result.json").read_text(encoding="utf-8"))["images"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
