"""Reads users' Secrets, for steps that run on this machine.

On a cluster, pods mount them, and the operator has no right to read any.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.errors import OutageError, RejectedError

SYSTEM = "kubernetes"


class SecretReader:
    """Reads Secrets through ``api`` at each use; their content is never cached."""

    def __init__(self, api: KubernetesRest) -> None:
        self._api = api

    async def find(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The decoded values by key; None when the Secret does not exist. Raises OutageError and RejectedError."""
        answer = await self._api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        if answer.status == 404:
            return None
        if answer.status in {401, 403}:
            raise RejectedError(SYSTEM, f"the Secret {namespace}/{name} may not be read: {answer.message}")
        if answer.status != 200:
            raise OutageError(SYSTEM, f"the Secret {namespace}/{name} cannot be read: {answer.status}")
        return {str(key): _text(value) for key, value in (answer.body.get("data") or {}).items()}


def _text(value: object) -> str:
    try:
        return base64.b64decode(str(value), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
