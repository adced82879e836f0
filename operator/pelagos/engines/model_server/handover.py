"""What the other engine made for the same ModelService: found, told, and removed when what replaces it is proven.

Called by model_server.engine. The engine is a setting of the operator; an operator with another one before may have left an
endpoint that serves. It is known by its owner and its label, as all that an engine makes, and never by memory.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from pelagos.api import meta
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.model_server import ending, ownership
from pelagos.ports.errors import RejectedError

logger = logging.getLogger("pelagos.serving")

LOOKED_EVERY = 600.0
"""Seconds between two looks where there was nothing: only an operator with another setting brings something."""


@dataclass(frozen=True)
class Predecessor:
    """``names`` is empty when there is none, or we may not look; ``held`` says what it waits for once it was told to go."""

    names: str = ""
    held: str = ""


class Predecessors:
    """``kinds`` are those that the other engine alone makes, its main one first."""

    def __init__(self, cluster: KubernetesObjects, kinds: Sequence[Collection]) -> None:
        self._cluster = cluster
        self._kinds = kinds
        self._none_at: dict[str, float] = {}

    async def find(self, uid: str, namespace: str) -> Predecessor:
        """What there is for a resource. Raises OutageError."""
        if monotonic() - self._none_at.get(uid, -LOOKED_EVERY) < LOOKED_EVERY:
            return Predecessor()
        main = self._kinds[0]
        try:
            found = await self._of(main, uid, namespace)
        except RejectedError as error:
            # Roles of an earlier release do not allow it. What serves is not in doubt for that.
            logger.warning("cannot see whether an engine used before left a %s: %s", main.kind, error)
            found = []
        if not found:
            self._none_at[uid] = monotonic()
        names = ", ".join(f"{main.kind} {body['metadata']['name']}" for body in found)
        return Predecessor(names, "; ".join(ending.words(main, body) for body in found if ending.is_going(body)))

    async def remove(self, uid: str, namespace: str) -> None:
        """Delete all of it. The main object goes last: an interrupted removal is found again."""
        for kind in reversed(self._kinds):
            for found in await self._of(kind, uid, namespace):
                await self._cluster.delete(kind, found)

    def forget(self, uid: str) -> None:
        """The resource is gone."""
        self._none_at.pop(uid, None)

    async def _of(self, kind: Collection, uid: str, namespace: str) -> list[Body]:
        # Without the kind there is nothing; without the right to it, which roles of an earlier release lack, no server says so.
        if not await self._cluster.serves(kind):
            return []
        listed = await self._cluster.list(kind, namespace, {meta.UID_LABEL: uid})
        return [body for body in listed if ownership.is_owned(body, uid)]
