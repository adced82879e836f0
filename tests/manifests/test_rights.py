"""The operator under its own service account can do everything it has to, and leaves no right unused, by the audit log."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import audit_rbac
import rendering
from audit_rbac import Act, Grant, Trace
from generators.installation import roles
from installed import SYSTEM, USER, Site

OVERLAYS = rendering.MANIFESTS / "overlays"
SPECS: Mapping[str, Mapping[str, Any]] = {
    "Dataset": {"source": {"volume": {"path": "plankton"}}, "task": "Detection"},
    "TrainingRun": {"datasetRef": {"name": "plankton"}, "model": {"architecture": "yolov8n"}},
    "ModelService": {"model": {"trainingRunRef": {"name": "plankton"}}},
    "Trial": {"registry": {"model": "plankton", "alias": "champion"}},
}
REFUSED = {
    "apiVersion": "pelagos.dev/v1alpha1",
    "kind": "Trial",
    "metadata": {"name": "refused"},
    "spec": {"modelServiceRef": {"name": "plankton"}, "duration": "60m"},
}
"""A Trial that asks for more than is allowed, so that it is over at once."""


def given(overlay: str, namespace: str, feature: str) -> frozenset[Grant]:
    """The rights that the overlay's roles grant to the operator for a feature, with one tenant."""
    bodies = [body for body in rendering.kustomize(OVERLAYS / overlay) if "rbac.authorization" in body["apiVersion"]]
    rights = roles.RIGHTS[feature]
    wanted = {(right.group, resource, verb) for right in rights for resource in right.resources for verb in right.verbs}
    found = audit_rbac.grants([*bodies, *admission(overlay, namespace)], USER)
    return frozenset(grant for grant in found if (grant.group, grant.resource, grant.verb) in wanted)


def admission(overlay: str, namespace: str) -> list[dict[str, Any]]:
    """The binding of a tenant, if the operator has a role that needs one."""
    if overlay == "single-namespace":
        return []
    reference = {"kind": "ClusterRole", "name": "pelagos-operator-tenant"}
    subject = {"kind": "ServiceAccount", "name": "pelagos-operator", "namespace": SYSTEM}
    metadata = {"name": "pelagos-operator", "namespace": namespace}
    return [{"kind": "RoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [subject]}]


@pytest.mark.parametrize(("overlay", "namespace"), [("cluster", "default"), ("single-namespace", SYSTEM)])
def test_the_operator_uses_all_of_its_rights_and_needs_no_other(
    site: Site, overlay: str, namespace: str, tmp_path: Path
) -> None:
    site.apply(OVERLAYS / overlay)
    settings = {} if overlay == "cluster" else {"PELAGOS_NAMESPACE": SYSTEM}
    settings |= {"PELAGOS_GATEWAY_HTTP": "https://models.example.org"}
    if overlay == "cluster":
        site.admit(namespace)
    of_the_tenant = ("configmap", f"pelagos-tenant-{namespace}", f"--namespace={SYSTEM}")
    site.kubectl("create", *of_the_tenant, "--from-literal=trialsKeep=1s")
    before = len(site.log.read_text().splitlines())
    try:
        with site.operator(tmp_path, **settings):
            site.create(REFUSED, namespace)
            site.kubectl("wait", "--for=delete", "trial/refused", f"--namespace={namespace}", "--timeout=60s")
            for kind, spec in SPECS.items():
                body = {
                    "apiVersion": "pelagos.dev/v1alpha1",
                    "kind": kind,
                    "metadata": {"name": "plankton"},
                    "spec": spec,
                }
                site.create(body, namespace)
            site.until("Dataset", "plankton", is_begun, tmp_path, namespace=namespace)
            for kind in SPECS:
                site.until(kind, "plankton", is_judged, tmp_path, namespace=namespace)
            site.until("ModelService", "trial-plankton", is_judged, tmp_path, namespace=namespace)
            # A Trial before the rest: it removes the ModelService that was created for it.
            for plurals in ("trials", "modelservices,trainingruns,datasets"):
                site.kubectl("delete", plurals, "--all", "--all-namespaces", "--timeout=60s")
    finally:
        site.kubectl("delete", *of_the_tenant)
        site.remove(OVERLAYS / overlay)

    seen = audit_rbac.trace(site.log.read_text().splitlines()[before:], USER)
    if overlay == "single-namespace":
        seen = without_schema_check(seen)
    assert audit_rbac.problems(with_launches(seen), given(overlay, namespace, roles.CORE)) == []


def with_launches(seen: Trace) -> Trace:
    """Add requests before a training or a server starts, and after a training expired.

    No object gets that far here. See test_life_of_a_training.
    """
    asked = [act for act in seen.done if act.verb == "get" and act.resource == "datasets"]
    others = {dataclasses.replace(act, resource=name) for act in asked for name in ("trainingruns", "modelservices")}
    expired = {dataclasses.replace(act, resource="trainingruns", verb="delete") for act in asked}
    return Trace(seen.done | others | expired | with_nodes(asked), seen.forbidden)


def with_nodes(asked: list[Act]) -> set[Act]:
    """Requests before a run on a cluster and about its pods, which are missing here: the pipelines are a fake.

    See test_kept_logs, test_preflight and test_why_a_step_waits of the engine kubeflow.
    """
    about = (
        ("", "pods", "list"),
        ("argoproj.io", "workflows", "list"),
        ("", "events", "list"),
        ("kueue.x-k8s.io", "workloads", "list"),
        ("", "pods/log", "get"),
        *(("", "configmaps", verb) for verb in ("get", "create", "patch")),
        ("", "serviceaccounts", "get"),
        ("", "resourcequotas", "list"),
        ("kueue.x-k8s.io", "localqueues", "get"),
        ("visibility.kueue.x-k8s.io", "localqueues/pendingworkloads", "get"),
    )
    launchers = {Act("", "configmaps", "get", act.namespace, "kfp-launcher") for act in asked}
    # Cluster-scoped: where one namespace is watched, no role allows it, and the operator does not ask.
    priorities = {Act("kueue.x-k8s.io", "workloadpriorityclasses", "list", "", "")}
    clusterwide = priorities if any(act.namespace != SYSTEM for act in asked) else set()
    return (
        launchers
        | clusterwide
        | {Act(group, resource, verb, act.namespace, "") for act in asked for group, resource, verb in about}
    )


def is_judged(body: Mapping[str, Any]) -> bool:
    conditions = body.get("status", {}).get("conditions", ())
    return any(condition["type"] == "Ready" for condition in conditions)


def is_begun(body: Mapping[str, Any]) -> bool:
    """Whether a pipeline was submitted, for which the steps' key is needed."""
    return bool(body.get("status", {}).get("pipelineRun"))


def without_schema_check(seen: Trace) -> Trace:
    """Leave out requests for our definitions, which the operator can do without: no Role of a namespace can allow them."""
    asked = {act for act in seen.forbidden if act.resource == "customresourcedefinitions" and act.verb == "get"}
    assert len(asked) == 4
    return dataclasses.replace(seen, forbidden=seen.forbidden - asked)


ROLE = {
    "kind": "Role",
    "metadata": {"name": "r", "namespace": "a"},
    "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["one"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create", "patch"]},
    ],
}
BINDING = {
    "kind": "RoleBinding",
    "metadata": {"name": "r", "namespace": "a"},
    "roleRef": {"kind": "Role", "name": "r"},
    "subjects": [{"kind": "ServiceAccount", "name": "pelagos-operator", "namespace": SYSTEM}],
}


def line(verb: str, resource: str, *, code: int = 200, user: str = USER, **reference: str) -> str:
    event = {
        "verb": verb,
        "user": {"username": user},
        "objectRef": {"resource": resource, "namespace": "a"} | reference,
        "responseStatus": {"code": code},
    }
    return json.dumps(event)


def test_what_is_granted_and_used_is_no_problem() -> None:
    lines = [line("get", "configmaps", name="one"), line("patch", "deployments", apiGroup="apps", name="x", code=201)]

    seen = audit_rbac.trace(lines, USER)

    assert audit_rbac.problems(seen, audit_rbac.grants([ROLE, BINDING], USER)) == []


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (line("get", "configmaps", name="two"), "not granted: Act(group='', resource='configmaps', verb='get'"),
        (line("get", "configmaps", name="one", namespace="b"), "not granted: Act(group='', resource='configmaps'"),
        (line("list", "secrets", code=403), "forbidden: Act(group='', resource='secrets', verb='list'"),
        (line("patch", "deployments", apiGroup="apps"), "never used: Grant(group='apps', resource='deployments', verb='create'"),
        (line("get", "configmaps", name="one", user="somebody"), "never used: Grant(group='', resource='configmaps'"),
    ],
)  # fmt: skip
def test_a_difference_is_a_problem(act: str, problem: str) -> None:
    found = audit_rbac.problems(audit_rbac.trace([act], USER), audit_rbac.grants([ROLE, BINDING], USER))

    assert any(each.startswith(problem) for each in found), found


def test_a_request_about_a_subresource_is_another_right() -> None:
    seen = audit_rbac.trace([line("patch", "datasets", subresource="status", name="x", apiGroup="pelagos.dev")], USER)

    assert seen.done == {Act("pelagos.dev", "datasets/status", "patch", "a", "x")}
