"""NetworkPolicies: nothing may talk in the operator's namespace but the operator, to what it needs."""

from __future__ import annotations

from typing import Any

from pelagos.api.installation.nodes import Value, When
from pelagos.api.installation.objects import common

DNS = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
    "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")],
}
"""A rule for egress: names are resolved in kube-system."""
MODEL_PORTS = (8080, 9000, 8002)
"""HTTP, gRPC and metrics of a model server."""


def policies() -> list[Any]:
    """For the operator's namespace."""
    return [When(common.HAS_POLICIES, policy) for policy in (_closed(), _operator())]


def deny_all(metadata: dict[str, Any]) -> dict[str, Any]:
    """A policy under which no pod of a namespace talks; others open what is needed."""
    return policy(metadata, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})


def policy(metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """A NetworkPolicy."""
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def ports(*numbers: int) -> list[dict[str, Any]]:
    """TCP ports."""
    return [{"protocol": "TCP", "port": number} for number in numbers]


def from_namespace(name: Any) -> list[dict[str, Any]]:
    """Peers: all pods of a namespace."""
    return [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]


def _closed() -> dict[str, Any]:
    return deny_all(common.metadata("pelagos-default-deny", "network"))


def _operator() -> dict[str, Any]:
    monitoring = from_namespace(Value("networkPolicies.monitoringNamespace"))
    return policy(
        common.metadata(common.NAME, "network"),
        {
            "podSelector": {"matchLabels": common.selector("operator")},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": monitoring, "ports": ports(common.METRICS_PORT)}],
            "egress": [
                DNS,
                {"to": [{"ipBlock": {"cidr": Value("networkPolicies.apiServer")}}], "ports": ports(443, 6443)},
                {"to": [{"ipBlock": {"cidr": Value("networkPolicies.outside")}}], "ports": ports(443)},
                # MLflow, Kubeflow Pipelines, object storage and model servers of this cluster, on whatever port they listen.
                {"to": [{"namespaceSelector": {}}]},
            ],
        },
    )
