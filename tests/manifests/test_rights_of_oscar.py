"""The engine that serves on OSCAR may change the one Secret that the gateway reads, and uses this right, by the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import audit_rbac
import rendering
from installed import SYSTEM, USER, Site
from manifests.test_rights import admission
from pelagos.api import kinds
from pelagos.api.service_logins import SECRET, ServiceLogin
from pelagos.engines.kubernetes import api
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.oscar.descriptor import RIGHTS
from pelagos.ports.cluster import Resource, from_body
from pelagos.ports.errors import UnboundError

NAMESPACES = {"cluster": "default", "single-namespace": SYSTEM}
"""The namespace of the tenant, by how the operator is installed."""
LOGINS = [ServiceLogin("https://oscar.example/system/services/a/exposed", f"Basic {number}") for number in range(2)]


def installation(folder: Path, scope: str) -> Path:
    """Roles of the engine as docs/oscar.md has them chosen."""
    where, more = ("cluster", []) if scope == "cluster" else ("namespace", ["components/single-namespace"])
    resources = ["crds", "base", f"rbac/{where}/core", f"rbac/{where}/oscar"]
    return rendering.kustomization(folder, resources=resources, components=["components/oscar", *more])


def given(scope: str, folder: Path) -> set[audit_rbac.Grant]:
    """The rights on Secrets that the roles grant."""
    bodies = [body for body in rendering.kustomize(folder) if "rbac.authorization" in body["apiVersion"]]
    bound = [*bodies, *admission(scope, NAMESPACES[scope])]
    return {grant for grant in audit_rbac.grants(bound, USER) if grant.resource == "secrets"}


def service(namespace: str, name: str) -> Resource:
    metadata = {"name": name, "namespace": namespace, "uid": f"of-{name}", "resourceVersion": "1", "generation": 1}
    return from_body(kinds.MODEL_SERVICE, {"metadata": metadata, "spec": {}})


@pytest.mark.parametrize("scope", NAMESPACES)
async def test_it_writes_logins_and_withdraws_them_and_may_do_no_more_to_secrets(
    site: Site, scope: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, namespace = installation(tmp_path, scope), NAMESPACES[scope]
    site.apply(folder)
    if scope == "cluster":
        site.admit(namespace)
    monkeypatch.setattr(api, "LOGIN_AGAIN", 0.0)
    before = len(site.log.read_text().splitlines())
    one, other = (service(namespace, name) for name in ("detector", "classifier"))
    rest = KubernetesRest(site.plane.url, tls=site.plane.tls(), token=site.token())
    cluster = KubernetesApi(rest)
    try:
        await cluster.publish_login(one, LOGINS[0])
        await cluster.publish_login(other, LOGINS[0])
        await cluster.publish_login(one, LOGINS[1])
        assert logins(site, namespace) == {"detector.login", "classifier.login"}
        await cluster.withdraw_login(one)
        assert logins(site, namespace) == {"classifier.login"}
        seen = audit_rbac.trace(site.log.read_text().splitlines()[before:], USER)
        assert audit_rbac.problems(seen, given(scope, folder)) == []
        await refuse_all_else(site, rest, f"/api/v1/namespaces/{namespace}/secrets")
    finally:
        await rest.close()
        site.remove(folder)


async def refuse_all_else(site: Site, rest: KubernetesRest, secrets: str) -> None:
    """No other Secret can be changed, and none be read."""
    site.plane.request("POST", secrets, {"metadata": {"name": "of-somebody"}, "stringData": {"key": "value"}})
    patch: dict[str, Any] = {"data": {"key": None}}
    change = await rest.ask("PATCH", f"{secrets}/of-somebody", patch, content=api.MERGE_PATCH, timeout=10)
    reads = [(await rest.get(f"{secrets}{name}", timeout=10)).status for name in ("", "/of-somebody", f"/{SECRET}")]
    assert (change.status, reads) == (403, [403, 403, 403])
    site.plane.request("DELETE", f"{secrets}/of-somebody")


async def test_without_the_roles_of_the_engine_it_says_which_right_is_missing(site: Site, tmp_path: Path) -> None:
    folder = rendering.kustomization(
        tmp_path, resources=["crds", "base", "rbac/cluster/core", "rbac/cluster/deployment"]
    )
    site.apply(folder)
    site.admit(NAMESPACES["cluster"])
    rest = KubernetesRest(site.plane.url, tls=site.plane.tls(), token=site.token())
    try:
        with pytest.raises(UnboundError) as caught:
            await KubernetesApi(rest).publish_login(service("default", "detector"), LOGINS[0])
        assert f'secrets "{SECRET}" is forbidden' in str(caught.value)
    finally:
        await rest.close()
        site.remove(folder)


def test_it_asks_for_no_more_than_this() -> None:
    (right,) = RIGHTS
    assert (right.resources, right.verbs, right.names) == (("secrets",), ("patch",), (SECRET,))


def logins(site: Site, namespace: str) -> set[str]:
    return set(site.plane.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{SECRET}")["data"])
