"""The roles of the operator and of people, from permissions.py and the engines' descriptors.

They are written as objects for kustomize, and as rules for the chart.

In an installation for all namespaces, the operator has only the rights for our kinds everywhere; all others are in a ClusterRole
that is bound in each tenant's namespace. In an installation for one namespace, all are Roles in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from generators.installation import writing
from generators.installation.writing import NAME, NAMESPACE, metadata
from pelagos import engine_registry
from pelagos.api import kinds, meta, permissions
from pelagos.api.permissions import Where

RBAC = "rbac.authorization.k8s.io"
TENANT = f"{NAME}-tenant"
"""The ClusterRole with the operator's rights in a tenant's namespace."""
CORE, KUBEFLOW = "core", "kubeflow"
_SERVING = tuple(engine.name for engine in engine_registry.SERVING.on_cluster)
RIGHTS = {CORE: permissions.PERMISSIONS} | {
    engine.name: engine.rights
    for engine in (*engine_registry.SERVING.on_cluster, *engine_registry.PIPELINES.on_cluster)
}
"""Rights by the feature that needs them; each feature has its own role."""
_EVERYWHERE = (Where.KINDS, Where.CLUSTER)
_READ, _WRITE = ("get", "list", "watch"), ("create", "update", "patch", "delete")
_PEOPLE = {"view": (_READ, ("view", "edit", "admin")), "edit": (_WRITE, ("edit", "admin"))}
"""Roles of people: their verbs, and the Kubernetes roles that aggregate them."""
_TENANT = (Where.TENANTS, Where.STEPS)
_PLACES: Mapping[str, Sequence[Where]] = {
    "own": (Where.OWN,),
    "everywhere": _EVERYWHERE,
    "kinds": (Where.KINDS,),
    "tenants": _TENANT,
    "steps": (Where.STEPS,),
}

Body = dict[str, Any]


def files() -> dict[str, str]:
    """The content of each file by its path below manifests/."""
    found = {
        f"rbac/{scope}/{feature}/roles.yaml": [*_leader(feature), *bodies]
        for scope, of in (("cluster", _clusterwide), ("namespace", _in_one_namespace))
        for feature in (CORE, *_SERVING)
        if (bodies := of(feature))
    }
    found["rbac/people/roles.yaml"] = list(_people())
    # Each tenant binds it in its own namespace.
    found["components/kubeflow-multi-user/objects.yaml"] = [_cluster_role(name(KUBEFLOW), _rules(KUBEFLOW, *_TENANT))]
    found["components/kubeflow-multi-user-single-namespace/objects.yaml"] = _in_one_namespace(KUBEFLOW)
    return {path: writing.dump(*bodies) for path, bodies in found.items()} | {
        "charts/pelagos/files/rules.yaml": writing.dump(rules())
    }


def name(feature: str) -> str:
    """The name of a feature's role."""
    return NAME if feature == CORE else f"{NAME}-{feature}"


def rules() -> dict[str, dict[str, list[Body]]]:
    """Rules by the scope in which they apply and the feature that needs them; the chart's templates select from them."""
    found = {
        place: {feature: granted for feature in RIGHTS if (granted := _rules(feature, *where))}
        for place, where in _PLACES.items()
    }
    people = {title: [_of_people(verbs)] for title, (verbs, _) in _PEOPLE.items()}
    return found | {"people": people}


def _leader(feature: str) -> list[Body]:
    """Rules for Leases and for the tenant settings."""
    if feature != CORE:
        return []
    title = f"{NAME}-leader"
    return [_role(title, _rules(CORE, Where.OWN)), _binding("Role", title)]


def _clusterwide(feature: str) -> list[Body]:
    everywhere = _rules(feature, *_EVERYWHERE)
    bound = [_cluster_role(name(feature), everywhere), _binding("ClusterRole", name(feature))] if everywhere else []
    if feature == CORE:
        return bound
    tenant = _rules(CORE, *_TENANT) + _rules(feature, *_TENANT)
    return [*bound, _cluster_role(TENANT, tenant)]


def _in_one_namespace(feature: str) -> list[Body]:
    granted = _rules(feature, Where.KINDS, *_TENANT)
    if not granted:
        return []
    return [_role(name(feature), granted), _binding("Role", name(feature))]


def _people() -> Iterator[Body]:
    """Rights on our kinds for people with Kubernetes' roles view, edit and admin. Only the operator may write status."""
    for title, (verbs, targets) in _PEOPLE.items():
        body = _cluster_role(f"pelagos-{title}", [_of_people(verbs)])
        body["metadata"]["labels"] |= {f"{RBAC}/aggregate-to-{target}": "true" for target in targets}
        yield body


def _of_people(verbs: Sequence[str]) -> Body:
    scaled = [f"{kind.plural}/scale" for kind in kinds.KINDS if kind.scale]
    return {
        "apiGroups": [meta.GROUP],
        "resources": [kind.plural for kind in kinds.KINDS] + scaled,
        "verbs": list(verbs),
    }


def _rules(feature: str, *where: Where) -> list[Body]:
    return [right.rule for right in permissions.about(RIGHTS[feature], where)]


def _role(title: str, granted: list[Body]) -> Body:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": metadata(title, "rbac", NAMESPACE),
        "rules": granted,
    }


def _cluster_role(title: str, granted: list[Body]) -> Body:
    return {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": metadata(title, "rbac"), "rules": granted}


def _binding(kind: str, role: str) -> Body:
    namespace = NAMESPACE if kind == "Role" else ""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": metadata(role, "rbac", namespace),
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
