"""What the hub takes of the API server, and the little that it writes there. Pages read memory alone: no page costs a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Body = Mapping[str, Any]
"""An object as the API server shows it."""
Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Listing:
    """All objects of a kind that are known now."""

    objects: Mapping[Name, Body] = field(default_factory=dict)
    heard: float | None = None
    """When the API server last said anything about this kind, by the hub's monotonic clock; None: never."""
    problem: str = ""
    """Why nothing is heard now, in words; empty while what is shown is what there is."""


class Cluster(Protocol):
    """``services``, ``trials``, ``trainings`` and ``datasets`` are what is in memory; the others call the API server.

    Those raise OutageError when it cannot now, and RejectedError when it refuses.
    """

    def services(self) -> Listing:
        """All ModelServices."""

    def trials(self) -> Listing:
        """All Trials."""

    def datasets(self) -> Listing:
        """All Datasets."""

    def trainings(self) -> Listing:
        """All TrainingRuns."""

    async def picture(self, namespace: str, config_map: str, key: str) -> bytes | None:
        """What a ConfigMap has as binary data under a key; None when there is none."""

    async def create_trial(self, body: Body) -> Body:
        """Create a Trial; from then on ``trials`` shows it."""

    async def delete_trial(self, namespace: str, name: str, uid: str) -> bool:
        """Delete this very Trial; False when it was gone already."""

    async def run(self) -> None:
        """Keep what is in memory true until cancelled."""


class MemoryCluster:
    """A Cluster without an API server, for tests and for looking at pages: what is put into it is what there is."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[Name, Body]] = {"ModelService": {}, "Trial": {}, "Dataset": {}, "TrainingRun": {}}
        self.pictures: dict[tuple[str, str, str], bytes] = {}
        """By namespace, ConfigMap and key."""
        self.heard: float | None = 0.0
        self.problem = ""
        self.refusal: Exception | None = None
        """Raised by every write while it is set."""
        self._made = 0

    def put(self, body: Body) -> None:
        """Add or replace an object, of one of the kinds."""
        self.kinds[body["kind"]][body["metadata"]["namespace"], body["metadata"]["name"]] = body

    def services(self) -> Listing:
        """See Cluster."""
        return self._listing("ModelService")

    def trials(self) -> Listing:
        """See Cluster."""
        return self._listing("Trial")

    def datasets(self) -> Listing:
        """See Cluster."""
        return self._listing("Dataset")

    def trainings(self) -> Listing:
        """See Cluster."""
        return self._listing("TrainingRun")

    async def picture(self, namespace: str, config_map: str, key: str) -> bytes | None:
        """See Cluster."""
        return self.pictures.get((namespace, config_map, key))

    async def create_trial(self, body: Body) -> Body:
        """See Cluster."""
        if self.refusal:
            raise self.refusal
        self._made += 1
        made = {**body, "metadata": {**body["metadata"], "uid": f"00000000-0000-4000-8000-{self._made:012}"}}
        self.put(made)
        return made

    async def delete_trial(self, namespace: str, name: str, uid: str) -> bool:
        """See Cluster."""
        if self.refusal:
            raise self.refusal
        found = self.kinds["Trial"].get((namespace, name))
        if found is None or found["metadata"]["uid"] != uid:
            return False
        del self.kinds["Trial"][namespace, name]
        return True

    async def run(self) -> None:
        """See Cluster; nothing changes by itself."""

    def _listing(self, kind: str) -> Listing:
        return Listing(self.kinds[kind], self.heard, self.problem)
