"""How Python's cyclic garbage collector runs while many objects without cycles are created."""

from __future__ import annotations

import gc
from typing import Any

from pelagos_pipelines.annotations.acyclic import rarely_collected


def collections(images: int) -> int:
    """How often the collector runs while that many small objects are created and kept."""
    runs: list[Any] = []
    gc.callbacks.append(note := lambda phase, _: runs.append(phase))
    try:
        kept = [[number] for number in range(images)]
    finally:
        gc.callbacks.remove(note)
    return len(kept) and runs.count("start")


def test_a_step_collects_rarely_and_leaves_the_collector_as_it_was() -> None:
    before, usually = gc.get_threshold(), collections(100_000)

    with rarely_collected():
        rarely = collections(100_000)

    assert 0 < rarely <= 5
    assert 10 * rarely < usually
    assert gc.get_threshold() == before
