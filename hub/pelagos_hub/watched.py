"""Implements Cluster by the Kubernetes API: four watches, pictures on demand, and two kinds of writes."""

from __future__ import annotations

import asyncio
import base64

from typing_extensions import override

from pelagos.api import meta
from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.kubernetes.rest import SYSTEM, KubernetesRest
from pelagos.engines.kubernetes.watching import Watched
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_hub.cluster import Body, Cluster, Listing

SERVICES = Collection(meta.API_VERSION, "ModelService", "modelservices")
TRIALS = Collection(meta.API_VERSION, "Trial", "trials")
DATASETS = Collection(meta.API_VERSION, "Dataset", "datasets")
TRAININGS = Collection(meta.API_VERSION, "TrainingRun", "trainingruns")
CONFIG_MAPS = Collection("v1", "ConfigMap", "configmaps")
_NOT_NOW = frozenset({401, 408, 409})
_NOT_FOUND = 404
_GONE = frozenset({404, 409, 410})
"""Statuses of a delete whose object no longer exists; 409: another object has this name now."""


class WatchedCluster(Cluster):
    """See cluster.Cluster. ``namespace`` restricts it to that one; empty: all."""

    def __init__(self, rest: KubernetesRest, namespace: str = "") -> None:
        self._rest = rest
        self._services = Watched(rest, SERVICES, namespace=namespace)
        self._trials = Watched(rest, TRIALS, namespace=namespace)
        self._datasets = Watched(rest, DATASETS, namespace=namespace)
        self._trainings = Watched(rest, TRAININGS, namespace=namespace)

    @override
    def services(self) -> Listing:
        return _listing(self._services)

    @override
    def trials(self) -> Listing:
        return _listing(self._trials)

    @override
    def datasets(self) -> Listing:
        return _listing(self._datasets)

    @override
    def trainings(self) -> Listing:
        return _listing(self._trainings)

    @override
    async def picture(self, namespace: str, config_map: str, key: str) -> bytes | None:
        answer = await self._rest.get(CONFIG_MAPS.path(namespace, config_map))
        if answer.status == _NOT_FOUND:
            return None
        if answer.status >= 400:
            raise OutageError(SYSTEM, f"GET of the ConfigMap {config_map}: {answer.status} {answer.message}")
        try:
            told = (answer.body.get("binaryData") or {}).get(key)
            return base64.b64decode(told, validate=True) if isinstance(told, str) else None
        except ValueError:
            return None

    @override
    async def create_trial(self, body: Body) -> Body:
        path = f"{TRIALS.path(body['metadata']['namespace'])}?fieldManager=pelagos-hub"
        answer = await self._rest.ask("POST", path, body)
        if answer.status in _NOT_NOW:
            raise OutageError(SYSTEM, f"POST {path}: {answer.status} {answer.message}")
        if answer.status >= 400:
            raise RejectedError(SYSTEM, answer.message)
        self._trials.put(answer.body)
        return answer.body

    @override
    async def delete_trial(self, namespace: str, name: str, uid: str) -> bool:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        answer = await self._rest.ask("DELETE", TRIALS.path(namespace, name), options)
        if answer.status in _GONE:
            return False
        if answer.status in _NOT_NOW:
            raise OutageError(SYSTEM, f"DELETE of the trial {name}: {answer.status} {answer.message}")
        if answer.status >= 400:
            raise RejectedError(SYSTEM, answer.message)
        return True

    @override
    async def run(self) -> None:
        try:
            kinds = (self._services, self._trials, self._datasets, self._trainings)
            await asyncio.gather(*(watched.run() for watched in kinds))
        finally:
            await self._rest.close()


def _listing(watched: Watched) -> Listing:
    return Listing(watched.objects, watched.heard, watched.problem)
