"""One look at a source: by the task prepare, or by the least that any preparation does. Started by preparing.py.

Run with the interpreter of the environment ``pipelines``: ``prepare_images.py prepare|here|limit PATH DATA STORE REPORT``, with
PATH in DATA; ``here`` is the preparation with images decoded in this process instead of in children with ceilings. Prints seconds
as JSON, those of children with them. Imports are done before the clock starts, also in the children: they are the pipeline's
start, not the preparation's speed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pelagos_pipelines.preparation import inspection, integrity
from pelagos_pipelines.sandbox import Answer
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.tasks.prepare import prepare


def limit(data: Path) -> int:
    """Read, hash and decode every image, with as many threads as the preparation has."""
    files = sorted(data.rglob("*.jpg"))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, integrity.MAX_CHILDREN)) as pool:
        return sum(pool.map(_decode, files))


def _decode(file: Path) -> int:
    content = file.read_bytes()
    hashlib.sha256(content).hexdigest()
    return int(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None)


class Here:
    """In the place of a pool of children: runs their tasks in this process."""

    def __init__(self) -> None:
        """Decoders complain to standard error, which the tasks read."""
        os.dup2(os.memfd_create("said"), 2)

    def run(self, task: str, arguments: dict[str, Any], content: bytes = b"") -> Answer:
        """The answer of the task."""
        done: Answer = getattr(inspection, task)(arguments, io.BytesIO(content))
        return done

    def close(self) -> None:
        """There is nothing to end."""


def started_with(inspector: integrity.Inspector) -> float:
    """Have children ready; the processor time that they and their interpreter took until now."""
    inspector.version()
    zygote = inspector.pool._zygote._process.pid  # type: ignore[union-attr]
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text(encoding="ascii").split()
    stats = (Path(f"/proc/{pid}/stat").read_text(encoding="ascii") for pid in [zygote, *children])
    ticks = sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) for stat in stats)
    return ticks / os.sysconf("SC_CLK_TCK")


def seconds_used() -> float:
    """Processor time of this process and of children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Measure."""
    what, path, (data, store, report) = sys.argv[1], sys.argv[2], map(Path, sys.argv[3:6])
    request = {"source": {"volume": {"path": path}}, "format": "ImageFolder", "task": "Classification"}
    works: dict[str, Callable[[], object]] = {
        "prepare": lambda: prepare(json.dumps(request), str(data), str(store), str(report)),
        "limit": lambda: limit(data / path),
    }
    works["here"] = works["prepare"]
    inspector = integrity.inspector_for(Ceilings.read())
    if what == "here":
        inspector.pool = Here()  # type: ignore[assignment]
    started = started_with(inspector) if what == "prepare" else 0.0
    wall, cpu = time.monotonic(), seconds_used()
    works[what]()
    found = {"wall": time.monotonic() - wall}
    inspector.pool.close()
    found["cpu"] = seconds_used() - cpu - started
    if what != "limit":
        found["images"] = json.loads((report / "result.json").read_text(encoding="utf-8"))["images"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
