"""The real operator, with kopf, a Lease and the tenant settings, over the shipped fakes; for all namespaces or one."""

from __future__ import annotations

import functools
from datetime import timedelta

import pelagos.__main__  # noqa: F401  keeps kopf from importing the official client, here as well
from pelagos import wiring
from pelagos.engines.kubeflow.step_secrets import StepSecrets
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.tenants import KubernetesTenants, Place
from pelagos.handlers import resources
from pelagos.observability import logs
from pelagos.ports.authority import Authority
from pelagos.ports.clock import SystemClock
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.gateway import Gateway
from pelagos.ports.pipelines import PipelineRun, RunRequest
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.probes import Probes
from pelagos.settings import Settings


class Keyed(PipelinesFake):
    """Gives steps their key, as the engine for Kubeflow does before it submits a run."""

    def __init__(self, secrets: StepSecrets) -> None:
        super().__init__()
        self._secrets = secrets

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Create the Secret, then the run."""
        await self._secrets.provide(request.namespace, request.namespace)
        return await super().submit(request)


async def start(settings: Settings, credentials: wiring.Credentials) -> wiring.Operator:
    """Does what wiring.start does, with fakes for everything but Kubernetes."""
    api = wiring.rest_client(credentials)
    serving, clock, volumes = ServingFake(), SystemClock(), VolumesFake()
    authority = Authority(KeysFake())
    for namespace in ("default", settings.lease_namespace):
        volumes.put(f"{namespace}/plankton/1.png", "pixels")
    world = Dependencies(
        cluster=KubernetesApi(api),
        pipelines=Keyed(StepSecrets(api, authority)),
        tracking=TrackingFake(),
        registry=RegistryFake(),
        serving=serving,
        objects=ObjectsFake(),
        volumes=volumes,
        tenants=KubernetesTenants(api, Tenant(), Place(settings.lease_namespace, settings.namespace or "")),
        authority=authority,
        clock=clock,
        cache=Cache(),
        probes=Probes(serving, clock, timedelta(seconds=settings.probe_interval)),
        gateway=Gateway(settings.gateway_http, settings.gateway_grpc),
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
