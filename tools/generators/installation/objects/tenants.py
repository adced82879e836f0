"""A tenant: a namespace in which only restricted pods run, the operator's rights there, accounts, limits and policies.

What the platform decides for it is a ConfigMap in the operator's namespace.
"""

from __future__ import annotations

from typing import Any

from generators.installation.nodes import All, Each, Given, Item, Text, When
from generators.installation.objects import common, network, roles
from pelagos.api import tenant_settings
from pelagos.api.permissions import Feature

ACCOUNT = "pelagos-workload"
"""ServiceAccount of model servers: no role, no token."""
PIPELINES_ACCOUNT = "pelagos-pipelines"
"""ServiceAccount of pipeline steps, with its role: what Kubeflow's launcher and Argo's executor ask the API server for."""
_PIPELINES_RULES = (
    # Where artifacts go, and the credentials for it, as Kubeflow calls them in every namespace.
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["kfp-launcher"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["mlpipeline-minio-artifact"]},
    # The step's own pod: which try this is.
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    # How the step ended.
    {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
)
_PIPELINES = {"matchExpressions": [{"key": "pipelines.kubeflow.org/v2_component", "operator": "Exists"}]}


def tenants() -> Any:
    """The objects of every tenant."""
    return Each("tenants", (*namespaced(), _conventions()))


def namespaced() -> tuple[Any, ...]:
    """The namespace of a tenant, and the objects in it."""
    accounts = (_account(ACCOUNT, token=False), _account(PIPELINES_ACCOUNT, token=True), *_role())
    return (_namespace(), *_admission(), *accounts, _quota(), _limits(), *_policies())


def _metadata(name: str) -> dict[str, Any]:
    return common.metadata(name, "tenant", namespace=Item("namespace"))


def _namespace() -> dict[str, Any]:
    labels = common.labels("tenant") | common.RESTRICTED
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": Item("namespace"), "labels": labels}}


def _account(name: str, *, token: bool) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(name),
        "automountServiceAccountToken": token,
    }


def _role() -> tuple[dict[str, Any], dict[str, Any]]:
    """The rights of pipeline steps, and their binding."""
    version, metadata = f"{roles.RBAC}/v1", _metadata(PIPELINES_ACCOUNT)
    reference = {"apiGroup": roles.RBAC, "kind": "Role", "name": PIPELINES_ACCOUNT}
    subject = {"kind": "ServiceAccount", "name": PIPELINES_ACCOUNT, "namespace": Item("namespace")}
    return (
        {"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": list(_PIPELINES_RULES)},
        {
            "apiVersion": version,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": reference,
            "subjects": [subject],
        },
    )


def _admission() -> list[Any]:
    """The operator is let into the namespace. Where it watches one only, it has a Role there."""
    core = roles.operator_binding(roles.TENANT, Item("namespace"), "tenant")
    kubeflow = roles.operator_binding(roles.name(Feature.KUBEFLOW), Item("namespace"), "tenant")
    return [When(common.IS_CLUSTERWIDE, core), When(All((common.IS_CLUSTERWIDE, roles.IS_MULTI_USER)), kubeflow)]


def _conventions() -> dict[str, Any]:
    """What the platform decides for the tenant, where the tenant cannot write."""
    given = ("experimentPrefix", "storagePrefix", "sharedWith", "queue", "queues", "maxGpus")
    accounts = {"serviceAccount": ACCOUNT, "pipelineServiceAccount": PIPELINES_ACCOUNT}
    data = accounts | {key: When(Given(Item(key)), Item(key)) for key in given}
    metadata = common.metadata(Text(f"{tenant_settings.PREFIX}%s", (Item("namespace"),)), "tenant")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


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
    """Nobody talks but pipeline steps, which reach out and are never called, and model servers, each by a policy of its own."""
    outward = [network.to(name) for name in ("dns", "tracking", "storage", "launcher", "apiServer")]
    steps = {"podSelector": _PIPELINES, "policyTypes": ["Egress"], "egress": outward}
    bodies = (
        network.deny_all(_metadata("pelagos-default-deny")),
        network.policy(_metadata("pelagos-pipelines"), steps),
    )
    return [When(common.HAS_POLICIES, body) for body in bodies]
