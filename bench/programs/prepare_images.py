"""Processes a source once, by the step prepare or by a minimal preparation. Started by preparing.py and decoding.py.

Run with the interpreter of the environment ``pipelines`` and the folder ``tests`` on PYTHONPATH:
``prepare_images.py prepare|here|limit|apart|stored PATH DATA STORE REPORT``, with PATH in DATA; ``here`` prepares with images
decoded in this process instead of in children with ceilings. ``limit`` reads, hashes and decodes; ``apart`` decodes in such
children, 16 images at a time; ``stored`` also writes each image into STORE, and syncs it. Prints seconds as JSON, children
included. Imports happen before the clock starts, also in the children: they belong to the pipeline's start, not to the
preparation's speed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import child_memory
from pelagos_pipelines.preparation import inspection, integrity
from pelagos_pipelines.sandbox import Answer, Pool
from pelagos_pipelines.sandbox.ceilings import Ceilings
from pelagos_pipelines.serving import decoding
from pelagos_pipelines.steps.prepare import prepare

_TOGETHER = 16
"""Images per message to a child, as in the preparation."""


def limit(data: Path) -> int:
    """Read, hash and decode every image, with as many threads as the preparation has."""
    files = sorted(data.rglob("*.jpg"))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, integrity.MAX_CHILDREN)) as pool:
        return sum(pool.map(_decode, files))


def apart(data: Path, pool: Pool) -> None:
    """Do the same as ``limit``, with images decoded in children with ceilings."""
    files = sorted(data.rglob("*.jpg"))
    parts = [files[start : start + _TOGETHER] for start in range(0, len(files), _TOGETHER)]
    with ThreadPoolExecutor(integrity.MAX_CHILDREN) as threads:
        list(threads.map(lambda some: _decode_apart(some, pool), parts))


def _decode_apart(files: list[Path], pool: Pool) -> None:
    contents = [file.read_bytes() for file in files]
    for content in contents:
        hashlib.sha256(content).hexdigest()
    pool.run("decode", {"sizes": list(map(len, contents))}, b"".join(contents))


def stored(data: Path, store: Path) -> None:
    """Read, hash, decode, and write every image under its digest as name."""
    files = sorted(data.rglob("*.jpg"))
    for number in range(256):
        (store / f"{number:02x}").mkdir(parents=True)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, integrity.MAX_CHILDREN)) as pool:
        list(pool.map(lambda file: _store(file, store), files))


def _store(file: Path, store: Path) -> None:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    target = f"{store}/{digest[:2]}/{digest[2:]}"
    descriptor = os.open(f"{target}.partial", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(f"{target}.partial", target)  # noqa: PTH104 - a path object would cost as much


def _decode(file: Path) -> int:
    content = file.read_bytes()
    hashlib.sha256(content).hexdigest()
    return int(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is not None)


class Here:
    """Replaces the pool of children: runs their tasks in this process."""

    def __init__(self) -> None:
        """Redirect standard error, to which decoders write and from which the tasks read."""
        os.dup2(os.memfd_create("said"), 2)

    def run(self, task: str, arguments: dict[str, Any], content: bytes = b"") -> Answer:
        """Run the task, and return its answer."""
        done: Answer = getattr(inspection, task)(arguments, io.BytesIO(content))
        return done

    def close(self) -> None:
        """Do nothing: there are no children."""


def seconds_used(inspector: integrity.Inspector) -> tuple[float, float]:
    """Processor time of this process, and of the children that decode for it."""
    return time.process_time(), child_memory.seconds_of(inspector.pool) if isinstance(inspector.pool, Pool) else 0.0


def main() -> None:
    """Measure, and print the result as JSON."""
    what, path, (data, store, report) = sys.argv[1], sys.argv[2], map(Path, sys.argv[3:6])
    request = {"source": {"volume": {"path": path}}, "format": "ImageFolder", "task": "Classification"}
    works: dict[str, Callable[[], object]] = {
        "prepare": lambda: prepare(json.dumps(request), str(data), str(store), str(report)),
        "limit": lambda: limit(data / path),
        "stored": lambda: stored(data / path, store),
        "apart": lambda: apart(data / path, bare),
    }
    works["here"] = works["prepare"]
    inspector = integrity.inspector_for(Ceilings.read())
    bare = Pool("decode_only", inspector.pool.limits, inspector.children, decoding.environment(inspector.ceilings))
    if what == "here":
        inspector.pool = Here()  # type: ignore[assignment]
    elif what == "apart":
        inspector.pool = bare
        bare.run("decode", {"sizes": []})
    else:
        inspector.version()
    wall, cpu = time.monotonic(), seconds_used(inspector)
    works[what]()
    own, children = (after - before for after, before in zip(seconds_used(inspector), cpu, strict=True))
    found = {"wall": time.monotonic() - wall, "cpu": own + children, "children": children}
    if what in {"prepare", "here"}:
        found["images"] = json.loads((report / "result.json").read_text(encoding="utf-8"))["images"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
