"""Suspends Python's cyclic garbage collector, or runs it rarely, for code that creates many objects without reference cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_NEW = 20_000
"""New objects after which the collector runs, if rarely. Python's usual 700 are a few images."""


@contextmanager
def rarely_collected() -> Iterator[None]:
    """Run the cyclic garbage collector rarely, for whole steps: errors leave a few cycles, which must not add up."""
    usual = gc.get_threshold()
    gc.set_threshold(_NEW, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


@contextmanager
def uncollected() -> Iterator[None]:
    """Disable the cyclic garbage collector, which would take a fifth of the time and find nothing.

    Blocks may be nested and run in several threads: collection resumes when the outermost block of the first thread ends.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
