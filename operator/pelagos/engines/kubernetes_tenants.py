"""Tenants of a cluster: reads the ConfigMap ``pelagos-config`` of a namespace by its name, and remembers it for half a minute.

Resources look again every few seconds, so that a change is seen without a watch, and without leave to list ConfigMaps.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pelagos.api import conventions
from pelagos.engines.kubernetes_rest import KubernetesRest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.leadership import monotonic
from pelagos.ports.tenants import Tenant

KEPT = 30.0
"""Seconds for which an answer is good."""


@dataclass(frozen=True)
class _Known:
    until: float
    tenant: Tenant | None
    refusal: str = ""


class KubernetesTenants:
    """Implements Tenants. ``defaults`` are the installation's; a key of the ConfigMap takes the place of one of them.

    A namespace keeps data, objects and experiments apart from those of others, unless its ConfigMap says otherwise.
    """

    def __init__(
        self, api: KubernetesRest, defaults: Tenant, *, kept: float = KEPT, clock: Callable[[], float] = monotonic
    ) -> None:
        self._api = api
        self._defaults = defaults
        self._kept = kept
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def find(self, namespace: str) -> Tenant:
        """See ports.tenants.Tenants. One request at a time for each namespace, however many resources ask."""
        async with self._locks[namespace]:
            known = self._known.get(namespace)
            if known is None or known.until <= self._clock():
                known = self._known[namespace] = await self._read(namespace)
        if known.tenant is None:
            raise RejectedError(conventions.CONFIG_MAP, known.refusal)
        return known.tenant

    async def _read(self, namespace: str) -> _Known:
        until = self._clock() + self._kept
        usual = replace(self._defaults, storage_prefix=namespace, experiment_prefix=f"{namespace}/")
        where = f"ConfigMap {conventions.CONFIG_MAP} of namespace {namespace}"
        answer = await self._api.get(f"/api/v1/namespaces/{namespace}/configmaps/{conventions.CONFIG_MAP}")
        if answer.status == 404:
            return _Known(until, usual)
        if answer.status == 403:
            return _Known(until, None, f"the operator may not read the {where}: {answer.message}")
        if answer.status != 200:
            raise OutageError("kubernetes", f"the {where} cannot be read: {answer.message}")
        problem = _problem(answer.body)
        if problem:
            return _Known(until, None, f"{where}: {problem}")
        return _Known(until, _tenant(answer.body.get("data") or {}, usual))


def _problem(body: Mapping[str, object]) -> str | None:
    binary, data = body.get("binaryData"), body.get("data")
    if isinstance(binary, Mapping) and binary:
        return f"{min(binary)} is in binaryData, which is not read; put text into data"
    return conventions.problem(data) if isinstance(data, Mapping) else None


def _tenant(data: Mapping[str, str], defaults: Tenant) -> Tenant:
    given: dict[str, Any] = {
        _snake(key): value for key, value in data.items() if value or key in conventions.MAY_BE_EMPTY
    }
    if "image_pull_secrets" in given:
        given["image_pull_secrets"] = tuple(re.split(r"[ ,]+", given["image_pull_secrets"]))
    if "max_gpus" in given:
        given["max_gpus"] = int(given["max_gpus"])
    return replace(defaults, **given)


def _snake(key: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key)
