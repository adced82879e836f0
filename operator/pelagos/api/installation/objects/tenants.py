"""A tenant: a namespace in which only restricted pods run, its conventions, the account of its pods, limits and policies."""

from __future__ import annotations

from typing import Any

from pelagos.api.installation.nodes import Each, Given, Item, Release, Value, When
from pelagos.api.installation.objects import common, network

ACCOUNT = "pelagos-workload"
"""ServiceAccount of pipeline steps and model servers: no role, no token."""
_PIPELINES = {"matchExpressions": [{"key": "pipelines.kubeflow.org/v2_component", "operator": "Exists"}]}
_SERVERS = {"matchLabels": {"app.kubernetes.io/component": "serving", "app.kubernetes.io/part-of": "pelagos"}}


def tenants() -> Any:
    """The objects of every tenant."""
    return Each("tenants", (_namespace(), _account(), _conventions(), _quota(), _limits(), *_policies()))


def _metadata(name: str) -> dict[str, Any]:
    return common.metadata(name, "tenant", namespace=Item("namespace"))


def _namespace() -> dict[str, Any]:
    labels = common.labels("tenant") | common.RESTRICTED
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": Item("namespace"), "labels": labels}}


def _account() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(ACCOUNT),
        "automountServiceAccountToken": False,
    }


def _conventions() -> dict[str, Any]:
    given = {
        "experimentPrefix": "experimentPrefix",
        "storagePrefix": "storagePrefix",
        "queue": "queue",
        "maxGpus": "maxGpus",
    }
    data = {"serviceAccount": ACCOUNT} | {key: When(Given(Item(path)), Item(path)) for key, path in given.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata("pelagos-config"), "data": data}


def _quota() -> Any:
    body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": _metadata("pelagos"),
        "spec": {"hard": Item("quota")},
    }
    return When(Given(Item("quota")), body)


def _limits() -> dict[str, Any]:
    """Requests and limits of containers that name none, so that a quota does not turn their pods away."""
    limit = {
        "type": "Container",
        "default": {"cpu": "1", "memory": "1Gi"},
        "defaultRequest": {"cpu": "100m", "memory": "256Mi"},
    }
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": _metadata("pelagos"), "spec": {"limits": [limit]}}


def _policies() -> list[Any]:
    """Pipeline steps reach out and are never called; model servers are called, and reach storage for their package."""
    from_operator = [
        network.from_namespace(Release("Namespace"))[0] | {"podSelector": {"matchLabels": common.selector("operator")}}
    ]
    monitoring = network.from_namespace(Value("networkPolicies.monitoringNamespace"))
    outward = [network.DNS, {"to": [{"namespaceSelector": {}}]}, {"ports": network.ports(443)}]
    http, grpc, metrics = network.MODEL_PORTS
    bodies = (
        network.deny_all(_metadata("pelagos-default-deny")),
        network.policy(
            _metadata("pelagos-pipelines"),
            {"podSelector": _PIPELINES, "policyTypes": ["Egress"], "egress": outward},
        ),
        network.policy(
            _metadata("pelagos-model-servers"),
            {
                "podSelector": _SERVERS,
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"from": [{"podSelector": {}}, *from_operator], "ports": network.ports(http, grpc)},
                    {"from": monitoring, "ports": network.ports(metrics)},
                ],
                "egress": outward,
            },
        ),
    )
    return [When(common.HAS_POLICIES, body) for body in bodies]
