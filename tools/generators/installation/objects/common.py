"""Names, labels and security settings that all objects share."""

from __future__ import annotations

from typing import Any

from generators.installation.nodes import AppVersion, Condition, Equal, First, Given, Item, Release, Text, Value

NAME = "pelagos-operator"
"""Of the operator's Deployment, ServiceAccount, roles and Lease."""
OWN = Release("Namespace")
"""The operator's namespace."""
METRICS_PORT = 8080
IS_CLUSTERWIDE: Condition = Equal(Value("scope.kind"), "Cluster")
IS_SHARDED: Condition = Given(Value("operator.shards"))
"""Whether several operators divide the resources among them."""
SHARD_NAME = Text(f"{NAME}-%s", (Item("name"),))
"""Of the Deployment and the Lease of one of them."""
WATCHED = First(Value("scope.namespace"), Release("Namespace"))
"""The namespace that is watched, where it is one."""
HAS_POLICIES: Condition = Given(Value("networkPolicies.enabled"))


def labels(component: str) -> dict[str, Any]:
    """The labels that Kubernetes recommends."""
    return selector(component) | {
        "app.kubernetes.io/version": AppVersion(),
        "app.kubernetes.io/part-of": "pelagos",
        "app.kubernetes.io/managed-by": Release("Service"),
    }


def selector(component: str) -> dict[str, Any]:
    """The labels by which pods are found; they never change."""
    return {
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/instance": Release("Name"),
        "app.kubernetes.io/component": component,
    }


def metadata(name: Any, component: str, *, namespace: Any = OWN) -> dict[str, Any]:
    """Metadata of an object with a namespace."""
    return {"name": name, "namespace": namespace, "labels": labels(component)}


def cluster_metadata(name: Any, component: str) -> dict[str, Any]:
    """Metadata of an object without one."""
    return {"name": name, "labels": labels(component)}


POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    # Otherwise the owner of every file on a claim would be set at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
RESTRICTED = {
    f"pod-security.kubernetes.io/{mode}{suffix}": level
    for mode in ("enforce", "audit", "warn")
    for suffix, level in (("", "restricted"), ("-version", "latest"))
}
"""Labels of a namespace in which only restricted pods run."""
