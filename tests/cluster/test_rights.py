"""The operator's rights equal what it did in all tests before this one, by the audit log of the real cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

import audit_rbac
import rendering
from cluster.harness.cluster import Cluster
from cluster.platform.site import OPERATOR, SYSTEM, TENANT

USER = f"system:serviceaccount:{SYSTEM}:{OPERATOR}"
KUEUE = "kueue.x-k8s.io"
OVERLAYS = ("triton-only", "kserve")
"""The overlays that earlier tests installed."""
OTHER_TENANTS = ("marine-lab", "shore")
"""Tenants of the sample repository and of the chart, with the same binding. All requests in them count as a tenant's."""


def in_one_tenant(acts: Iterable[audit_rbac.Act]) -> frozenset[audit_rbac.Act]:
    return frozenset(replace(act, namespace=TENANT) if act.namespace in OTHER_TENANTS else act for act in acts)


def test_what_is_granted_is_what_was_used(cluster: Cluster) -> None:
    seen = audit_rbac.trace(cluster.audit_log.read_text(encoding="utf-8").splitlines(), USER)
    seen = audit_rbac.Trace(in_one_tenant(seen.done), in_one_tenant(seen.forbidden))
    resources = {act.resource for act in seen.done}
    if not {"deployments", "inferenceservices"} <= resources:
        pytest.skip("the tests of the main job with both serving engines must run before this one")
    bound = [body for body in rendering.kustomize(cluster.folder / "tenant") if body["kind"] == "RoleBinding"]
    bound = [body for body in bound if body["roleRef"]["kind"] == "ClusterRole"]
    installed = [rendering.kustomize(rendering.MANIFESTS / "overlays" / name) for name in OVERLAYS]
    given = set().union(*(audit_rbac.grants([*bodies, *bound], USER) for bodies in installed))

    # The operator reads Kueue's objects only where a queue is named and Kueue is installed.
    queued = any(act.group == KUEUE for act in seen.done)
    given = {grant for grant in given if not grant.group.endswith(KUEUE) or queued}
    # While it is uninstalled, the operator may briefly outlive its roles: requests refused then are granted otherwise.
    refused = frozenset(act for act in seen.forbidden if not any(grant.covers(act) for grant in given))
    assert audit_rbac.problems(audit_rbac.Trace(seen.done, refused), given) == []
