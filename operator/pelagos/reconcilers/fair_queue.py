"""The order in which resources get their passes: new ones first, and among equals the namespaces in turn."""

from __future__ import annotations

import asyncio
from collections import deque

from pelagos.ports.cluster import Key


class FairQueue(asyncio.Queue[tuple[Key, bool]]):
    """Keys, each with whether its resource is new. Those of one namespace go first in, first out.

    A namespace is a tenant: one with thousands of resources that fail, and come back, must not hold up the others. Whoever waits
    in another namespace is behind one of each at most.
    """

    def _init(self, maxsize: int) -> None:
        del maxsize
        self._levels: tuple[dict[str, deque[Key]], ...] = ({}, {})
        """New ones and others: by namespace, in the order of the namespaces' turns."""

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not any(self._levels)

    def qsize(self) -> int:
        """How many wait."""
        return sum(len(keys) for level in self._levels for keys in level.values())

    def _put(self, item: tuple[Key, bool]) -> None:
        key, is_new = item
        self._levels[not is_new].setdefault(key.namespace, deque()).append(key)

    def _get(self) -> tuple[Key, bool]:
        is_new = bool(self._levels[0])
        level = self._levels[not is_new]
        namespace = next(iter(level))
        keys = level.pop(namespace)
        key = keys.popleft()
        if keys:
            level[namespace] = keys  # Behind all the others.
        return key, is_new
