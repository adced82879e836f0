"""Creates the engine behind each port from settings, as engine_registry chooses. Called by wiring.

An engine is only imported when it is chosen, so that an operator pays no start-up time and memory for others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import util
from pathlib import Path
from typing import Protocol, runtime_checkable

from pelagos import engine_registry
from pelagos.engines.descriptors import EngineContext, Tracker
from pelagos.engines.folders.hub_key import HubKeyFile
from pelagos.engines.folders.keys import FolderKeys
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.observability.readiness import Check
from pelagos.ports.authority import Authority
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.hub import HubKey, NoHubKey
from pelagos.ports.leadership import Guard, unguarded
from pelagos.ports.objects import Objects
from pelagos.ports.pipelines import Pipelines
from pelagos.ports.registry import Registry
from pelagos.ports.serving import Serving
from pelagos.ports.tenants import OneTenant, Tenant, Tenants
from pelagos.ports.tracking import Tracking
from pelagos.ports.volumes import Volumes
from pelagos.settings import Settings

Close = Callable[[], Awaitable[None]]
KEY_ON_MACHINE = "Restore it from your backup; or start with a new one by `pelagos down` and `pelagos up`"
KEY_ON_CLUSTER = (
    "Restore the Secret pelagos-authority in the operator's namespace from your backup; or create a new one there: "
    "head -c 32 /dev/urandom | kubectl create secret generic pelagos-authority --from-file=current=/dev/stdin"
)
NOBODY = "00000000-0000-0000-0000-000000000000"
"""A uid that no resource has: a query for it shows that a system responds, and that the operator has access."""


@dataclass(frozen=True)
class Engines:
    """The engines behind the ports. ``checks`` report whether systems outside this machine respond."""

    pipelines: Pipelines
    serving: Serving
    objects: Objects
    volumes: Volumes
    tracking: Tracking
    registry: Registry
    tenants: Tenants
    authority: Authority
    closing: tuple[Close, ...]
    checks: Mapping[str, Check] = field(default_factory=dict)


def choose(
    settings: Settings, api: KubernetesRest, namespace_of: Callable[[str], str | None], guard: Guard = unguarded
) -> Engines:
    """The engines that ``settings`` name; ``namespace_of`` returns a resource's namespace by its uid, None when unknown.

    ``guard`` is for all clients that are created here; ``api`` has its own.

    Raises ValueError for settings that contradict each other, with the setting to change.
    """
    check(settings)
    authority, chosen = keeper(settings), engine_registry.chosen(settings)
    objects: Objects = chosen.objects.make(settings)
    context = EngineContext(settings, api, authority, objects, namespace_of, guard, compiled_flows())
    pipelines, serving = chosen.pipelines.make(context), chosen.serving.make(context)
    tracker: Tracker = chosen.tracking.make(context)
    engines = Engines(
        pipelines=pipelines,
        serving=serving,
        objects=objects,
        volumes=chosen.volumes.make(settings),
        tracking=tracker.tracking,
        registry=tracker.registry,
        tenants=_tenants(settings, api),
        authority=authority,
        closing=(pipelines.close, serving.close, tracker.close),
    )
    return replace(engines, checks=questions(engines)) if engine_registry.is_on_cluster(settings) else engines


def keeper(settings: Settings) -> Authority:
    """The Authority, which computes and verifies seals with the keys of this installation."""
    hint = KEY_ON_CLUSTER if engine_registry.is_on_cluster(settings) else KEY_ON_MACHINE
    return Authority(FolderKeys(settings.authority, hint))


def hub_key(settings: Settings) -> HubKey:
    """The key of the hub's signatures, if there is a hub."""
    return HubKeyFile(settings.hub_signing_key_file) if settings.hub_signing_key_file is not None else NoHubKey()


def compiled_flows() -> Path:
    """Folder of the compiled pipelines. Found without importing the data plane."""
    spec = util.find_spec("pelagos_pipelines")
    if spec is None or spec.submodule_search_locations is None:
        raise FileNotFoundError("the package pelagos_pipelines, which holds the compiled pipelines, is not installed")
    return Path(next(iter(spec.submodule_search_locations))) / "compiled"


def check(settings: Settings) -> None:
    """Raises ValueError for settings that contradict each other, with the setting to change."""
    found = engine_registry.contradiction(settings)
    if found:
        raise ValueError(found)


def _tenants(settings: Settings, api: KubernetesRest) -> Tenants:
    if not engine_registry.is_on_cluster(settings):
        return OneTenant()
    from pelagos.engines.kubernetes.tenants import KubernetesTenants, Place

    usual = Tenant(
        tracking_secret=settings.tracking_secret,
        objects_secret=settings.objects_secret,
        data_claim=settings.data_claim,
        objects_claim=settings.objects_claim,
        ca_config_map=settings.ca_config_map,
        source_hosts=settings.source_hosts,
    )
    return KubernetesTenants(api, usual, Place(settings.lease_namespace, settings.namespace or ""))


def questions(engines: Engines) -> dict[str, Check]:
    """By port, a check that the system behind it responds and grants access."""
    pipelines, serving = engines.pipelines, engines.serving

    async def has_key() -> None:
        engines.authority.require()

    return {
        "authority": _answering(has_key),
        # A Kubeflow server looks up runs in a namespace, which NOBODY does not have.
        "pipelines": _answering(
            pipelines.answers if isinstance(pipelines, _Asked) else lambda: pipelines.find_owned(NOBODY)
        ),
        "serving": _answering(serving.answers if isinstance(serving, _Asked) else lambda: serving.observe(NOBODY)),
        "objects": _answering(lambda: engines.objects.exists(NOBODY)),
        "volumes": _answering(lambda: engines.volumes.fingerprint(NOBODY)),
        "tracking": _answering(lambda: engines.registry.find_by_version(NOBODY, "1")),
    }


@runtime_checkable
class _Asked(Protocol):
    async def answers(self) -> None: ...


def _answering(ask: Callable[[], Awaitable[object]]) -> Check:
    async def check() -> str | None:
        try:
            await ask()
        except (OutageError, RejectedError) as error:
            return str(error)
        return None

    return check
