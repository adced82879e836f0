"""Memory that nothing refers to goes, although the interpreter seldom looks for circles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from pelagos import garbage


class Node:
    """Refers to itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leaves the interpreter as other tests expect it."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    gc.enable()


def test_circles_are_found_after_the_start_and_not_during_it() -> None:
    garbage.look_later()
    early = weakref.ref(Node())
    kept: list[list[int]] = [[] for _ in range(2 * garbage.NEW)]
    assert early() is not None

    garbage.look_rarely()
    late = weakref.ref(Node())
    kept += [[] for _ in range(2 * garbage.NEW)]

    assert len(kept) == 4 * garbage.NEW
    assert late() is None


def test_decoding_a_list_of_thousands_looks_for_circles_a_few_times_only() -> None:
    garbage.look_rarely()
    before = sum(generation["collections"] for generation in gc.get_stats())

    page = [{"metadata": {"name": str(number)}, "spec": {}, "status": {}} for number in range(10_000)]

    assert len(page) == 10_000
    assert sum(generation["collections"] for generation in gc.get_stats()) - before <= 3
