"""A cluster's tenants: reads the ConfigMaps ``pelagos-tenant-<namespace>`` in the operator's namespace, cached for 30 seconds.

Every pass asks again, so a change is noticed without a watch. All ConfigMaps are read together, because whether a storage prefix
belongs to a namespace depends on the claims of the others. Where existing resources were begun is read when a ConfigMap changed,
and otherwise every ten minutes.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from pydantic.alias_generators import to_snake

from pelagos.api import kinds, meta, reasons, tenancy, tenant_settings
from pelagos.api.tenancy import Begun
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.clock import monotonic
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tenants import SYSTEM, Tenant

KEPT = 30.0
"""Seconds for which an answer is cached."""
KEPT_BEGUN = 600.0
"""Seconds after which it is read again where resources were begun, when no ConfigMap has changed."""
PAGE = 500


@dataclass(frozen=True)
class Place:
    """Where the operator runs: its ``home`` namespace, and the only namespace it ``watches``; empty means all."""

    home: str
    watches: str = ""


@dataclass(frozen=True)
class _Platform:
    """All tenants' ConfigMaps as last read: their data and problems by namespace, and where resources were begun."""

    until: float
    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)
    begun: frozenset[Begun] = frozenset()
    looked: float = 0.0


@dataclass(frozen=True)
class _Refusal:
    message: str
    reason: reasons.Reason = reasons.TENANT_REFUSED


class KubernetesTenants:
    """Implements Tenants. ``defaults`` are the installation's; each key of a tenant's ConfigMap overrides one of them.

    A namespace's data, objects and experiments are separate from those of others, unless the platform lists both as sharing.
    """

    def __init__(
        self,
        api: KubernetesRest,
        defaults: Tenant,
        place: Place,
        *,
        kept: float = KEPT,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._api = api
        self._defaults = defaults
        self._place = place
        self._kept = kept
        self._clock = clock
        self._platform: _Platform | None = None
        self._admitted: dict[str, tuple[float, _Refusal | None]] = {}
        self._lock = asyncio.Lock()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find(self, namespace: str) -> Tenant:
        """The tenant settings of a namespace; see ports.tenants.Tenants. Concurrent callers share one request per namespace."""
        # Admission is checked per namespace under its own lock, claims for all namespaces under a common one: a namespace that
        # cannot be read must not keep the others waiting.
        async with self._locks[namespace]:
            until, refusal = self._admitted.get(namespace, (0.0, None))
            if until <= self._clock():
                until, refusal = self._admitted[namespace] = await self._admit(namespace)
        if refusal is not None:
            raise RejectedError(SYSTEM, refusal.message, reason=refusal.reason)
        async with self._lock:
            if self._platform is None or self._platform.until <= self._clock():
                self._platform = await self._read(self._platform)
            platform = self._platform
        own = platform.given.get(namespace)
        where = f"ConfigMap {tenant_settings.name_of(namespace)} of namespace {self._place.home}"
        problem = platform.wrong.get(namespace) or tenancy.conflict(namespace, platform.given, platform.begun)
        if problem:
            lead = (
                where
                if own is not None or namespace in platform.wrong
                else f"namespace {namespace} (it has no {where})"
            )
            raise RejectedError(SYSTEM, f"{lead}: {problem}", reason=reasons.TENANT_REFUSED)
        return _tenant(own or {}, namespace, self._defaults)

    async def _admit(self, namespace: str) -> tuple[float, _Refusal | None]:
        """Until when the answer holds, and why the namespace is not admitted; None when it is.

        Refused are namespaces where the operator lacks its rights, and those that still have the retired ConfigMap.
        """
        until = self._clock() + self._kept
        if re.match(tenant_settings.SYSTEM_NAMESPACES, namespace):
            message = f"the namespace {namespace} is the cluster's own, and never a tenant; use another one"
            return until, _Refusal(message)
        answer = await self._api.get(f"/api/v1/namespaces/{namespace}/configmaps/{tenant_settings.RETIRED}")
        if answer.status == 404:
            return until, None
        if answer.status == 403:
            # The operator's rights are bound in each tenant's namespace, so a refusal means that this one is not a tenant's.
            message = f"the operator has no rights in the namespace {namespace} ({answer.message}). " + (
                "Apply the manifests of this version again"
                if self._place.watches
                else f"The platform's administrator makes it a tenant: {admitting(namespace, self._place.home)}"
            )
            return until, _Refusal(message, reasons.NAMESPACE_NOT_ADMITTED)
        if answer.status != 200:
            raise OutageError(SYSTEM, f"the namespace {namespace} cannot be read: {answer.message}")
        message = (
            f"the ConfigMap {tenant_settings.RETIRED} of namespace {namespace} is no longer read, because its users could write "
            f"to it. Its content belongs in the ConfigMap {tenant_settings.name_of(namespace)} of {self._place.home}, with the "
            "same keys, written by the platform's administrator; then delete it: kubectl delete configmap "
            f"{tenant_settings.RETIRED} --namespace {namespace}"
        )
        return until, _Refusal(message)

    async def _read(self, before: _Platform | None) -> _Platform:
        now = self._clock()
        given: dict[str, Mapping[str, str]] = {}
        wrong: dict[str, str] = {}
        where = f"the ConfigMaps of namespace {self._place.home}, where those of tenants are,"
        answer = await self._api.get(f"/api/v1/namespaces/{self._place.home}/configmaps")
        if answer.status == 403:
            message = f"the operator may not list {where}: {answer.message}. Apply the manifests of this version again"
            raise RejectedError(SYSTEM, message, reason=reasons.TENANT_REFUSED)
        if answer.status != 200:
            raise OutageError(SYSTEM, f"{where} cannot be read: {answer.message}")
        for body in answer.body.get("items") or ():
            name = str(body["metadata"]["name"])
            if name.startswith(tenant_settings.PREFIX):
                namespace = name.removeprefix(tenant_settings.PREFIX)
                data, binary = body.get("data") or {}, body.get("binaryData")
                # An invalid value claims nothing and stalls only its own namespace: a typo in one tenant's ConfigMap must not
                # take anything away from another tenant.
                given[namespace] = {
                    key: value
                    for key, value in data.items()
                    if any(each.key == key and each.accepts(str(value)) for each in tenant_settings.TENANT_SETTINGS)
                }
                if binary:
                    wrong[namespace] = f"{min(binary)} is in binaryData, which is not read; put text into data"
                elif problem := tenant_settings.problem(data):
                    wrong[namespace] = problem
        # Listing all resources is expensive on a large cluster: do it when a claim changed, else every KEPT_BEGUN seconds.
        if before is not None and before.given == given and now - before.looked < KEPT_BEGUN:
            return _Platform(now + self._kept, given, wrong, before.begun, before.looked)
        return _Platform(now + self._kept, given, wrong, await self._look(), now)

    async def _look(self) -> frozenset[Begun]:
        """The storage prefixes that resources of all namespaces have in their status."""
        found: set[Begun] = set()
        scope = f"namespaces/{self._place.watches}/" if self._place.watches else ""
        for kind in (kind for kind in kinds.KINDS if "storage_prefix" in kind.status.model_fields):
            rest: str | None = ""
            while rest is not None:
                query = urlencode({"limit": str(PAGE)} | ({"continue": rest} if rest else {}))
                answer = await self._api.get(f"/apis/{meta.API_VERSION}/{scope}{kind.plural}?{query}")
                if answer.status != 200:
                    raise OutageError(SYSTEM, f"{kind.plural} cannot be listed: {answer.message}")
                for body in answer.body.get("items") or ():
                    prefix = (body.get("status") or {}).get("storagePrefix")
                    if isinstance(prefix, str):
                        found.add(Begun(str(body["metadata"]["namespace"]), prefix))
                rest = (answer.body.get("metadata") or {}).get("continue") or None
        return frozenset(found)


def admitting(namespace: str, home: str) -> str:
    """The command that grants the operator its rights in a namespace, for messages."""
    return (
        f"kubectl create rolebinding pelagos-operator --namespace {namespace} --clusterrole pelagos-operator-tenant "
        f"--serviceaccount {home}:pelagos-operator (or manifests/tenant/base, or tenants in the values of the chart)"
    )


def _tenant(data: Mapping[str, str], namespace: str, defaults: Tenant) -> Tenant:
    given: dict[str, Any] = {
        to_snake(key): tenant_settings.read(key, value)
        for key, value in (tenancy.usual(namespace) | dict(data)).items()
        if value or key in tenant_settings.MAY_BE_EMPTY
    }
    return replace(defaults, **given)
