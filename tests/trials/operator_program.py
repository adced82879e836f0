"""The real operator, with kopf, over a real API server; only the serving of models is in memory. See test_real_ones.py."""

from __future__ import annotations

import functools
from datetime import timedelta

import pelagos.__main__  # noqa: F401  keeps kopf from importing the official client, here as well
from pelagos import wiring
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.handlers import resources
from pelagos.observability import logs
from pelagos.ports.authority import Authority
from pelagos.ports.clock import SystemClock
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.tenants import TenantsFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.gateway import Gateway
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.probes import Probes
from pelagos.settings import Settings
from trials.memory import AT_ONCE, PACKAGE


async def start(settings: Settings, credentials: wiring.Credentials) -> wiring.Operator:
    """Does what wiring.start does, with a world in memory that has one package."""
    api, serving, clock = wiring.rest_client(credentials), ServingFake(), SystemClock()
    objects, tenants = ObjectsFake(), TenantsFake()
    assert settings.namespace is not None
    objects.put(f"models/{settings.namespace}/plankton/package.json", PACKAGE)
    tenants.known[settings.namespace] = Tenant(trials_at_once=AT_ONCE, trials_keep="5m")
    world = Dependencies(
        cluster=KubernetesApi(api, collects=False),
        pipelines=PipelinesFake(),
        tracking=TrackingFake(),
        registry=RegistryFake(),
        serving=serving,
        objects=objects,
        volumes=VolumesFake(),
        tenants=tenants,
        authority=Authority(KeysFake()),
        clock=clock,
        cache=Cache(),
        probes=Probes(serving, clock, timedelta(seconds=settings.probe_interval)),
        gateway=Gateway("https://models.example.org", "models.example.org:8443"),
    )
    closing = (api.close,)
    return await wiring.operate(settings, world, closing=closing, oversight=wiring.oversee(settings, api, {}))


def main() -> None:
    """Run until SIGTERM."""
    import kopf

    settings = Settings()
    logs.configure()
    kopf.run(**resources.prepared(settings, functools.partial(start, settings)))


if __name__ == "__main__":
    main()
