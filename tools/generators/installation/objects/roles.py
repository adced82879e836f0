"""The operator's roles and their bindings, and those of people, from permissions.py.

For all namespaces, the operator is bound to what is about our kinds, and no more: the rest is a ClusterRole that is bound in each
tenant's namespace (tenants.py). For one namespace, all are Roles in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from generators.installation.nodes import Condition, Each, Equal, Given, Not, Release, Value, When
from generators.installation.objects import common, serving
from pelagos.api import kinds, meta, permissions
from pelagos.api.permissions import Feature, Where

RBAC = "rbac.authorization.k8s.io"
TENANT = f"{common.NAME}-tenant"
"""ClusterRole of what the operator does in a tenant's namespace."""
IS_MULTI_USER: Condition = Given(Value("kubeflow.multiUser"))
_ENGINES: dict[Feature, Condition] = {
    Feature.KSERVE: serving.BY_KSERVE,
    Feature.DEPLOYMENT: Equal(Value("engines.serving"), "deployment"),
}
_CONDITIONS: dict[Feature, Condition | None] = {Feature.CORE: None, **_ENGINES, Feature.KUBEFLOW: IS_MULTI_USER}
_CLUSTERWIDE = (Where.KINDS, Where.CLUSTER)
_PLURALS = [kind.plural for kind in kinds.KINDS]
_READ, _WRITE = ("get", "list", "watch"), ("create", "update", "patch", "delete")
_PEOPLE = {"view": (_READ, ("view", "edit", "admin")), "edit": (_WRITE, ("edit", "admin"))}
"""Roles of people: their verbs, and the roles of Kubernetes that they are added to."""


def roles() -> list[Any]:
    """All roles and bindings; conditions choose between the two scopes and among the engines."""
    return [
        _own_role(),
        _binding("Role", _own_name(), Release("Namespace")),
        *(When(common.IS_CLUSTERWIDE, body) for body in (*_everywhere(), tenant_role(), *people())),
        *(When(Given(Value("kubeflow.namespace")), body) for body in _where_runs_are()),
        *scoped([Feature.KUBEFLOW], clusterwide=True),
        *scoped(_CONDITIONS, clusterwide=False),
    ]


def _where_runs_are() -> list[Any]:
    """Where pods of all tenants run in one namespace, their key is made there."""
    there = Value("kubeflow.namespace")
    rules = [right.rule for right in permissions.PERMISSIONS if right.resources == ("secrets",)]
    metadata = common.metadata(f"{common.NAME}-steps", "rbac", namespace=there)
    role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    return [role, _binding("Role", f"{common.NAME}-steps", there)]


def name(feature: Feature) -> str:
    """Name of the role of a feature."""
    return common.NAME if feature is Feature.CORE else f"{common.NAME}-{feature.value}"


def scoped(features: Iterable[Feature], *, clusterwide: bool) -> list[Any]:
    """The roles of some features: for all namespaces without a binding, or for one with it."""
    scope = common.IS_CLUSTERWIDE if clusterwide else Not(common.IS_CLUSTERWIDE)
    found: list[Any] = []
    for feature in features:
        if clusterwide:
            rights = permissions.of(feature, (Where.TENANTS,))
            bodies = [_cluster_role(name(feature), [right.rule for right in rights])]
        else:
            rights = permissions.of(feature, (Where.KINDS, Where.TENANTS))
            metadata = common.metadata(name(feature), "rbac", namespace=common.WATCHED)
            rules = [right.rule for right in rights]
            role = {"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules}
            bodies = [role, _binding("Role", name(feature), common.WATCHED)]
        found += [When(scope, body) for body in _conditional(feature, bodies)]
    return found


def tenant_role() -> dict[str, Any]:
    """What the operator does in a tenant's namespace, with the engine that serves. Bound by tenants.py."""
    rules: list[Any] = [right.rule for right in permissions.of(Feature.CORE, (Where.TENANTS,))]
    for feature, condition in _ENGINES.items():
        rules += [When(condition, right.rule) for right in permissions.of(feature, (Where.TENANTS,))]
    return _cluster_role(TENANT, rules)


def operator_binding(role: str, namespace: Any, component: str) -> dict[str, Any]:
    """The operator may in a tenant's namespace what a ClusterRole says."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": common.metadata(role.removesuffix("-tenant"), component, namespace=namespace),
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [_OPERATOR],
    }


def people() -> Iterator[dict[str, Any]]:
    """What people may do with our kinds who have Kubernetes' roles view, edit and admin. Status is the operator's alone."""
    for title, (verbs, targets) in _PEOPLE.items():
        body = _cluster_role(
            f"pelagos-{title}", [{"apiGroups": [meta.GROUP], "resources": _PLURALS, "verbs": list(verbs)}]
        )
        body["metadata"]["labels"] |= {f"{RBAC}/aggregate-to-{target}": "true" for target in targets}
        yield body


def _everywhere() -> Iterator[Any]:
    """Bound for all namespaces: our kinds, and single objects without a namespace."""
    for feature, condition in _CONDITIONS.items():
        rights = permissions.of(feature, _CLUSTERWIDE)
        if rights:
            role = _cluster_role(name(feature), [right.rule for right in rights])
            bodies = [role, _binding("ClusterRole", name(feature), None)]
            yield from bodies if condition is None else (When(condition, body) for body in bodies)


def _conditional(feature: Feature, bodies: Iterable[Any]) -> list[Any]:
    condition = _CONDITIONS[feature]
    return [body if condition is None else When(condition, body) for body in bodies]


def _own_name() -> str:
    return f"{common.NAME}-leader"


def _cluster_role(title: str, rules: list[Any]) -> dict[str, Any]:
    metadata = common.cluster_metadata(title, "rbac")
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def _own_role() -> dict[str, Any]:
    """About Leases, of which with shards there is one for each; and about what the platform says of tenants."""
    leases = [When(Not(common.IS_SHARDED), common.NAME), Each("operator.shards", (common.SHARD_NAME,))]
    rights = permissions.of(Feature.CORE, (Where.OWN,))
    rules = [right.rule | ({"resourceNames": leases} if right.names else {}) for right in rights]
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": common.metadata(_own_name(), "rbac"),
        "rules": rules,
    }


_OPERATOR = {"kind": "ServiceAccount", "name": common.NAME, "namespace": Release("Namespace")}


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
        "subjects": [_OPERATOR],
    }
