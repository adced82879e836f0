"""Checks, before a run is created, that its namespace has what its pods need. Called by the engine and by `pelagos doctor`.

Kubeflow's own programs in a step's pod find out too late: with a wrong artifact store a step fails after its work, on every
attempt. Only a certain error stops a run; anything that cannot be read, or does not answer, passes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml

from pelagos.api import reasons
from pelagos.engines.kubeflow import placement
from pelagos.engines.kubeflow.placement import Struct
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.kubernetes.quantities import quantity
from pelagos.ports.clock import monotonic
from pelagos.ports.errors import OutageError, RejectedError
from pelagos_contract.text import shown

logger = logging.getLogger(__name__)

LAUNCHER = "kfp-launcher"
"""The ConfigMap that tells Kubeflow's launcher where artifacts go, and with which credentials."""
ROOT = "minio://mlpipeline/v2/artifacts"
"""The pipeline root without that ConfigMap."""
DEFAULT_ENDPOINT = "minio-service.kubeflow:9000"
DEFAULT_SECRET = ("mlpipeline-minio-artifact", ("accesskey", "secretkey"))
CONFIG_MAPS = Collection("v1", "ConfigMap", "configmaps")
ACCOUNTS = Collection("v1", "ServiceAccount", "serviceaccounts")
QUOTAS = Collection("v1", "ResourceQuota", "resourcequotas")
KUEUE = "/apis/kueue.x-k8s.io"
PRIORITY_CLASSES = Collection("kueue.x-k8s.io/v1beta2", "WorkloadPriorityClass", "workloadpriorityclasses")
MOST_PRIORITIES = 500
"""How many priority classes are read; if there are more, a name that is not among them is not reported as missing."""
HELPERS: Mapping[str, Decimal] = {"cpu": Decimal("0.1"), "memory": Decimal(256 * 1024**2)}
"""Requests of Argo's executor and Kubeflow's launcher in each step's pod, on top of the step's own: 100m and 256Mi."""
GOOD_FOR, BAD_FOR = 60.0, 10.0
"""Seconds for which a result is cached, when all was well and when it was not."""
LARGEST = 16 * 1024
"""Longest ``providers``, in characters, that is parsed: its author in one namespace must not hold up everybody else's runs."""
MOST_QUOTAS = 100
"""How many quotas of a namespace are read, so that a user who creates many cannot make each check slow."""
_MOST = 2000
_NAMED = 10
_KEYS = {"gs": ("secretName", "tokenKey")}
_USUAL_KEYS = ("secretName", "accessKeyKey", "secretKeyKey")
_LIMITED = {"cpu": ("requests.cpu", "cpu"), "memory": ("requests.memory", "memory")}


@dataclass(frozen=True)
class Store:
    """The artifact store of a namespace.

    ``secret`` is "" when credentials come from the environment, ``endpoint`` is "" when it is the provider's own.
    """

    scheme: str
    endpoint: str
    secret: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """The largest requests of any step of a run, by resource name as in quotas; account, queue and priority, "" for none."""

    resources: tuple[tuple[str, Decimal], ...]
    account: str = ""
    queue: str = ""
    priority: str = ""


def needs(placed: Struct, account: str) -> Needs:
    """The needs of a run, from the ``pipeline_spec`` that is sent to the server."""
    largest: dict[str, Decimal] = {}
    for executor in placed["pipeline_spec"]["deploymentSpec"]["executors"].values():
        given = executor.get("container", {}).get("resources", {})
        accelerator = given.get("accelerator") or {}
        asked = {"cpu": given.get("resourceCpuRequest"), "memory": given.get("resourceMemoryRequest")}
        asked[str(accelerator.get("resourceType", ""))] = accelerator.get("resourceCount")
        for name, text in asked.items():
            number = quantity(text)
            if number is not None:
                largest[name] = max(number, largest.get(name, number))
    queue, priority = placement.read_queue(placed), placement.read_priority(placed)
    return Needs(tuple(sorted(largest.items())), account, queue, priority)


def store(config_map: Body | None) -> Store:
    """The artifact store as the launcher reads it from the ConfigMap. Raises ValueError, naming the field, if it is unusable."""
    data = (config_map or {}).get("data") or {}
    scheme = str(data.get("defaultPipelineRoot") or ROOT).partition("://")[0]
    told = str(data.get("providers") or "{}")
    if len(told) > LARGEST:
        raise ValueError(f"providers has {len(told)} characters; no more than {LARGEST} are read")
    try:
        providers = yaml.safe_load(told)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"providers is not YAML: {' '.join(str(error).split())[:200]}") from error
    provider = _mapping(providers, "providers").get(scheme)
    if provider is None:
        is_usual = scheme == "minio"
        return Store(scheme, DEFAULT_ENDPOINT if is_usual else "", *(DEFAULT_SECRET if is_usual else ("", ())))
    default = _mapping(provider, f"providers.{scheme}").get("default")
    if default is None and provider.get("overrides"):
        return Store(scheme, "", "", ())  # which override matches the bucket is up to the launcher
    default = _mapping(default, f"providers.{scheme}.default")
    credentials = _mapping(default.get("credentials"), f"providers.{scheme}.default.credentials")
    endpoint = _text(default.get("endpoint"), f"providers.{scheme}.default.endpoint")
    endpoint = endpoint or (DEFAULT_ENDPOINT if scheme == "minio" else "")
    if credentials.get("fromEnv") is True:
        return Store(scheme, endpoint, "", ())
    field = f"providers.{scheme}.default.credentials.secretRef"
    reference, wanted = _mapping(credentials.get("secretRef"), field), _KEYS.get(scheme, _USUAL_KEYS)
    lacking = [key for key in wanted if not reference.get(key)]
    if lacking:
        raise ValueError(f"{field} lacks {', '.join(lacking)}")
    secret, *keys = (_text(reference[key], f"{field}.{key}") for key in wanted)
    return Store(scheme, endpoint, secret, tuple(keys))


def absent_priority(priority: str, names: Iterable[str]) -> str:
    """A message that no WorkloadPriorityClass has this name, listing up to ten that exist."""
    known = sorted(names)
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return (
        f"there is no WorkloadPriorityClass {priority} in the cluster; there are: "
        f"{', '.join(shown(name)[:253] for name in known[:_NAMED]) or 'none'}{more}"
    )


def too_small(quota: Body, wanted: Needs) -> str | None:
    """Why a step cannot fit into a quota even when nothing uses it; None when it can."""
    spec = quota.get("spec") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        return None  # which pods a scoped quota covers is up to the cluster
    name, hard = str(quota["metadata"]["name"]), spec.get("hard") or {}
    for resource, number in wanted.resources:
        whole = number + HELPERS.get(resource, Decimal(0))
        for key in _LIMITED.get(resource, (f"requests.{resource}",)):
            allowed = quantity(hard.get(key))
            if allowed is not None and allowed < whole:
                return (
                    f"the ResourceQuota {name} allows {key}: {hard[key]} in all, and one step asks for "
                    f"{_amount(resource, number)}"
                    + (
                        f" and its helper containers for {_amount(resource, HELPERS[resource])} more"
                        if resource in HELPERS
                        else ""
                    )
                    + ". Raise the quota, or have the step ask for less (spec.resources)"
                )
    return None


class Preflight:
    """Checks namespaces through ``objects``; a good result is kept for GOOD_FOR seconds, a bad one for BAD_FOR."""

    def __init__(self, objects: KubernetesObjects, *, clock: Callable[[], float] = monotonic) -> None:
        self._objects = objects
        self._clock = clock
        self._known: dict[tuple[str, Needs], tuple[float, str, reasons.Reason]] = {}

    async def require(self, namespace: str, wanted: Needs) -> None:
        """Raise RejectedError when a step of the run would certainly fail or wait forever.

        The reason is NamespaceNotReady, or PriorityNotUsable if the priority is the only problem.
        """
        until, problem, reason = self._known.get((namespace, wanted), (0.0, "", reasons.NAMESPACE_NOT_READY))
        if until <= self._clock():
            problem, reason = await self._look(namespace, wanted)
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[namespace, wanted] = (self._clock() + (BAD_FOR if problem else GOOD_FOR), problem, reason)
        if problem:
            message = f"no run is created in the namespace {namespace}, because its steps would fail: {shown(problem)}"
            if reason == reasons.PRIORITY_NOT_USABLE:
                message = f"no run is created, because its steps would wait forever: {shown(problem)}"
            raise RejectedError("pipelines", message, reason=reason)

    async def _look(self, namespace: str, wanted: Needs) -> tuple[str, reasons.Reason]:
        checks = (self._launcher, self._account, self._quotas, self._queue)
        found = [problem async for problem in self._problems(checks, namespace, wanted)]
        if found:
            return "; ".join(found), reasons.NAMESPACE_NOT_READY
        found = [problem async for problem in self._problems((self._priority,), namespace, wanted)]
        return "; ".join(found), reasons.PRIORITY_NOT_USABLE

    async def _problems(
        self, checks: Iterable[Callable[[str, Needs], Awaitable[Iterable[str]]]], namespace: str, wanted: Needs
    ) -> AsyncIterator[str]:
        for check in checks:
            try:
                for problem in await check(namespace, wanted):
                    yield problem
            except (OutageError, RejectedError) as error:
                logger.info("The namespace %s cannot be checked before a run: %s", namespace, error)

    async def _launcher(self, namespace: str, _wanted: Needs) -> Iterable[str]:
        found = await self._objects.get(CONFIG_MAPS, namespace, LAUNCHER)
        try:
            store(found)
        except ValueError as error:
            return [f"the ConfigMap {LAUNCHER}, by which they find the artifact store, cannot be used: {error}"]
        return []

    async def _account(self, namespace: str, wanted: Needs) -> Iterable[str]:
        if not wanted.account or await self._objects.get(ACCOUNTS, namespace, wanted.account) is not None:
            return []
        return [f"the ServiceAccount {wanted.account} does not exist (pipelineServiceAccount of the tenant)"]

    async def _quotas(self, namespace: str, wanted: Needs) -> Iterator[str]:
        quotas = await self._objects.list(QUOTAS, namespace, most=MOST_QUOTAS)
        return filter(None, (too_small(quota, wanted) for quota in quotas))

    async def _queue(self, namespace: str, wanted: Needs) -> Iterable[str]:
        if not wanted.queue:
            return []
        # Without Kueue the queue label has no effect, and pods start at once.
        version = await self._objects.preferred_version(KUEUE)
        queues = Collection(f"kueue.x-k8s.io/{version}", "LocalQueue", "localqueues")
        if not version or await self._objects.get(queues, namespace, wanted.queue) is not None:
            return []
        return [f"the LocalQueue {wanted.queue} does not exist, so Kueue would never admit a pod"]

    async def _priority(self, _namespace: str, wanted: Needs) -> Iterable[str]:
        if not wanted.priority:
            return []
        version = await self._objects.preferred_version(KUEUE)
        if not version:
            whose = f"spec.priority, or priority of the tenant, is {wanted.priority}"
            return [f"{whose}, but the cluster has no Kueue to apply it. Name none, or have Kueue installed"]
        classes = Collection(f"kueue.x-k8s.io/{version}", PRIORITY_CLASSES.kind, PRIORITY_CLASSES.plural)
        names = [str(each["metadata"]["name"]) for each in await self._objects.list(classes, most=MOST_PRIORITIES)]
        if wanted.priority in names or len(names) >= MOST_PRIORITIES:
            return []
        return [f"{absent_priority(wanted.priority, names)}. Name one of these in spec.priority, or have it created"]


def _mapping(found: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise ValueError(f"{field} is {'missing' if found is None else 'no mapping'}")
    return found


def _text(found: Any, field: str) -> str:
    """The text, "" for None. Other values are refused unformatted: nested YAML aliases are short, but huge when written out."""
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{field} is no text")
    return found or ""


def _amount(resource: str, number: Decimal) -> str:
    if resource == "memory":
        return f"{number / 1024**2:.0f}Mi"
    return f"{number.normalize():f}" if number == number.to_integral() else f"{number * 1000:.0f}m"
