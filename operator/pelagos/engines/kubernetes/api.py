"""Cluster on the Kubernetes API: five calls, by the client that all parts of the operator share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

from pelagos.api import meta
from pelagos.api.kinds import Kind
from pelagos.engines.kubernetes.rest import SYSTEM, Answer, KubernetesRest
from pelagos.ports.cluster import Resource, from_body
from pelagos.ports.errors import OutageError
from pelagos_contract.text import shown

logger = logging.getLogger("pelagos.kubernetes")

TIMEOUT = 15.0
GONE = frozenset({404, 410})
MERGE_PATCH = "application/merge-patch+json"


class KubernetesApi:
    """See ports.cluster.Cluster. Writes through ``rest``, whose guard is asked right before each request."""

    def __init__(self, rest: KubernetesRest) -> None:
        self._rest = rest

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """See ports.cluster.Cluster."""
        path = _path(kind, namespace, name)
        answer = await self._rest.get(path, timeout=TIMEOUT)
        found = _found(answer, "GET", path, name)
        return from_body(kind, found) if found else None

    async def patch_status(self, resource: Resource, patch: Mapping[str, Any]) -> Resource | None:
        """See ports.cluster.Cluster."""
        body = {"metadata": {"uid": resource.uid}, "status": patch}
        found = await self._call("PATCH", f"{_path_of(resource)}/status", body, MERGE_PATCH, resource.name)
        return from_body(resource.kind, found) if found else None

    async def set_finalizers(self, resource: Resource, finalizers: tuple[str, ...]) -> Resource | None:
        """See ports.cluster.Cluster."""
        metadata = {"uid": resource.uid, "resourceVersion": resource.version, "finalizers": list(finalizers) or None}
        found = await self._call("PATCH", _path_of(resource), {"metadata": metadata}, MERGE_PATCH, resource.name)
        return from_body(resource.kind, found) if found else None

    async def delete_resource(self, resource: Resource) -> bool:
        """See ports.cluster.Cluster."""
        preconditions = {"uid": resource.uid, "resourceVersion": resource.version}
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        path = _path_of(resource)
        answer = await self._rest.ask("DELETE", path, body, timeout=TIMEOUT)
        if answer.status == HTTPStatus.CONFLICT:
            return False
        return _found(answer, "DELETE", path, resource.name) is not None

    async def post_event(
        self, resource: Resource, *, severity: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """See ports.cluster.Cluster. An event that cannot be posted is only logged."""
        now = datetime.now(UTC)
        body = {
            "metadata": {"generateName": f"{resource.name}.", "namespace": resource.namespace},
            "involvedObject": {
                "apiVersion": meta.API_VERSION,
                "kind": resource.kind.kind,
                "namespace": resource.namespace,
                "name": resource.name,
                "uid": resource.uid,
                "resourceVersion": resource.version,
            },
            "type": severity,
            "reason": reason,
            "message": shown(message, lines=True)[:1000],
            "source": {"component": meta.FIELD_MANAGER},
            "reportingComponent": meta.FIELD_MANAGER,
            "reportingInstance": meta.FIELD_MANAGER,
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "count": 1,
        }
        try:
            path, content = f"/api/v1/namespaces/{resource.namespace}/events", "application/json"
            await self._call("POST", path, body, content, resource.namespace)  # Which may be gone.
        except OutageError as error:
            logger.warning("an event about %s/%s was lost: %s", resource.kind.kind, resource.name, error)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any], content: str, name: str
    ) -> Mapping[str, Any] | None:
        query = f"?fieldManager={meta.FIELD_MANAGER}"
        answer = await self._rest.ask(method, path + query, body, content=content, timeout=TIMEOUT)
        return _found(answer, method, path, name)


def _found(answer: Answer, method: str, path: str, name: str) -> Mapping[str, Any] | None:
    """What the server answered; None when it says that the object of this name is gone.

    A 404 that names no object is of a path: of a server that starts and does not serve our kinds yet, or of a proxy. A resource
    that is there must not be forgotten for it.
    """
    if answer.status in GONE and (answer.body.get("details") or {}).get("name") == name:
        return None
    if answer.status >= 400:
        raise OutageError(SYSTEM, f"{method} {path}: {answer.status} {answer.message}")
    return answer.body


def _path_of(resource: Resource) -> str:
    return _path(resource.kind, resource.namespace, resource.name)


def _path(kind: Kind, namespace: str, name: str) -> str:
    return f"/apis/{meta.API_VERSION}/namespaces/{namespace}/{kind.plural}/{name}"
