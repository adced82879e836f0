"""Whether an object is still as it was applied, so that nothing is written when nothing differs. Pure.

Called by the engines that serve on a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pelagos.engines.kubernetes.quantities import quantity

_QUANTITIES = frozenset({"limits", "requests", "sizeLimit"})


def holds(live: Any, want: Any, *, quantities: bool = False) -> bool:
    """Whether ``live`` contains all of ``want``; anything that the server or somebody else added is ignored.

    Lists of named items are compared by name, other lists item by item. Values below ``limits``, ``requests`` and ``sizeLimit``
    are compared as quantities, because a server writes 1024Mi as 1Gi.
    """
    if not want and want is not False and want != 0:
        return live is None or not live or live == want
    if isinstance(want, Mapping):
        return isinstance(live, Mapping) and all(
            holds(live.get(key), value, quantities=quantities or key in _QUANTITIES) for key, value in want.items()
        )
    if isinstance(want, Sequence) and not isinstance(want, str):
        return isinstance(live, Sequence) and _holds_items(live, want)
    return bool(live == want) or (quantities and quantity(live) == quantity(want) is not None)


def _holds_items(live: Sequence[Any], want: Sequence[Any]) -> bool:
    if all(isinstance(item, Mapping) and "name" in item for item in want):
        named = {item.get("name"): item for item in live if isinstance(item, Mapping)}
        return all(holds(named.get(item["name"]), item) for item in want)
    return len(live) == len(want) and all(holds(one, other) for one, other in zip(live, want, strict=True))
