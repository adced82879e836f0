"""NetworkPolicies: nothing may talk in the operator's namespace but the operator, to what it needs. Every rule names its peers.

Model servers have each their own, which the operator makes (engines/model_server/network).
"""

from __future__ import annotations

from typing import Any

from generators.installation.nodes import Given, Value, When
from generators.installation.objects import common

MODEL_PORTS = (8080, 9000, 8002)
"""HTTP, gRPC and metrics of a model server."""
SERVERS = {"app.kubernetes.io/name": "pelagos-model-server", "app.kubernetes.io/part-of": "pelagos"}
"""Labels of its pods."""
TENANT = {"app.kubernetes.io/part-of": "pelagos", "app.kubernetes.io/component": "tenant"}
"""Labels of the namespaces that tenants.py makes."""
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


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


def to(name: str) -> When:
    """Egress to somebody among the values. Nobody is no rule: one without peers would be to everybody."""
    path = f"networkPolicies.{name}"
    return When(Given(Value(f"{path}.peers")), {"to": Value(f"{path}.peers"), "ports": Value(f"{path}.ports")})


def in_namespace(name: Any, pods: dict[str, Any] | None = None) -> dict[str, Any]:
    """A peer: pods of a namespace, by labels or all."""
    peer: dict[str, Any] = {"namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: name}}}
    return peer | ({"podSelector": {"matchLabels": pods}} if pods else {})


def _closed() -> dict[str, Any]:
    return deny_all(common.metadata("pelagos-default-deny", "network"))


def _operator() -> dict[str, Any]:
    prometheus = in_namespace(Value("networkPolicies.monitoringNamespace"), {"app.kubernetes.io/name": "prometheus"})
    # In the namespaces of tenants; where one namespace is watched, in that one.
    servers = [
        {"namespaceSelector": {"matchLabels": TENANT}, "podSelector": {"matchLabels": SERVERS}},
        in_namespace(common.WATCHED, SERVERS),
    ]
    return policy(
        common.metadata(common.NAME, "network"),
        {
            "podSelector": {"matchLabels": common.selector("operator")},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [prometheus], "ports": ports(common.METRICS_PORT)}],
            "egress": [
                *(to(name) for name in ("dns", "apiServer", "kubeflow", "tracking", "storage")),
                {"to": servers, "ports": ports(*MODEL_PORTS)},
            ],
        },
    )
