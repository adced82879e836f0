"""Whether the API server serves our kinds, and in a schema that this operator can work with. In words, with what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pelagos.api import crds, kinds, meta
from pelagos.engines.kubernetes_rest import KubernetesRest
from pelagos.ports.leadership import monotonic

REMEDY = "kubectl apply --server-side -k manifests/crds"
GOOD_FOR = 600.0
"""Seconds between two looks at schemas that fit."""
_SHOWN = 6
"""Missing fields that are named."""


async def missing(api: KubernetesRest) -> str | None:
    """Kinds that are not served; None when all are. Raises OutageError. Everybody who is known to the server may ask this."""
    answer = await api.get(f"/apis/{meta.API_VERSION}")
    if answer.status == 404:
        return await _absent_group(api)
    if answer.status != 200:
        return f"the API server refused to tell what it serves: {answer.message}"
    served = {resource.get("name") for resource in answer.body.get("resources", ())}
    lacking = [kind.crd for kind in kinds.KINDS if kind.plural not in served]
    if not lacking:
        return None
    return f"the API server does not serve {', '.join(lacking)} in version {meta.VERSION}. Install them: {REMEDY}"


async def _absent_group(api: KubernetesRest) -> str:
    group = await api.get(f"/apis/{meta.GROUP}")
    versions = ", ".join(str(entry.get("version")) for entry in group.body.get("versions", ()))
    if group.status == 200 and versions:
        return (
            f"the API server serves {meta.GROUP} as {versions} only, and this operator needs {meta.VERSION}. "
            f"Install the definitions that belong to it: {REMEDY}"
        )
    return f"the API server knows no kind of {meta.GROUP}. Install them: {REMEDY}"


async def outdated(api: KubernetesRest) -> str | None:
    """Fields that this operator needs and a served schema lacks; None when there are none, or when that may not be asked."""
    for kind in kinds.KINDS:
        answer = await api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{kind.crd}")
        if answer.status != 200:
            continue  # A Role of one namespace cannot allow it; the kind is served, and that must do.
        lacking = lacking_fields(kind, answer.body)
        if lacking:
            named = ", ".join(lacking[:_SHOWN]) + (" and others" if len(lacking) > _SHOWN else "")
            return f"{kind.crd} is of another version of Pelagos: its schema lacks {named}. Update it: {REMEDY}"
    return None


class Schemas:
    """Asks whether the served schemas fit, and seldom again once they do: definitions are large, and seldom change."""

    def __init__(self, api: KubernetesRest, *, clock: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._clock = clock
        self._good_until = float("-inf")

    async def outdated(self) -> str | None:
        """See ``outdated``; the answer that all is well is good for ten minutes."""
        if self._clock() < self._good_until:
            return None
        problem = await outdated(self._api)
        if problem is None:
            self._good_until = self._clock() + GOOD_FOR
        return problem


def lacking_fields(kind: kinds.Kind, definition: Mapping[str, Any]) -> list[str]:
    """Fields of our schema that the served one does not have, the outermost of each branch."""
    versions = {version.get("name"): version for version in definition.get("spec", {}).get("versions", ())}
    served = versions.get(meta.VERSION, {}).get("schema", {}).get("openAPIV3Schema", {})
    ours = crds.render(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return list(_lacking(ours, served, ""))


def _lacking(ours: Mapping[str, Any], served: Mapping[str, Any], path: str) -> Iterator[str]:
    there = served.get("properties", {})
    for name, child in ours.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        if name not in there:
            yield below
        else:
            yield from _lacking(child, there[name], below)
    for name in ("items", "additionalProperties"):
        if isinstance(ours.get(name), dict) and isinstance(served.get(name), dict):
            yield from _lacking(ours[name], served[name], f"{path}[]")
