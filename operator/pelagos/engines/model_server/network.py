"""Who may talk to a model server, and to whom it may: the NetworkPolicy of an endpoint, whichever engine makes its pods. Pure.

Called by deployment, kserve and `pelagos doctor`. Every rule names its peers and ports. Policies add up, so that no other
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
"""Written on every namespace by the API server itself."""
KNATIVE = "Knative"
KNATIVE_NAMESPACE, KNATIVE_PORTS = "knative-serving", (8012, 8013, 8022, 9090, 9091)
"""Where Knative's own parts run, and what its proxy in each pod listens on: requests, probes, and figures for scaling."""
STORAGE_PORTS = (80, 443, 9000)
"""Of object storages; the last is that of MinIO's pods, which rules see behind a Service with another port."""
_IN_CLUSTER = 2
"""Parts of the name of a Service: its own and its namespace's."""

Rule = dict[str, Any]


def network_policy(want: DesiredService, given: Options, name: str) -> dict[str, Any]:
    """Requests come from clients as configured and the operator, metrics are read by Prometheus; out go look-ups and storage.

    A server that mounts its package needs nothing outside. Raises RejectedError when the storage's place is unknown.
    """
    operator = _pods_of(given.operator_namespace, meta.FIELD_MANAGER)
    requests = [pod_template.HTTP, pod_template.GRPC]
    callers = [
        ([*given.clients], requests),
        (operator, [*requests, pod_template.METRICS]),
        (_pods_of(given.monitoring_namespace or given.operator_namespace, "prometheus"), [pod_template.METRICS]),
    ]
    if want.scaling.mode == KNATIVE:
        # Its gateway is a client; its activator and autoscaler are parts of Knative itself.
        callers = [(peers, [*ports, *KNATIVE_PORTS[:2]]) for peers, ports in callers]
        callers.append(([_namespace(KNATIVE_NAMESPACE)], [*KNATIVE_PORTS]))
    spec = {
        "podSelector": {"matchLabels": marks.selector(want)},
        "policyTypes": ["Ingress", "Egress"],
        # Rules without a peer would let in everybody.
        "ingress": [{"from": peers, "ports": _ports(ports)} for peers, ports in callers if peers],
        "egress": _egress(given) if pod_template.is_remote(want) else [],
    }
    metadata = marks.metadata(want, name)
    return {"apiVersion": POLICIES.api_version, "kind": POLICIES.kind, "metadata": metadata, "spec": spec}


def pod_selector(want: DesiredService) -> str:
    """Labels of the pods as text."""
    return ",".join(f"{name}={value}" for name, value in marks.selector(want).items())


def storage(given: Options) -> Rule | None:
    """Egress to the object storage: as configured, else by its address where that tells; None when it does not."""
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
            f"model servers may reach the object storage and nothing else, and where {given.s3_endpoint or 'that of AWS'} is "
            "cannot be determined from its name. Say it in PELAGOS_STORAGE_PEERS (Helm: networkPolicies.storage), for example "
            '{"peers": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": 443}]}'
        )
        raise RejectedError(SYSTEM, message)
    return [_rule(given.dns_peers), place] if given.dns_peers.peers else [place]


def _rule(peers: Peers) -> Rule:
    ports = [{"protocol": "TCP"} | port for port in peers.ports]
    return {"to": [dict(peer) for peer in peers.peers], "ports": ports}


def _pods_of(namespace: str, name: str) -> list[Rule]:
    """Pods of one namespace: anybody may call a pod by any name in a namespace of their own."""
    if not namespace:
        return []
    return [_namespace(namespace) | {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}]


def _namespace(name: str) -> Rule:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}}


def _ports(numbers: Iterable[int]) -> list[Rule]:
    return [{"port": number, "protocol": "TCP"} for number in sorted(set(numbers))]
