"""The Cluster port on the Kubernetes API, through the client that all parts of the operator share."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlencode

from pelagos.api import meta, service_logins
from pelagos.api.kinds import Kind
from pelagos.api.service_logins import ServiceLogin
from pelagos.engines.kubernetes.rest import SYSTEM, Answer, KubernetesRest
from pelagos.ports.clock import monotonic
from pelagos.ports.cluster import TOKEN_KEY, Resource, from_body
from pelagos.ports.errors import OutageError, RejectedError, UnboundError
from pelagos_contract.text import shown

logger = logging.getLogger("pelagos.kubernetes")

TIMEOUT = 15.0
LOGIN_AGAIN = 60.0
PAGE = 500
"""Resources per list request."""
GONE = frozenset({404, 410})
_NOT_NOW = frozenset({401, 404, 408, 409})
"""Statuses worth retrying: an expired token is read again, and a deleted namespace takes the resource with it."""
MERGE_PATCH = "application/merge-patch+json"


class KubernetesApi:
    """Implements ports.cluster.Cluster. Writes go through ``rest``, which asks its guard right before each request.

    ``collects``: whether the cluster garbage-collects objects of a deleted owner. If so, the operator needs no right to delete
    Secrets, a right that Kubernetes cannot restrict to some of them. On a single machine nobody else would delete them.
    """

    def __init__(self, rest: KubernetesRest, *, collects: bool = True) -> None:
        self._rest = rest
        self._collects = collects
        self._logins: dict[tuple[str, str], tuple[str, float]] = {}
        """By namespace and name, the last value written and when."""

    async def read(self, kind: Kind, namespace: str, name: str) -> Resource | None:
        """The resource as the API server has it now; None when it does not exist."""
        path = _path(kind, namespace, name)
        answer = await self._rest.get(path, timeout=TIMEOUT)
        found = _found(answer, "GET", path, name)
        return from_body(kind, found) if found else None

    async def list(self, kind: Kind, namespace: str) -> tuple[Resource, ...]:
        """All resources of a kind in a namespace, read in pages of PAGE."""
        found: list[Resource] = []
        rest: str | None = ""
        while rest is not None:
            query = urlencode({"limit": str(PAGE)} | ({"continue": rest} if rest else {}))
            path = f"{_path(kind, namespace)}?{query}"
            # The continue token of a long list may expire between pages (410). It is raised as an outage: the caller lists again.
            answer = await self._rest.get(path, timeout=TIMEOUT)
            if answer.status != HTTPStatus.OK:
                raise OutageError(SYSTEM, f"GET {path}: {answer.status} {answer.message}")
            found += (from_body(kind, item) for item in answer.body.get("items") or ())
            rest = (answer.body.get("metadata") or {}).get("continue") or None
        return tuple(found)

    async def create_owned(self, owner: Resource, kind: Kind, name: str, spec: Mapping[str, Any]) -> None:
        """Create a resource that ``owner`` owns; no effect if the name is taken. Raises UnboundError and RejectedError."""
        body = {
            "apiVersion": meta.API_VERSION,
            "kind": kind.kind,
            "metadata": _owned(owner, name),
            "spec": dict(spec),
        }
        await self._make(_path(kind, owner.namespace), body, name)

    async def issue_token(self, owner: Resource, name: str, token: str) -> None:
        """Create an immutable Secret with ``token`` that ``owner`` owns; no effect if the name is taken."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": _owned(owner, name),
            "type": "Opaque",
            "immutable": True,
            "stringData": {TOKEN_KEY: token},
        }
        await self._make(f"/api/v1/namespaces/{owner.namespace}/secrets", body, name)

    async def revoke_token(self, owner: Resource, name: str) -> None:
        """Delete such a Secret, unless the cluster collects it with its owner (``collects``)."""
        if self._collects:
            return
        path = f"/api/v1/namespaces/{owner.namespace}/secrets/{name}"
        answer = await self._rest.ask("DELETE", path, timeout=TIMEOUT)
        if answer.status not in GONE:
            _granted(answer, "DELETE", path)

    async def publish_login(self, owner: Resource, login: ServiceLogin) -> None:
        """Write the login of ``owner`` into the Secret of its namespace; an unchanged one once in LOGIN_AGAIN seconds."""
        value = base64.b64encode(service_logins.written(login).encode()).decode()
        place, now = (owner.namespace, owner.name), monotonic()
        known, since = self._logins.get(place, ("", 0.0))
        # The Secret is never read. So it is written again from time to time, in case somebody removed it.
        if known == value and now - since < LOGIN_AGAIN:
            return
        if not await self._patch_logins(owner, value):
            path = f"/api/v1/namespaces/{owner.namespace}/secrets"
            query = f"?fieldManager={meta.FIELD_MANAGER}"
            metadata = {"name": service_logins.SECRET, "labels": {"app.kubernetes.io/managed-by": meta.FIELD_MANAGER}}
            body = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": metadata,
                "data": {service_logins.key(owner.name): value},
            }
            # Another ModelService may be faster: a conflict is raised as an outage, and the next pass patches.
            _granted(await self._rest.ask("POST", path + query, body, timeout=TIMEOUT), "POST", path)
        self._logins[place] = (value, now)

    async def withdraw_login(self, owner: Resource) -> None:
        """Remove the login of ``owner`` from that Secret."""
        await self._patch_logins(owner, None)
        self._logins.pop((owner.namespace, owner.name), None)

    async def _patch_logins(self, owner: Resource, value: str | None) -> bool:
        """Set or remove a key of the Secret; returns False when there is no Secret."""
        path = f"/api/v1/namespaces/{owner.namespace}/secrets/{service_logins.SECRET}"
        query = f"?fieldManager={meta.FIELD_MANAGER}"
        body = {"data": {service_logins.key(owner.name): value}}
        answer = await self._rest.ask("PATCH", path + query, body, content=MERGE_PATCH, timeout=TIMEOUT)
        if answer.status in GONE and (answer.body.get("details") or {}).get("name") == service_logins.SECRET:
            return False
        _granted(answer, "PATCH", path)
        return True

    async def _make(self, path: str, body: Mapping[str, Any], name: str) -> None:
        answer = await self._rest.ask("POST", f"{path}?fieldManager={meta.FIELD_MANAGER}", body, timeout=TIMEOUT)
        if answer.status == HTTPStatus.CONFLICT and (answer.body.get("details") or {}).get("name") == name:
            return
        _granted(answer, "POST", path)

    async def patch_status(self, resource: Resource, patch: Mapping[str, Any]) -> Resource | None:
        """Merge ``patch`` into status, and return the resource after that; None when it no longer exists."""
        # With the uid, the server refuses to patch a new resource that has the same name.
        body = {"metadata": {"uid": resource.uid}, "status": patch}
        found = await self._call("PATCH", f"{_path_of(resource)}/status", body, MERGE_PATCH, resource.name)
        return from_body(resource.kind, found) if found else None

    async def set_finalizers(self, resource: Resource, finalizers: tuple[str, ...]) -> Resource | None:
        """Set metadata.finalizers, and return the resource after that; None when it no longer exists."""
        # With the resourceVersion, a change by somebody else since our read gives a conflict: a list of finalizers is replaced
        # as a whole, and theirs must not get lost.
        metadata = {"uid": resource.uid, "resourceVersion": resource.version, "finalizers": list(finalizers) or None}
        found = await self._call("PATCH", _path_of(resource), {"metadata": metadata}, MERGE_PATCH, resource.name)
        return from_body(resource.kind, found) if found else None

    async def delete_resource(self, resource: Resource) -> bool:
        """Begin to delete the resource; returns False if it was changed since, or no longer exists."""
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
        """Post a Kubernetes event about the resource. An event that cannot be posted is only logged."""
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
            await self._call("POST", path, body, content, resource.namespace)  # The namespace may have been deleted.
        except OutageError as error:
            logger.warning("an event about %s/%s was lost: %s", resource.kind.kind, resource.name, error)

    async def _call(
        self, method: str, path: str, body: Mapping[str, Any], content: str, name: str
    ) -> Mapping[str, Any] | None:
        query = f"?fieldManager={meta.FIELD_MANAGER}"
        answer = await self._rest.ask(method, path + query, body, content=content, timeout=TIMEOUT)
        return _found(answer, method, path, name)


def _found(answer: Answer, method: str, path: str, name: str) -> Mapping[str, Any] | None:
    """The server's answer; None when it says that the object of this name does not exist.

    A 404 that names no object is about the path: from a server that is starting and does not serve our kinds yet, or from a
    proxy. A resource that exists must not be forgotten because of it, so such a 404 raises OutageError.
    """
    if answer.status in GONE and (answer.body.get("details") or {}).get("name") == name:
        return None
    if answer.status >= 400:
        raise OutageError(SYSTEM, f"{method} {path}: {answer.status} {answer.message}")
    return answer.body


def _granted(answer: Answer, method: str, path: str) -> None:
    """Raise the error for a refused change to an object that accompanies one of our resources; do nothing on success."""
    if answer.status == HTTPStatus.FORBIDDEN and "cannot" in answer.message:
        raise UnboundError(SYSTEM, f"{answer.message}. Apply the roles of this version in the namespace again")
    if answer.status in _NOT_NOW:
        raise OutageError(SYSTEM, f"{method} {path}: {answer.status} {answer.message}")
    if answer.status >= 400:
        raise RejectedError(SYSTEM, answer.message)


def _owned(owner: Resource, name: str) -> dict[str, Any]:
    """Metadata for an object that ``owner`` owns, so that it is deleted with it."""
    reference = {
        "apiVersion": meta.API_VERSION,
        "kind": owner.kind.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
    }
    labels = {"app.kubernetes.io/managed-by": meta.FIELD_MANAGER, meta.UID_LABEL: owner.uid}
    return {"name": name, "namespace": owner.namespace, "labels": labels, "ownerReferences": [reference]}


def _path_of(resource: Resource) -> str:
    return _path(resource.kind, resource.namespace, resource.name)


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    return "/".join([f"/apis/{meta.API_VERSION}/namespaces/{namespace}/{kind.plural}", *((name,) if name else ())])
