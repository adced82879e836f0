"""Finds, reports and removes what another engine created for the same ModelService, once its replacement is proven.

Called by model_server.engine. The engine is a setting of the operator; an operator that ran with another one may have left an
endpoint that still serves. It is recognized by owner and label, like all objects of an engine, and never from memory.
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
"""Seconds before a namespace without a predecessor is checked again: only an operator with another setting creates one."""


@dataclass(frozen=True)
class Predecessor:
    """``names`` is empty when there is none, or we may not look; ``held`` says what a requested deletion waits for."""

    names: str = ""
    held: str = ""


class Predecessors:
    """``kinds`` are those that only the other engine creates, its main one first."""

    def __init__(self, cluster: KubernetesObjects, kinds: Sequence[Collection]) -> None:
        self._cluster = cluster
        self._kinds = kinds
        self._none_at: dict[str, float] = {}

    async def find(self, uid: str, namespace: str) -> Predecessor:
        """The predecessor of a resource's endpoint. Raises OutageError."""
        if monotonic() - self._none_at.get(uid, -LOOKED_EVERY) < LOOKED_EVERY:
            return Predecessor()
        main = self._kinds[0]
        try:
            found = await self._of(main, uid, namespace)
        except RejectedError as error:
            # Roles of an earlier release do not allow this read. That is not a reason to doubt what serves now.
            logger.warning("cannot check whether an earlier engine left a %s: %s", main.kind, error)
            found = []
        if not found:
            self._none_at[uid] = monotonic()
        names = ", ".join(f"{main.kind} {body['metadata']['name']}" for body in found)
        return Predecessor(names, "; ".join(ending.words(main, body) for body in found if ending.is_going(body)))

    async def remove(self, uid: str, namespace: str) -> None:
        """Delete all its objects. The main object goes last, so that an interrupted removal is found again."""
        for kind in reversed(self._kinds):
            for found in await self._of(kind, uid, namespace):
                await self._cluster.delete(kind, found)

    def forget(self, uid: str) -> None:
        """Drop the cache entry of a resource that no longer exists."""
        self._none_at.pop(uid, None)

    async def _of(self, kind: Collection, uid: str, namespace: str) -> list[Body]:
        # If the kind is not served there is nothing to find. Ask that first: listing it without the right, which roles of an
        # earlier release lack, would be refused rather than answered with "not found".
        if not await self._cluster.serves(kind):
            return []
        listed = await self._cluster.list(kind, namespace, {meta.UID_LABEL: uid})
        return [body for body in listed if ownership.is_owned(body, uid)]
