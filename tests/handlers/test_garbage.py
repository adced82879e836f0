"""Unreachable memory is freed although the garbage collector seldom runs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from pelagos import garbage


class Node:
    """A reference cycle of one object."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restore the settings that other tests expect."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    gc.enable()


def test_cycles_are_collected_after_the_start_and_not_during_it() -> None:
    garbage.postpone()
    early = weakref.ref(Node())
    kept: list[list[int]] = [[] for _ in range(2 * garbage.NEW)]
    assert early() is not None

    garbage.collect_rarely()
    late = weakref.ref(Node())
    kept += [[] for _ in range(2 * garbage.NEW)]

    assert len(kept) == 4 * garbage.NEW
    assert late() is None


def test_decoding_a_list_of_thousands_runs_the_collector_a_few_times_only() -> None:
    garbage.collect_rarely()
    before = sum(generation["collections"] for generation in gc.get_stats())

    page = [{"metadata": {"name": str(number)}, "spec": {}, "status": {}} for number in range(10_000)]

    assert len(page) == 10_000
    assert sum(generation["collections"] for generation in gc.get_stats()) - before <= 3
