"""Everything that reconcilers may touch, handed over by wiring."""

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
"""Fields of Dependencies that lead outside; wiring wraps each."""


@dataclass(frozen=True)
class Dependencies:
    """The ports, what was last seen of all resources, and the recent synthetic inferences."""

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
    """Where people reach what is served; by default nowhere."""
    hub_key: HubKey = NoHubKey()
    """By which the hub's Trials are known; by default none are."""
