"""How often the interpreter runs its cyclic garbage collector.

By default it does so for every 700 additional objects, as many as a few resources have: collecting would then take
longer than decoding a list of them. Hardly any objects here are in reference cycles; all others are freed at once, as always.
"""

from __future__ import annotations

import gc

NEW, OLDER, OLDEST = 20_000, 10, 10
"""One collection after so many new objects; every tenth covers the middle generation too, and every hundredth at most all."""


def postpone() -> None:
    """Collect nothing while modules are imported, because the objects that they create stay."""
    gc.disable()


def collect_rarely() -> None:
    """Collect from now on, but never look at objects that exist already."""
    gc.freeze()
    gc.set_threshold(NEW, OLDER, OLDEST)
    gc.enable()
