"""Cluster on the Kubernetes API, by aiohttp: three calls, with the credentials that kopf found.

The official client would add more to the operator's memory than all the rest together, and would block threads.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp

from pelagos.api import meta
from pelagos.ports.cluster import Resource, from_body
from pelagos.ports.errors import OutageError

logger = logging.getLogger("pelagos.kubernetes")

TIMEOUT = aiohttp.ClientTimeout(total=15)
GONE = frozenset({404, 410})
MERGE_PATCH = "application/merge-patch+json"


class KubernetesApi:
    """See ports.cluster.Cluster. ``token_file`` is read anew at every call: tokens of service accounts expire."""

    def __init__(
        self, server: str, *, tls: ssl.SSLContext | None, token: str | None = None, token_file: Path | None = None
    ) -> None:
        self._server = server.rstrip("/")
        self._tls = tls
        self._token = token
        self._token_file = token_file
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def patch_status(self, resource: Resource, patch: Mapping[str, Any]) -> Resource | None:
        """See ports.cluster.Cluster."""
        body = {"metadata": {"uid": resource.uid}, "status": patch}
        found = await self._call("PATCH", f"{_path(resource)}/status", body, MERGE_PATCH)
        return from_body(resource.kind, found) if found else None

    async def set_finalizers(self, resource: Resource, finalizers: tuple[str, ...]) -> Resource | None:
        """See ports.cluster.Cluster."""
        metadata = {"uid": resource.uid, "resourceVersion": resource.version, "finalizers": list(finalizers) or None}
        found = await self._call("PATCH", _path(resource), {"metadata": metadata}, MERGE_PATCH)
        return from_body(resource.kind, found) if found else None

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
            "message": message[:1000],
            "source": {"component": meta.FIELD_MANAGER},
            "reportingComponent": meta.FIELD_MANAGER,
            "reportingInstance": meta.FIELD_MANAGER,
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "count": 1,
        }
        try:
            await self._call("POST", f"/api/v1/namespaces/{resource.namespace}/events", body, "application/json")
        except OutageError as error:
            logger.warning("an event about %s/%s was lost: %s", resource.kind.kind, resource.name, error)

    async def _call(self, method: str, path: str, body: Mapping[str, Any], content: str) -> dict[str, Any] | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        headers = {"Content-Type": content, "Accept": "application/json"}
        token = self._token_file.read_text(encoding="utf-8").strip() if self._token_file else self._token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self._server}{path}?fieldManager={meta.FIELD_MANAGER}"
        try:
            async with self._session.request(method, url, json=body, headers=headers, ssl=self._tls or True) as answer:
                if answer.status in GONE:
                    return None
                content_of_answer = await answer.json(content_type=None)
                if answer.status >= 400:
                    raise OutageError("kubernetes", f"{method} {path}: {answer.status} {_message(content_of_answer)}")
                return content_of_answer if isinstance(content_of_answer, dict) else {}
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise OutageError("kubernetes", f"{method} {path}: {error or type(error).__name__}") from error


def _path(resource: Resource) -> str:
    return f"/apis/{meta.API_VERSION}/namespaces/{resource.namespace}/{resource.kind.plural}/{resource.name}"


def _message(content: Any) -> str:
    return str(content.get("message", "")) if isinstance(content, dict) else str(content)[:200]
