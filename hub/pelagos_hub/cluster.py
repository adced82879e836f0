"""The hub's reads from the API server, and its few writes. Catalogue pages read memory and cost no API calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from typing_extensions import override

Body = Mapping[str, Any]
"""An object as the API server returns it."""
Name = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True)
class Listing:
    """All objects of a kind in memory."""

    objects: Mapping[Name, Body] = field(default_factory=dict)
    heard: float | None = None
    """When the API server last sent anything for this kind, on the hub's monotonic clock; None: never."""
    problem: str = ""
    """Why the watch fails now, in words; empty while the objects are current."""


class Cluster(Protocol):
    """``services``, ``trials``, ``trainings`` and ``datasets`` return what is in memory; other methods call the API server.

    Those raise OutageError when it does not answer, and RejectedError when it refuses.
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
        """The binary data of a ConfigMap under a key; None when there is none."""

    async def create_trial(self, body: Body) -> Body:
        """Create a Trial and return it; from then on ``trials`` includes it."""

    async def delete_trial(self, namespace: str, name: str, uid: str) -> bool:
        """Delete the Trial with this uid; False when it no longer existed."""

    async def run(self) -> None:
        """Keep the objects in memory current until cancelled."""


class MemoryCluster(Cluster):
    """A Cluster without an API server, for tests and previews of pages: it contains what ``put`` adds."""

    def __init__(self) -> None:
        self.kinds: dict[str, dict[Name, Body]] = {"ModelService": {}, "Trial": {}, "Dataset": {}, "TrainingRun": {}}
        self.pictures: dict[tuple[str, str, str], bytes] = {}
        """Contents by namespace, ConfigMap and key."""
        self.heard: float | None = 0.0
        self.problem = ""
        self.refusal: Exception | None = None
        """Raised by every write while it is set."""
        self._made = 0

    def put(self, body: Body) -> None:
        """Add or replace an object of one of the known kinds."""
        self.kinds[body["kind"]][body["metadata"]["namespace"], body["metadata"]["name"]] = body

    @override
    def services(self) -> Listing:
        return self._listing("ModelService")

    @override
    def trials(self) -> Listing:
        return self._listing("Trial")

    @override
    def datasets(self) -> Listing:
        return self._listing("Dataset")

    @override
    def trainings(self) -> Listing:
        return self._listing("TrainingRun")

    @override
    async def picture(self, namespace: str, config_map: str, key: str) -> bytes | None:
        return self.pictures.get((namespace, config_map, key))

    @override
    async def create_trial(self, body: Body) -> Body:
        if self.refusal:
            raise self.refusal
        self._made += 1
        made = {**body, "metadata": {**body["metadata"], "uid": f"00000000-0000-4000-8000-{self._made:012}"}}
        self.put(made)
        return made

    @override
    async def delete_trial(self, namespace: str, name: str, uid: str) -> bool:
        if self.refusal:
            raise self.refusal
        found = self.kinds["Trial"].get((namespace, name))
        if found is None or found["metadata"]["uid"] != uid:
            return False
        del self.kinds["Trial"][namespace, name]
        return True

    @override
    async def run(self) -> None:
        """Does nothing: objects change only through ``put``."""

    def _listing(self, kind: str) -> Listing:
        return Listing(self.kinds[kind], self.heard, self.problem)
