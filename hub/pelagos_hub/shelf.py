"""Shared state of the model pages, created once per process: index, pictures and documents; and who may see which model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pelagos_hub.catalogue import index
from pelagos_hub.documents import Documents
from pelagos_hub.pictures import Pictures

if TYPE_CHECKING:
    from pelagos_hub.catalogue.entries import Entry
    from pelagos_hub.cluster import Cluster
    from pelagos_hub.login.identity import Person
    from pelagos_hub.settings import Settings


_PAUSE = 1.0


class Shelf:
    """The models of a hub, with the caches of their pages."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._index = index.Index()
        self.pictures = Pictures(cluster)
        self.documents = Documents(settings)

    async def run(self) -> None:
        """Rebuild changed entries every ``_PAUSE`` seconds until cancelled, so that no page has to wait for it."""
        while True:
            self.all()
            await asyncio.sleep(_PAUSE)

    def all(self) -> list[Entry]:
        """All entries, including those that only some people may see."""
        cluster = self._cluster
        services, trainings, datasets = cluster.services(), cluster.trainings(), cluster.datasets()
        return self._index.entries(services.objects, trainings.objects, datasets.objects)

    def seen_by(self, person: Person | None) -> list[Entry]:
        """The entries that the catalogue lists for a person; None is a visitor without login."""
        return index.listed(self.all(), lambda namespace: self.admits(person, namespace))

    def find(self, namespace: str, name: str) -> Entry | None:
        """An entry, even one that only some people may see; None when there is none."""
        return next((each for each in self.all() if (each.namespace, each.name) == (namespace, name)), None)

    def admits(self, person: Person | None, namespace: str) -> bool:
        """Whether a person may see models with the visibility Namespace of this namespace."""
        wanted = self._settings.namespace_entitlement
        if person is None:
            return False
        return not wanted or wanted.replace("{namespace}", namespace) in person.entitlements
