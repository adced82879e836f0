"""Objects of the Kubernetes API as engines write them: read, list by label, server-side apply, delete. One field owner.

Called by the engines that serve on a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any
from urllib.parse import urlencode

from pelagos.api import meta
from pelagos.engines.kubernetes.rest import SYSTEM, KubernetesRest
from pelagos.ports.clock import monotonic
from pelagos.ports.errors import OutageError, RejectedError, UnboundError

Body = Mapping[str, Any]
APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
UNSERVED = 20.0
"""Seconds for which a kind that the server does not know is not asked for again."""
_NOT_NOW = frozenset({401, 408, 409})
"""An expired token is read anew, a conflict is gone at the next look."""
_GONE = frozenset({404, 410})
_WEBHOOK_AWAY = re.compile(r'failed calling webhook "([^"]+)"')


@dataclass(frozen=True)
class Collection:
    """One kind of object; ``api_version`` as objects write it, for example ``apps/v1``."""

    api_version: str
    kind: str
    plural: str

    @property
    def root(self) -> str:
        """Path of the group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """Path of an object; without ``name`` of all, without ``namespace`` of those of all namespaces."""
        parts = [self.root, *(("namespaces", namespace) if namespace else ()), self.plural, *((name,) if name else ())]
        return "/".join(parts)


class KubernetesObjects:
    """Every method raises OutageError when the server cannot now, and RejectedError when it refuses."""

    def __init__(self, rest: KubernetesRest, *, clock: Callable[[], float] = monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._served: set[Collection] = set()
        self._unserved: dict[Collection, float] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._rest.close()

    async def get(self, kind: Collection, namespace: str, name: str) -> Body | None:
        """An object; None when it is not there, or its kind is not known."""
        return await self._call("GET", kind.path(namespace, name))

    async def list(
        self,
        kind: Collection,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        *,
        most: int = 0,
    ) -> list[Body]:
        """Objects that carry all ``labels``, one without a value with any; of all namespaces when none is named.

        ``fields`` must have these values, where the kind can be asked for them. No more than ``most``; 0: all. Empty when the
        kind is not known.
        """
        selector = ",".join(f"{name}={value}" if value else name for name, value in (labels or {}).items())
        asked = {
            "labelSelector": selector,
            "fieldSelector": ",".join(f"{key}={value}" for key, value in (fields or {}).items()),
            "limit": str(most) if most else "",
        }
        query = "?" + urlencode({key: value for key, value in asked.items() if value})
        query = "" if query == "?" else query
        found = await self._call("GET", kind.path(namespace) + query)
        # Items of a list do not say their kind, as the same object does when it is asked for by its name.
        named = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [{**named, **item} for item in found.get("items") or ()] if found else []

    async def apply(self, kind: Collection, body: Body, *, owner: str = meta.FIELD_MANAGER) -> Body:
        """Make the object hold ``body`` and nothing else that ``owner`` ever applied; others' fields are not touched."""
        metadata = body["metadata"]
        query = urlencode({"fieldManager": owner, "force": "true"})
        path = kind.path(metadata["namespace"], metadata["name"])
        found = await self._call("PATCH", f"{path}?{query}", body, APPLY)
        if found is None:
            raise RejectedError(
                SYSTEM, f"namespace {metadata['namespace']} or kind {kind.kind} ({kind.api_version}) is gone"
            )
        return found

    async def patch(self, kind: Collection, namespace: str, name: str, patch: Body) -> Body | None:
        """Merge ``patch`` into an object; None when it is not there."""
        path = f"{kind.path(namespace, name)}?{urlencode({'fieldManager': meta.FIELD_MANAGER})}"
        return await self._call("PATCH", path, patch, MERGE_PATCH)

    async def delete(self, kind: Collection, found: Body) -> None:
        """Delete this very object, not another one that has got its name; what it owns goes after it."""
        metadata = found["metadata"]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": metadata["uid"]}}
        await self._call("DELETE", kind.path(metadata["namespace"], metadata["name"]), options)

    async def serves(self, kind: Collection) -> bool:
        """Whether the server knows the kind in this version. A yes is remembered, a no for some seconds: it may be installed."""
        unknown_since = self._unserved.get(kind, -inf)
        if kind not in self._served and self._clock() - unknown_since >= UNSERVED:
            found = await self._call("GET", kind.root)
            resources = found.get("resources", ()) if found else ()
            if any(resource.get("name") == kind.plural for resource in resources):
                self._served.add(kind)
            else:
                self._unserved[kind] = self._clock()
        return kind in self._served

    async def preferred_version(self, group: str) -> str:
        """The version of an API group, by its path, that the server prefers; "" when it does not know the group."""
        found = await self._call("GET", group)
        return str(((found or {}).get("preferredVersion") or {}).get("version", ""))

    async def _call(
        self, method: str, path: str, body: Body | None = None, content: str = "application/json"
    ) -> Body | None:
        try:
            answer = await self._rest.ask(method, path, body, content=content)
        except OutageError as error:
            webhook = _WEBHOOK_AWAY.search(str(error))
            if webhook is None:
                raise
            message = f"the admission webhook {webhook[1][:253]} does not answer, and nothing is written without it"
            raise OutageError(
                SYSTEM, f"{message}; what serves goes on. See whether its server runs. {error}"
            ) from error
        if answer.status in _GONE:
            return None
        if answer.status in _NOT_NOW:
            raise OutageError(SYSTEM, f"{method} {path}: {answer.status} {answer.message}")
        # That somebody "cannot" is RBAC's word: a right is missing. What an admission plugin forbids, no right would change.
        if answer.status == 403 and "cannot" in answer.message:
            hint = (
                "Apply the roles of this version (`kubectl apply -k` of your overlay and of the tenant's folder, or "
                "`helm upgrade`), and see that the namespace is still a tenant's (`pelagos doctor`)"
            )
            raise UnboundError(SYSTEM, f"{answer.message}. {hint}")
        if answer.status >= 400:
            raise RejectedError(SYSTEM, answer.message)
        return answer.body
