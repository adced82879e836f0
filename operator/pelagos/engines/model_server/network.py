"""Who may connect to a model server, and to whom it may: the endpoint's NetworkPolicy, whichever engine creates its pods. Pure.

Called by deployment, kserve and `pelagos doctor`. Every rule names its peers and ports. Policies are additive, so no other
policy of an installation may select model servers and be wider than this one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pelagos.api import meta
from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.model_server import marks, pod_template
from pelagos.engines.model_server.options import SYSTEM, Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.peers import Peers
from pelagos.ports.serving import DesiredService

POLICIES = Collection("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
NAMESPACE_LABEL = "kubernetes.io/metadata.name"
"""The API server itself sets it on every namespace."""
KNATIVE = "Knative"
KNATIVE_NAMESPACE, KNATIVE_PORTS = "knative-serving", (8012, 8013, 8022, 9090, 9091)
"""Where Knative's components run, and the ports of its proxy in each pod: requests, probes, and metrics for scaling."""
STORAGE_PORTS = (80, 443, 9000)
"""Ports of object storages. The last is that of MinIO's pods: rules see the pod's port, not that of a Service in front of it."""
_IN_CLUSTER = 2
"""Labels in a Service's short DNS name: its own name and its namespace."""

Rule = dict[str, Any]


def network_policy(want: DesiredService, given: Options, name: str) -> dict[str, Any]:
    """In: requests from the configured clients and the operator, scrapes by Prometheus. Out: DNS and the object storage.

    A server that mounts its package needs no egress. Raises RejectedError when the storage's address is unknown.
    """
    operator = _pods_of(given.operator_namespace, meta.FIELD_MANAGER)
    requests = [pod_template.HTTP, pod_template.GRPC]
    callers = [
        ([*given.clients], requests),
        (operator, [*requests, pod_template.METRICS]),
        (_pods_of(given.monitoring_namespace or given.operator_namespace, "prometheus"), [pod_template.METRICS]),
    ]
    if want.scaling.mode == KNATIVE:
        # Knative's gateway counts as a client; activator and autoscaler run in Knative's own namespace.
        callers = [(peers, [*ports, *KNATIVE_PORTS[:2]]) for peers, ports in callers]
        callers.append(([_namespace(KNATIVE_NAMESPACE)], [*KNATIVE_PORTS]))
    spec = {
        "podSelector": {"matchLabels": marks.selector(want)},
        "policyTypes": ["Ingress", "Egress"],
        # Leave out rules without peers: an empty "from" would let in everybody.
        "ingress": [{"from": peers, "ports": _ports(ports)} for peers, ports in callers if peers],
        "egress": _egress(given) if pod_template.is_remote(want) else [],
    }
    metadata = marks.metadata(want, name)
    return {"apiVersion": POLICIES.api_version, "kind": POLICIES.kind, "metadata": metadata, "spec": spec}


def pod_selector(want: DesiredService) -> str:
    """The pods' labels as a selector text, ``name=value,...``."""
    return ",".join(f"{name}={value}" for name, value in marks.selector(want).items())


def storage(given: Options) -> Rule | None:
    """Egress to the object storage: as configured, else derived from its endpoint; None when that is not possible."""
    if given.storage_peers.peers:
        return _rule(given.storage_peers)
    parts = urlsplit(given.s3_endpoint)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        if len(labels) == _IN_CLUSTER or "svc" in labels[_IN_CLUSTER : _IN_CLUSTER + 1]:
            return {"to": [_namespace(labels[1])], "ports": _ports({*STORAGE_PORTS, port})}
        return None
    return {"to": [{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}], "ports": _ports([port])}


def _egress(given: Options) -> list[Rule]:
    place = storage(given)
    if place is None:
        message = (
            f"model servers may reach the object storage and nothing else, but where {given.s3_endpoint or 'that of AWS'} is "
            "cannot be determined from its name. Set it in PELAGOS_STORAGE_PEERS (Helm: networkPolicies.storage), for example "
            '{"peers": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]}'
        )
        raise RejectedError(SYSTEM, message)
    return [_rule(given.dns_peers), place] if given.dns_peers.peers else [place]


def _rule(peers: Peers) -> Rule:
    ports = [{"protocol": "TCP"} | port for port in peers.ports]
    return {"to": [dict(peer) for peer in peers.peers], "ports": ports}


def _pods_of(namespace: str, name: str) -> list[Rule]:
    """Peers: pods of this name in one namespace. Without the namespace anybody could give their own pod this label."""
    if not namespace:
        return []
    return [_namespace(namespace) | {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}]


def _namespace(name: str) -> Rule:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}}


def _ports(numbers: Iterable[int]) -> list[Rule]:
    return [{"port": number, "protocol": "TCP"} for number in sorted(set(numbers))]
