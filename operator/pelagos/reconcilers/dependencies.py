"""Everything that reconcilers may touch. Wiring creates it and passes it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pelagos.ports.authority import Authority
from pelagos.ports.clock import Clock
from pelagos.ports.cluster import Cluster
from pelagos.ports.gateway import Gateway
from pelagos.ports.hub import HubKey, NoHubKey
from pelagos.ports.objects import Objects
from pelagos.ports.pipelines import Pipelines
from pelagos.ports.registry import Registry
from pelagos.ports.serving import Serving
from pelagos.ports.tenants import Tenants
from pelagos.ports.tracking import Tracking
from pelagos.ports.volumes import Volumes
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.probes import Probes

PORTS: Mapping[str, type] = {
    "cluster": Cluster,
    "pipelines": Pipelines,
    "tracking": Tracking,
    "registry": Registry,
    "serving": Serving,
    "objects": Objects,
    "volumes": Volumes,
    "tenants": Tenants,
}
"""Fields of Dependencies that lead to outside systems; wiring wraps each of them."""


@dataclass(frozen=True)
class Dependencies:
    """The ports, the cache of all resources, and the results of the most recent probes."""

    cluster: Cluster
    pipelines: Pipelines
    tracking: Tracking
    registry: Registry
    serving: Serving
    objects: Objects
    volumes: Volumes
    tenants: Tenants
    authority: Authority
    clock: Clock
    cache: Cache
    probes: Probes
    gateway: Gateway = Gateway()
    """Where people reach model servers; by default nowhere."""
    hub_key: HubKey = NoHubKey()
    """The key that proves that the hub made a Trial; by default there is none, and no Trial counts as the hub's."""
