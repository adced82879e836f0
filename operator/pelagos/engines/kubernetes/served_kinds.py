"""Whether the API server serves our kinds, with schemas that this operator can work with. Problems are reported with a hint.

Each kind is judged separately: the operator reconciles those that are served correctly, even if others are not (``Served``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pelagos.api import crds, kinds, meta
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.clock import monotonic

APPLY = "kubectl apply --validate=false -k"
"""Works on every server. Before Kubernetes 1.25 servers do not know CEL rules: they drop them, but kubectl's validation fails.

Such servers refuse --server-side because of the same rules.
"""
HINT = f"{APPLY} manifests/crds"
GOOD_FOR = 600.0
"""Seconds before schemas that fit are checked again."""
_SHOWN = 6
"""How many missing fields a message names."""


class Served:
    """Which of our kinds work, kept up to date by two recurring checks that report problems of the others.

    The checks raise OutageError while the API server does not answer; the last known result stays valid then.
    """

    def __init__(self, api: KubernetesRest, *, clock: Callable[[], float] = monotonic) -> None:
        self._api = api
        self._clock = clock
        self._absent: frozenset[str] | None = None
        self._unfit: frozenset[str] | None = None
        self._good_until = float("-inf")
        self._changed = asyncio.Condition()

    @property
    def working(self) -> frozenset[str]:
        """Kinds that are served as this operator needs them; empty until both checks have run once."""
        if self._absent is None or self._unfit is None:
            return frozenset()
        return frozenset(kind.kind for kind in kinds.KINDS) - self._absent - self._unfit

    async def until_other_than(self, known: frozenset[str]) -> frozenset[str]:
        """Wait until the set of working kinds differs from ``known``; returns the new set."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.working != known)
            return self.working

    async def missing(self) -> str | None:
        """Check which kinds are not served; returns the problem in words, None when all are served."""
        absent, problem = await _look_for(self._api)
        if self._absent is not None and self._absent - absent:
            self._good_until = float("-inf")  # A kind that has appeared may be of another version: check its schema.
        self._absent = absent
        await self._tell()
        return _with_rest(problem, self.working)

    async def outdated(self) -> str | None:
        """Check which schemas lack fields; returns the problem in words. A good result is kept for ten minutes."""
        if self._clock() < self._good_until:
            return None
        unfit = await outdated(self._api)
        self._unfit = frozenset(unfit)
        if not unfit:
            self._good_until = self._clock() + GOOD_FOR
        await self._tell()
        return _with_rest("; ".join(unfit.values()) or None, self.working)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _with_rest(problem: str | None, working: frozenset[str]) -> str | None:
    if problem is None or not working:
        return problem
    return f"{problem}. Kinds that are still reconciled: {', '.join(sorted(working))}"


async def missing(api: KubernetesRest) -> str | None:
    """Which kinds are not served, in words; None when all are. Raises OutageError. Any authenticated user may ask this."""
    return (await _look_for(api))[1]


async def _look_for(api: KubernetesRest) -> tuple[frozenset[str], str | None]:
    everything = frozenset(kind.kind for kind in kinds.KINDS)
    answer = await api.get(f"/apis/{meta.API_VERSION}")
    if answer.status == 404:
        # The group may exist in another version only: then an older or newer Pelagos is installed, rather than none.
        group = await api.get(f"/apis/{meta.GROUP}")
        versions = ", ".join(str(entry.get("version")) for entry in group.body.get("versions", ()))
        if group.status != 200 or not versions:
            return everything, f"the API server knows no kind of {meta.GROUP}. Install them: {HINT}"
        problem = f"the API server serves {meta.GROUP} as {versions} only, and this operator needs {meta.VERSION}"
        return everything, f"{problem}. Install the definitions that belong to it: {HINT}"
    if answer.status != 200:
        return everything, f"the API server refused to say what it serves: {answer.message}"
    served = {resource.get("name") for resource in answer.body.get("resources", ())}
    lacking = [kind for kind in kinds.KINDS if kind.plural not in served]
    if not lacking:
        return frozenset(), None
    named = ", ".join(kind.crd for kind in lacking)
    problem = f"the API server does not serve {named} in version {meta.VERSION}. Install them: {HINT}"
    return frozenset(kind.kind for kind in lacking), problem


async def outdated(api: KubernetesRest) -> dict[str, str]:
    """Per kind, a message naming the fields that the served schema lacks. Kinds that we may not read are left out."""
    found = {}
    collection = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    answers = await asyncio.gather(*(api.get(f"{collection}/{kind.crd}") for kind in kinds.KINDS))
    for kind, answer in zip(kinds.KINDS, answers, strict=True):
        if answer.status != 200:
            continue  # A namespaced Role cannot grant reading CRDs; then it must be enough that the kind is served.
        lacking = lacking_fields(kind, answer.body)
        if lacking:
            named = ", ".join(lacking[:_SHOWN]) + (" and others" if len(lacking) > _SHOWN else "")
            found[kind.kind] = (
                f"{kind.crd} belongs to another version of Pelagos: its schema lacks {named}. Update it: {HINT}"
            )
    return found


def lacking_fields(kind: kinds.Kind, definition: Mapping[str, Any]) -> list[str]:
    """Paths of fields in our schema that the served one lacks; of a missing branch only its outermost field."""
    versions = {version.get("name"): version for version in definition.get("spec", {}).get("versions", ())}
    served = versions.get(meta.VERSION, {}).get("schema", {}).get("openAPIV3Schema", {})
    return list(_lacking(crds.outline(kind), served, ""))


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
