"""How often the interpreter looks for objects that refer to each other in a circle, and that nobody else refers to.

By default it does so whenever 700 more exist than before, which a few resources are made of: reading a list of them then costs
more than it takes to decode it. Nearly nothing here is in a circle, and all else goes at once, as always.
"""

from __future__ import annotations

import gc

NEW, OLDER, OLDEST = 20_000, 10, 10
"""A look after so many new objects; every tenth one includes what was new before, and every hundredth at most everything."""


def look_later() -> None:
    """Do not look while modules are imported, which stay."""
    gc.disable()


def look_rarely() -> None:
    """Look from now on, and never at what exists by now."""
    gc.freeze()
    gc.set_threshold(NEW, OLDER, OLDEST)
    gc.enable()
