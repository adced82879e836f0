"""Every right that the operator uses, and why: the source of its roles. Nothing is granted that a trace of its requests lacks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from pelagos.api import kinds, meta, tenant_settings


class Feature(Enum):
    """What needs a right; each is a role of its own."""

    CORE = "core"
    KSERVE = "kserve"
    DEPLOYMENT = "deployment"
    KUBEFLOW = "kubeflow"
    """A Kubeflow server of several users. It asks the API server whether we may; no request of ours shows these rights."""


class Where(Enum):
    """Whose objects a right is about."""

    OWN = "the operator's namespace"
    KINDS = "resources of ours, wherever they are watched"
    TENANTS = "a tenant's namespace, by a RoleBinding in it; nowhere else"
    CLUSTER = "objects without a namespace; only when all namespaces are watched"


@dataclass(frozen=True)
class Permission:
    """Verbs on resources of an API group; ``names`` limits it to objects with these names. ``why`` ends up beside the rule."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    feature: Feature = Feature.CORE
    where: Where = Where.TENANTS
    names: tuple[str, ...] = ()

    @property
    def rule(self) -> dict[str, list[str]]:
        """As a rule of a Role."""
        found = {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}
        return found | ({"resourceNames": list(self.names)} if self.names else {})


_OURS = tuple(kind.plural for kind in kinds.KINDS)
_APPLY = ("get", "list", "create", "patch", "delete")
"""Objects that we make: an apply is a patch, and a creation where there is nothing yet."""
_PODS = ("list", "delete")
_PIPELINES = "pipelines.kubeflow.org"

PERMISSIONS = (
    Permission(
        meta.GROUP,
        _OURS,
        ("get", "list", "watch", "patch"),
        "See resources, see right before a launch that they are still there, and set their finalizer.",
        where=Where.KINDS,
    ),
    Permission(
        meta.GROUP,
        tuple(f"{plural}/status" for plural in _OURS),
        ("patch",),
        "Report what is true of resources.",
        where=Where.KINDS,
    ),
    Permission("", ("events",), ("create",), "Tell of transitions."),
    Permission(
        "",
        ("configmaps",),
        ("get",),
        "See whether the namespace has one that is not read any more.",
        names=(tenant_settings.RETIRED,),
    ),
    Permission("", ("secrets",), ("create",), "Give pipeline steps the key that their reports are sealed with."),
    Permission(
        "coordination.k8s.io", ("leases",), ("create",), "Ask for leadership for the first time.", where=Where.OWN
    ),
    Permission(
        "coordination.k8s.io",
        ("leases",),
        ("get", "update"),
        "Hold leadership.",
        where=Where.OWN,
        names=("pelagos-operator",),
    ),
    Permission("", ("configmaps",), ("list",), "Read what the platform says of tenants.", where=Where.OWN),
    Permission(
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        ("get",),
        "See at start whether the definitions are those of this operator.",
        where=Where.CLUSTER,
        names=tuple(kind.crd for kind in kinds.KINDS),
    ),
    Permission("serving.kserve.io", ("inferenceservices",), _APPLY, "Serve models by KServe.", feature=Feature.KSERVE),
    Permission(
        "serving.kserve.io",
        ("servingruntimes",),
        ("get",),
        "See whether the namespace has our runtime.",
        feature=Feature.KSERVE,
        names=("pelagos-triton",),
    ),
    Permission(
        "serving.kserve.io",
        ("clusterservingruntimes",),
        ("get",),
        "See whether all namespaces have our runtime.",
        feature=Feature.KSERVE,
        where=Where.CLUSTER,
        names=("pelagos-triton",),
    ),
    Permission("", ("services",), ("get",), "Learn the address of model servers.", feature=Feature.KSERVE),
    Permission(
        "", ("pods",), _PODS, "Report why a model server does not start, and restart it.", feature=Feature.KSERVE
    ),
    Permission(
        "networking.k8s.io", ("networkpolicies",), _APPLY, "Close model servers to strangers.", feature=Feature.KSERVE
    ),
    Permission("apps", ("deployments",), _APPLY, "Serve models by plain Deployments.", feature=Feature.DEPLOYMENT),
    Permission("", ("services",), _APPLY, "Give model servers an address.", feature=Feature.DEPLOYMENT),
    Permission(
        "autoscaling", ("horizontalpodautoscalers",), _APPLY, "Scale model servers.", feature=Feature.DEPLOYMENT
    ),
    Permission(
        "policy",
        ("poddisruptionbudgets",),
        _APPLY,
        "Keep a replica while nodes are drained.",
        feature=Feature.DEPLOYMENT,
    ),
    Permission(
        "networking.k8s.io",
        ("networkpolicies",),
        _APPLY,
        "Close model servers to strangers.",
        feature=Feature.DEPLOYMENT,
    ),
    Permission(
        "", ("pods",), _PODS, "Report why a model server does not start, and restart it.", feature=Feature.DEPLOYMENT
    ),
    Permission(
        _PIPELINES,
        ("runs",),
        ("create", "get", "list", "terminate", "delete"),
        "Run pipelines in the namespaces of resources.",
        feature=Feature.KUBEFLOW,
    ),
    Permission(
        _PIPELINES,
        ("experiments",),
        ("create", "get", "list", "delete"),
        "Keep the runs of a resource together.",
        feature=Feature.KUBEFLOW,
    ),
)


def of(feature: Feature, places: Iterable[Where]) -> tuple[Permission, ...]:
    """The rights of a feature about objects in these places."""
    wanted = frozenset(places)
    return tuple(right for right in PERMISSIONS if right.feature is feature and right.where in wanted)
