"""Kubernetes objects as engines handle them: read, list by label, server-side apply, delete. All with one field owner.

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
"""Seconds before the server is asked again about a kind that it did not know."""
_NOT_NOW = frozenset({401, 408, 409})
"""Statuses worth retrying: an expired token is read again, and a conflict has passed by the next pass."""
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
        """API path of the group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """API path of an object; without ``name`` of the whole collection, without ``namespace`` across all namespaces."""
        parts = [self.root, *(("namespaces", namespace) if namespace else ()), self.plural, *((name,) if name else ())]
        return "/".join(parts)


class KubernetesObjects:
    """Every method raises OutageError when the server cannot answer now, and RejectedError when it refuses."""

    def __init__(self, rest: KubernetesRest, *, clock: Callable[[], float] = monotonic) -> None:
        self._rest = rest
        self._clock = clock
        self._served: set[Collection] = set()
        self._unserved: dict[Collection, float] = {}

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    async def get(self, kind: Collection, namespace: str, name: str) -> Body | None:
        """The object; None when it does not exist, or the server does not know its kind."""
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
        """Objects that carry all ``labels``, from all namespaces when none is named. An empty label value matches any value.

        ``fields`` is a field selector, for kinds that support it. At most ``most`` objects are returned; 0 means all. The list
        is empty when the server does not know the kind.
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
        # List items carry no apiVersion and kind, unlike the same object read by name.
        named = {"apiVersion": kind.api_version, "kind": kind.kind}
        return [{**named, **item} for item in found.get("items") or ()] if found else []

    async def apply(self, kind: Collection, body: Body, *, owner: str = meta.FIELD_MANAGER) -> Body:
        """Server-side apply: set the fields of ``body``, drop others that ``owner`` applied before, leave other owners' alone."""
        metadata = body["metadata"]
        query = urlencode({"fieldManager": owner, "force": "true"})
        path = kind.path(metadata["namespace"], metadata["name"])
        found = await self._call("PATCH", f"{path}?{query}", body, APPLY)
        if found is None:
            raise RejectedError(
                SYSTEM, f"namespace {metadata['namespace']} or kind {kind.kind} ({kind.api_version}) no longer exists"
            )
        return found

    async def patch(self, kind: Collection, namespace: str, name: str, patch: Body) -> Body | None:
        """Merge ``patch`` into an object and return it; None when it does not exist."""
        path = f"{kind.path(namespace, name)}?{urlencode({'fieldManager': meta.FIELD_MANAGER})}"
        return await self._call("PATCH", path, patch, MERGE_PATCH)

    async def delete(self, kind: Collection, found: Body) -> None:
        """Delete exactly this object, by uid, not a later one of the same name; dependents are collected in the background."""
        metadata = found["metadata"]
        options = {"propagationPolicy": "Background", "preconditions": {"uid": metadata["uid"]}}
        await self._call("DELETE", kind.path(metadata["namespace"], metadata["name"]), options)

    async def serves(self, kind: Collection) -> bool:
        """Whether the server knows the kind in this version.

        A yes is remembered for good. A no is remembered for ``UNSERVED`` seconds, since the kind may be installed later.
        """
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
        """The server's preferred version of an API group, which is given by its path; "" when it does not know the group."""
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
            message = f"the admission webhook {webhook[1][:253]} does not answer, and nothing can be written without it"
            raise OutageError(
                SYSTEM, f"{message}; running servers continue. Check whether its server runs. {error}"
            ) from error
        if answer.status in _GONE:
            return None
        if answer.status in _NOT_NOW:
            raise OutageError(SYSTEM, f"{method} {path}: {answer.status} {answer.message}")
        # "cannot" is RBAC's wording for a missing right. A refusal by an admission plugin would not change with more rights.
        if answer.status == 403 and "cannot" in answer.message:
            hint = (
                "Apply the roles of this version (`kubectl apply -k` of your overlay and of the tenant's folder, or `helm "
                "upgrade`), and check that the namespace still belongs to a tenant (`pelagos doctor`)"
            )
            raise UnboundError(SYSTEM, f"{answer.message}. {hint}")
        if answer.status >= 400:
            raise RejectedError(SYSTEM, answer.message)
        return answer.body
