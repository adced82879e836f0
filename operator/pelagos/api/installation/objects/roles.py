"""The operator's roles and their bindings, from permissions.py: one role per feature, for all namespaces or for one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pelagos.api import permissions
from pelagos.api.installation.nodes import Condition, Each, Equal, Given, Not, Release, Value, When
from pelagos.api.installation.objects import common, serving
from pelagos.api.permissions import Feature, Where

RBAC = "rbac.authorization.k8s.io"
_CONDITIONS: dict[Feature, Condition | None] = {
    Feature.CORE: None,
    Feature.KSERVE: serving.BY_KSERVE,
    Feature.DEPLOYMENT: Equal(Value("engines.serving"), "deployment"),
    Feature.KUBEFLOW: Given(Value("kubeflow.multiUser")),
}


def roles() -> list[Any]:
    """All roles and bindings; conditions choose between the two scopes and among the engines."""
    return [_own_role(), _binding("Role", _own_name(), Release("Namespace")), *scoped(_CONDITIONS)]


def name(feature: Feature) -> str:
    """Name of the role of a feature."""
    return common.NAME if feature is Feature.CORE else f"{common.NAME}-{feature.value}"


def _own_name() -> str:
    return f"{common.NAME}-leader"


def scoped(features: Iterable[Feature]) -> list[Any]:
    """The roles and bindings of some features, for the two scopes."""
    found = []
    for feature in features:
        condition = _CONDITIONS[feature]
        for clusterwide in (True, False):
            scope = common.IS_CLUSTERWIDE if clusterwide else Not(common.IS_CLUSTERWIDE)
            for body in _role(feature, clusterwide=clusterwide):
                inner = body if condition is None else When(condition, body)
                found.append(When(scope, inner))
    return found


def _role(feature: Feature, *, clusterwide: bool) -> list[Any]:
    places = (Where.TENANTS, Where.CLUSTER) if clusterwide else (Where.TENANTS,)
    rights = permissions.of(feature, places)
    kind = "ClusterRole" if clusterwide else "Role"
    metadata = (
        common.cluster_metadata(name(feature), "rbac")
        if clusterwide
        else common.metadata(name(feature), "rbac", namespace=common.WATCHED)
    )
    role = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": metadata, "rules": [right.rule for right in rights]}
    return [role, _binding(kind, name(feature), None if clusterwide else common.WATCHED)]


def _own_role() -> dict[str, Any]:
    """About Leases only: with shares, there is one for each."""
    leases = [When(Not(common.IS_SHARED), common.NAME), Each("operator.shares", (common.SHARE_NAME,))]
    rights = permissions.of(Feature.CORE, (Where.OWN,))
    rules = [right.rule | ({"resourceNames": leases} if right.names else {}) for right in rights]
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": common.metadata(_own_name(), "rbac"),
        "rules": rules,
    }


def _binding(kind: str, role: str, namespace: Any) -> dict[str, Any]:
    metadata = (
        common.cluster_metadata(role, "rbac")
        if namespace is None
        else common.metadata(role, "rbac", namespace=namespace)
    )
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": common.NAME, "namespace": Release("Namespace")}],
    }
