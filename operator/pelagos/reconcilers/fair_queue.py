"""The order in which resources get their passes: new ones first, and among equals the namespaces take turns."""

from __future__ import annotations

import asyncio
from collections import deque

from typing_extensions import override

from pelagos.ports.cluster import Key


class FairQueue(asyncio.Queue[tuple[Key, bool]]):
    """A queue of (key, whether the resource is new). Within a namespace it is first in, first out.

    A namespace is a tenant, and one with thousands of resources that fail and return must not hold up the others. The first key
    of a namespace waits for at most one key of each other namespace at its level.

    Overrides the hooks that asyncio.Queue leaves to subclasses, as asyncio.PriorityQueue does.
    """

    @override
    def _init(self, maxsize: int) -> None:
        del maxsize
        self._levels: tuple[dict[str, deque[Key]], ...] = ({}, {})
        """New resources, then the others: queues by namespace. A dict keeps insertion order, which is the order of turns."""

    @override
    def empty(self) -> bool:
        """Whether no key waits. A namespace without keys is not in its level, so it is enough to check the levels."""
        return not any(self._levels)

    @override
    def qsize(self) -> int:
        """How many keys wait, over both levels and all namespaces."""
        return sum(len(keys) for level in self._levels for keys in level.values())

    @override
    def _put(self, item: tuple[Key, bool]) -> None:
        key, is_new = item
        self._levels[not is_new].setdefault(key.namespace, deque()).append(key)

    @override
    def _get(self) -> tuple[Key, bool]:
        # New resources always go first. They do not starve the others for long: a resource is new only until its first status.
        is_new = bool(self._levels[0])
        level = self._levels[not is_new]
        namespace = next(iter(level))
        keys = level.pop(namespace)
        key = keys.popleft()
        if keys:
            level[namespace] = keys  # Inserted again, so behind all other namespaces.
        return key, is_new
