"""Entries of all services in memory, rebuilt only where an object has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pelagos_hub.catalogue import reading
from pelagos_hub.catalogue.entries import Body, Entry, entry

Objects = Mapping[tuple[str, str], Body]


class Index:
    """Caches entries by the versions of their objects; entries of deleted services are dropped."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[tuple[object, ...], Entry]] = {}

    def entries(self, services: Objects, trainings: Objects, datasets: Objects) -> list[Entry]:
        """The entries of all services, sorted by namespace and name."""
        by_package = {
            (namespace, str(uri)): training
            for (namespace, _), training in trainings.items()
            if (uri := reading.at(training, "status", "model").get("uri"))
        }
        made = {}
        for key, service in sorted(services.items()):
            training = _training(key[0], service, trainings, by_package)
            dataset = None
            if training is not None:
                dataset = datasets.get((key[0], str(reading.at(training, "status", "dataset").get("name"))))
            made[key] = self._entry(key, service, training, dataset)
        self._made = made
        return [each for _, each in made.values()]

    def entry(self, key: tuple[str, str], services: Objects, trainings: Objects, datasets: Objects) -> Entry | None:
        """The entry of one service; None when it does not exist."""
        if key not in services:
            return None
        return next(each for each in self.entries(services, trainings, datasets) if (each.namespace, each.name) == key)

    def _entry(self, key: tuple[str, str], *objects: Body | None) -> tuple[tuple[object, ...], Entry]:
        versions = tuple(_identity(body) for body in objects)
        known = self._made.get(key)
        if known is not None and known[0] == versions:
            return known
        service, training, dataset = objects
        assert service is not None
        return versions, entry(service, training, dataset)


def _training(
    namespace: str, service: Body, trainings: Objects, by_package: Mapping[tuple[str, str], Body]
) -> Body | None:
    """The TrainingRun of the namespace that produced the served model; before anything is served, the one that spec names."""
    uri = reading.at(service, "status", "model").get("uri")
    if uri:
        return by_package.get((namespace, str(uri)))
    named = reading.at(service, "spec", "model", "trainingRunRef").get("name")
    return trainings.get((namespace, str(named))) if named else None


def _identity(body: Body | None) -> object:
    """A value that is equal for the same version of the same object; without a version it equals no other."""
    if body is None:
        return None
    metadata = reading.at(body, "metadata")
    version = metadata.get("resourceVersion")
    return (metadata.get("uid"), version) if version else object()


def listed(entries: Iterable[Entry], admits: Callable[[str], bool]) -> list[Entry]:
    """The listed entries that a visitor may see: public ones, and those of namespaces that admit the visitor."""
    return [each for each in entries if each.is_listed and (each.visibility == "Public" or admits(each.namespace))]
