"""What pages of models share, made once per process: the index, pictures and documents; and who is shown which model."""

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
    """One per hub."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._settings = settings
        self._cluster = cluster
        self._index = index.Index()
        self.pictures = Pictures(cluster)
        self.documents = Documents(settings)

    async def run(self) -> None:
        """Make entries soon after their objects have come, so that nobody's page waits for that. Until cancelled."""
        while True:
            self.all()
            await asyncio.sleep(_PAUSE)

    def all(self) -> list[Entry]:
        """Whoever may see them."""
        cluster = self._cluster
        services, trainings, datasets = cluster.services(), cluster.trainings(), cluster.datasets()
        return self._index.entries(services.objects, trainings.objects, datasets.objects)

    def seen_by(self, person: Person | None) -> list[Entry]:
        """What the catalogue shows somebody."""
        return index.listed(self.all(), lambda namespace: self.admits(person, namespace))

    def find(self, namespace: str, name: str) -> Entry | None:
        """A model, whoever may see it."""
        return next((each for each in self.all() if (each.namespace, each.name) == (namespace, name)), None)

    def admits(self, person: Person | None, namespace: str) -> bool:
        """Whether somebody belongs to whom a namespace publishes for itself."""
        wanted = self._settings.namespace_entitlement
        if person is None:
            return False
        return not wanted or wanted.replace("{namespace}", namespace) in person.entitlements
