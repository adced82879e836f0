"""Rights of people and tenants, checked by a real API server: with Kubernetes' own roles and ours, in their own namespace.

No controller adds our roles to Kubernetes' here; people are bound to all roles that it would add, by their labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import rendering
from installed import SYSTEM, USER, Site
from pelagos.api import kinds, meta

OVERLAY = rendering.MANIFESTS / "overlays/cluster"
RBAC = "rbac.authorization.k8s.io"
PLURALS = [kind.plural for kind in kinds.KINDS]
READ, WRITE = ("get", "list", "watch"), ("create", "update", "patch", "delete")
TITLES = ("view", "edit", "admin")


@pytest.fixture(scope="module")
def reef(site: Site) -> Iterator[str]:
    """A tenant's namespace with one person for each of Kubernetes' roles; and another one, ``bay``, which is not a tenant's."""
    site.apply(OVERLAY)
    for namespace in ("reef", "bay"):
        site.kubectl("create", "namespace", namespace)
    site.admit("reef")
    for title in TITLES:
        for role in added(site, title):
            binding = ("create", "rolebinding", f"{title}-{role.replace(':', '-')}", "--namespace=reef")
            site.kubectl(*binding, f"--clusterrole={role}", f"--user={title}")
    yield "reef"
    for namespace in ("reef", "bay"):
        site.kubectl("delete", "namespace", namespace, "--wait=false")
        site.kubectl("delete", "rolebindings", "--all", "--namespace", namespace)
        site.finalize(namespace)
    site.remove(OVERLAY)


def added(site: Site, title: str) -> list[str]:
    """Roles that Kubernetes aggregates into one of its own, by their labels, and into those in turn."""
    label = f"{RBAC}/aggregate-to-{title}"
    roles = site.plane.request("GET", f"/apis/{RBAC}/v1/clusterroles")["items"]
    found = {body["metadata"]["name"] for body in roles if (body["metadata"].get("labels") or {}).get(label) == "true"}
    inner = {role for name in found & {"view", "edit"} for role in added(site, name)}
    return sorted(found | inner)


def may(
    site: Site, user: str, verb: str, resource: str, *, namespace: str, group: str = meta.GROUP, name: str = ""
) -> bool:
    plural, _, part = resource.partition("/")
    about = {
        "namespace": namespace,
        "verb": verb,
        "group": group,
        "resource": plural,
        "subresource": part,
        "name": name,
    }
    spec = {"user": user, "resourceAttributes": about}
    answer: dict[str, Any] = site.plane.request(
        "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec}
    )
    return bool(answer["status"]["allowed"])


@pytest.mark.parametrize("title", TITLES)
def test_kubernetes_roles_hold_our_kinds_and_never_their_status(site: Site, reef: str, title: str) -> None:
    for plural in PLURALS:
        assert all(may(site, title, verb, plural, namespace=reef) for verb in READ)
        assert all(may(site, title, verb, plural, namespace=reef) is (title != "view") for verb in WRITE)
        for part in ("status", "finalizers"):
            assert not any(may(site, title, verb, f"{plural}/{part}", namespace=reef) for verb in (*READ, *WRITE))
    assert may(site, title, "get", "modelservices/scale", namespace=reef)
    assert may(site, title, "patch", "modelservices/scale", namespace=reef) is (title != "view")


@pytest.mark.parametrize("title", TITLES)
def test_with_every_right_in_its_own_namespace_nobody_writes_what_the_platform_decides(
    site: Site, reef: str, title: str
) -> None:
    # The people are bound as they should be: an admin of a namespace may grant rights in it.
    assert may(site, title, "create", "rolebindings", namespace=reef, group=RBAC) is (title == "admin")
    assert may(site, title, "update", "configmaps", namespace=reef, group="") is (title != "view")
    for verb in (*READ, *WRITE):
        assert not may(site, title, verb, "configmaps", namespace=SYSTEM, group="", name=f"pelagos-tenant-{reef}")
    for plural in PLURALS:
        assert not any(may(site, title, verb, plural, namespace="bay") for verb in (*READ, *WRITE))


def test_the_operator_acts_in_tenants_namespaces_only(site: Site, reef: str) -> None:
    acts = [("apps", "deployments", "patch"), ("", "services", "patch"), ("", "pods", "list"), ("", "events", "create")]
    for group, resource, verb in acts:
        assert may(site, USER, verb, resource, namespace=reef, group=group)
        for namespace in ("bay", "kube-system", SYSTEM, ""):
            assert not may(site, USER, verb, resource, namespace=namespace, group=group), (resource, namespace)


def test_the_operator_reads_no_secret_anywhere(site: Site, reef: str) -> None:
    for namespace in (reef, "bay", "kube-system", SYSTEM, ""):
        held = {verb for verb in (*READ, *WRITE) if may(site, USER, verb, "secrets", namespace=namespace, group="")}
        # Those of the steps' keys are created there, never read.
        assert held == ({"create"} if namespace == reef else set())
