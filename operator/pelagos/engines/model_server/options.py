"""The installation's options for all model servers on a cluster. Read by the engines that serve there, and `pelagos doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelagos.ports.peers import DNS, NOBODY, Peers
from pelagos.ports.pods import NO_SERVER_PODS, ServerPods

if TYPE_CHECKING:
    from pelagos.settings import Settings

SYSTEM = "serving"


@dataclass(frozen=True)
class Options:
    """Options that all model servers of an installation share; ``objects_root`` is the uri of the object store's root.

    ``reach`` says how the operator itself connects to servers: "service" through the Service's address, else directly to a pod.
    """

    image: str
    objects_root: str
    pull_policy: str = "IfNotPresent"
    objects_claim: str = ""
    objects_secret: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""
    ca_config_map: str = ""
    namespace: str = ""
    reach: str = "service"
    operator_namespace: str = ""
    """The operator's namespace; empty when it does not run in this cluster."""
    monitoring_namespace: str = ""
    """The namespace of Prometheus; empty means the operator's."""
    ceilings: tuple[tuple[str, str], ...] = ()
    """Environment variables with the limits for images in requests."""
    gateway_millicores: int = 50
    """CPU request of the gateway next to each server, in thousandths of a core."""
    clients: tuple[Mapping[str, Any], ...] = ({"podSelector": {}},)
    """Who may send requests, as NetworkPolicy peers."""
    user: str = "10001"
    """User and group id of the pods; empty: the cluster chooses."""
    pods: ServerPods = NO_SERVER_PODS
    dns_peers: Peers = DNS
    storage_peers: Peers = NOBODY

    @classmethod
    def from_settings(cls, settings: Settings, objects_root: str) -> Options:
        """The options in ``settings``."""
        return cls(
            image=settings.serving_image,
            user=settings.pod_user,
            pods=settings.server_pods,
            objects_root=objects_root,
            operator_namespace=settings.lease_namespace,
            monitoring_namespace=settings.monitoring_namespace,
            clients=tuple(settings.model_clients),
            dns_peers=settings.dns_peers,
            storage_peers=settings.storage_peers,
            pull_policy=settings.image_pull_policy,
            gateway_millicores=settings.gateway_millicores,
            objects_claim=settings.objects_claim,
            objects_secret=settings.objects_secret,
            s3_endpoint=settings.s3_endpoint,
            s3_region=settings.s3_region,
            ca_config_map=settings.ca_config_map,
            namespace=settings.namespace or "",
            ceilings=tuple(item for item in settings.ceilings().items() if item[0].startswith("PELAGOS_MAX_IMAGE_")),
        )
