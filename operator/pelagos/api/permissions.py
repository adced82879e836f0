"""Every right that the operator needs with any engines, and why; the rights for an engine are in its descriptor.

The operator's roles are generated from here. Tests compare them with a trace of its requests, so that no right is unused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from pelagos.api import kinds, meta, tenant_settings


class Where(Enum):
    """The objects to which a right applies."""

    OWN = "the operator's namespace"
    KINDS = "resources of ours, wherever they are watched"
    TENANTS = "a tenant's namespace, by a RoleBinding in it; nowhere else"
    STEPS = "the same, or the one namespace where the pods of all tenants' pipelines are"
    CLUSTER = "objects without a namespace; only when all namespaces are watched"


@dataclass(frozen=True)
class Permission:
    """Verbs on resources of an API group; ``names`` limits it to objects with these names. ``why`` is written beside the rule."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    where: Where = Where.TENANTS
    names: tuple[str, ...] = ()

    @property
    def rule(self) -> dict[str, list[str]]:
        """The right as a rule of a Role."""
        found = {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}
        return found | ({"resourceNames": list(self.names)} if self.names else {})


_OURS = tuple(kind.plural for kind in kinds.KINDS)
APPLY = ("get", "list", "create", "patch", "delete")
"""Verbs for objects that the operator applies. An apply is a patch, which needs ``create`` for a new object."""
PODS = ("list", "delete")
"""Verbs for pods that belong to these objects."""

LEFT = ("list", "delete")
"""Verbs for objects of a previously configured engine, which are removed once its successor has taken over."""

PERMISSIONS = (
    Permission(
        meta.GROUP,
        _OURS,
        ("get", "list", "watch", "patch"),
        "Read resources, check right before a launch that they still exist, and set their finalizer.",
        where=Where.KINDS,
    ),
    Permission(
        meta.GROUP,
        tuple(f"{plural}/status" for plural in _OURS),
        ("patch",),
        "Report the state of resources.",
        where=Where.KINDS,
    ),
    Permission(
        meta.GROUP,
        (kinds.TRAINING_RUN.plural,),
        ("delete",),
        "Delete a TrainingRun that is over, when its spec.ttlSecondsAfterFinished says so.",
    ),
    Permission(
        meta.GROUP,
        (kinds.TRIAL.plural,),
        ("delete",),
        "Delete a Trial some time after its end (trialsKeep).",
    ),
    Permission(
        meta.GROUP,
        (kinds.MODEL_SERVICE.plural,),
        ("create", "delete"),
        "Create the ModelService of a Trial that gets a server of its own, and remove it when the Trial ends.",
    ),
    Permission("", ("events",), ("create",), "Report transitions."),
    Permission(
        "",
        ("configmaps",),
        ("get",),
        "Check whether the namespace has one that is not read any more.",
        names=(tenant_settings.RETIRED,),
    ),
    Permission(
        "",
        ("secrets",),
        ("create",),
        "Give pipeline steps the key for seals of reports, people the tokens of Trials, and the gateway logins of servers.",
        where=Where.STEPS,
    ),
    Permission(
        "",
        ("pods",),
        ("list",),
        "Say why a pipeline step failed and why it waits, and see that it has ended.",
        where=Where.STEPS,
    ),
    Permission(
        "argoproj.io",
        ("workflows",),
        ("list",),
        "The same, for steps whose pod no longer exists or was refused.",
        where=Where.STEPS,
    ),
    Permission("", ("events",), ("list",), "Say what a node cannot mount or pull for a step.", where=Where.STEPS),
    Permission(
        "kueue.x-k8s.io", ("workloads",), ("list",), "Say what the queue of a step waits for.", where=Where.STEPS
    ),
    Permission(
        "", ("pods/log",), ("get",), "Keep the last lines of steps, whose pods are deleted later.", where=Where.STEPS
    ),
    Permission("", ("configmaps",), ("get", "create", "patch"), "Keep these lines in one ConfigMap for each resource."),
    Permission(
        "",
        ("serviceaccounts",),
        ("get",),
        "Check before a run is made that the account of its steps exists.",
        where=Where.STEPS,
    ),
    Permission("", ("resourcequotas",), ("list",), "Check whether a step fits into the quotas.", where=Where.STEPS),
    Permission(
        "",
        ("configmaps",),
        ("get",),
        "Find out where steps keep artifacts.",
        where=Where.STEPS,
        names=("kfp-launcher",),
    ),
    Permission(
        "kueue.x-k8s.io", ("localqueues",), ("get",), "Check whether the queue of a run exists.", where=Where.STEPS
    ),
    Permission(
        "visibility.kueue.x-k8s.io",
        ("localqueues/pendingworkloads",),
        ("get",),
        "Say which place a run has in its queue.",
        where=Where.STEPS,
    ),
    Permission(
        "kueue.x-k8s.io",
        ("workloadpriorityclasses",),
        ("list",),
        "Check whether the priority of a run exists, and name those that do.",
        where=Where.CLUSTER,
    ),
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
    Permission("", ("configmaps",), ("list",), "Read the platform's settings for tenants.", where=Where.OWN),
    Permission(
        "apiextensions.k8s.io",
        ("customresourcedefinitions",),
        ("get",),
        "Check at start whether the definitions are those of this operator.",
        where=Where.CLUSTER,
        names=tuple(kind.crd for kind in kinds.KINDS),
    ),
)


def about(rights: Iterable[Permission], places: Iterable[Where]) -> tuple[Permission, ...]:
    """The rights that apply to objects in these places."""
    wanted = frozenset(places)
    return tuple(right for right in rights if right.where in wanted)
