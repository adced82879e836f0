"""Each engine that serves on a cluster, under the operator's service account, uses all rights of its role and needs no others."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import audit_rbac
import rendering
from installed import USER, Site
from manifests.test_rights import given
from pelagos.api import meta
from pelagos.engines.deployment.engine import TritonDeployment
from pelagos.engines.folders.objects import FolderObjects
from pelagos.engines.kserve.engine import Kserve
from pelagos.engines.kubernetes.objects import Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.model_server import marks, object_kinds
from pelagos.engines.model_server.engine import ClusterServing
from pelagos.engines.model_server.object_kinds import INFERENCE_SERVICES
from pelagos.engines.model_server.options import Options
from pelagos.ports.errors import UnboundError
from pelagos.ports.serving import DesiredService, Scaling

if TYPE_CHECKING:
    from model_packages import MakeWant

OVERLAYS = rendering.MANIFESTS / "overlays"
ENGINES: dict[str, tuple[type[ClusterServing], str]] = {
    "deployment": (TritonDeployment, "cluster"),
    "kserve": (Kserve, "kserve"),
}


def add_pod(site: Site, want: DesiredService, *, by_kserve: bool) -> None:
    """A pod as a controller would create it, and a kubelet would report it ready; nothing runs it."""
    metadata = {
        "name": f"pod-of-{want.name}",
        "labels": {meta.UID_LABEL: want.uid} | ({marks.INFERENCE_SERVICE_LABEL: want.name} if by_kserve else {}),
        "annotations": {marks.DIGEST_ANNOTATION: want.digest},
    }
    body = {"metadata": metadata, "spec": {"containers": [{"name": "server", "image": "none"}]}}
    pods = f"/api/v1/namespaces/{want.namespace}/pods"
    site.plane.request("POST", pods, body)
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    site.plane.request("PATCH", f"{pods}/{metadata['name']}/status", ready, kind="application/merge-patch+json")


def is_served(site: Site, kind: Collection) -> bool:
    """Whether the API server serves a kind in this version."""
    try:
        site.plane.request("GET", kind.root)
    except urllib.error.HTTPError:
        return False
    return True


def leave_by_another(site: Site, want: DesiredService, left: Sequence[Collection]) -> None:
    """Objects that the other engine created earlier for the same resource."""
    pod = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "server", "image": "none"}]}}
    selector = {"matchLabels": {"app": "a"}}
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"}
    specs: dict[str, dict[str, Any]] = {
        "Deployment": {"selector": selector, "template": pod},
        "Service": {"ports": [{"port": 80}]},
        "HorizontalPodAutoscaler": {"scaleTargetRef": reference, "maxReplicas": 2},
        "PodDisruptionBudget": {"selector": selector},
        "InferenceService": {"predictor": {"model": {"modelFormat": {"name": "onnx"}}}},
    }
    for kind in left:
        if kind.kind == object_kinds.BUDGETS.kind and not is_served(site, kind):
            continue
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": marks.metadata(want, "earlier")}
        site.plane.request("POST", kind.path(want.namespace), body | {"spec": specs[kind.kind]})


async def live(
    engine: ClusterServing, again: ClusterServing, site: Site, want: DesiredService, other: DesiredService
) -> None:
    """The whole life of an endpoint: created, changed, observed by another life of the operator, restarted, removed."""
    await engine.apply(want)
    await engine.apply(other)
    leave_by_another(site, other, engine.predecessor_kinds)
    add_pod(site, other, by_kserve=isinstance(engine, Kserve))
    seen = await again.observe(other.uid)
    assert seen is not None
    assert seen.predecessor == f"{again.predecessor_kinds[0].kind} earlier"
    await again.retire(other.uid)
    await again.restart(other.uid)
    await again.remove(other.uid)
    assert await again.observe(other.uid) is None


@pytest.mark.parametrize("name", ENGINES)
async def test_a_serving_engine_uses_all_of_its_rights_and_needs_no_other(
    site: Site, name: str, make_want: MakeWant
) -> None:
    kind, overlay = ENGINES[name]
    site.kubectl("apply", "-f", str(Path(__file__).with_name("kinds_of_others.yaml")))
    site.apply(OVERLAYS / overlay)
    site.admit(make_want().namespace)
    before = len(site.log.read_text().splitlines())
    cluster = KubernetesObjects(KubernetesRest(site.plane.url, tls=site.plane.tls(), token=site.token()))
    want = make_want(scaling=Scaling(minimum=1, maximum=3, cpu=80))
    root = Path(want.package_uri).parent
    options = Options(image="none", objects_root=str(root), objects_claim="objects")
    engines = [kind(cluster, FolderObjects(root), options, lambda _uid: want.namespace) for _ in range(2)]
    try:
        await live(engines[0], engines[1], site, want, make_want(scaling=Scaling()))
    finally:
        site.kubectl("delete", "pods", "--all", "--namespace", want.namespace)
        for engine in engines:
            await engine.close()
        await cluster.close()
        site.remove(OVERLAYS / overlay)

    seen = audit_rbac.trace(site.log.read_text().splitlines()[before:], USER)
    assert audit_rbac.problems(seen, given(overlay, want.namespace, name)) == []


@pytest.mark.parametrize("is_installed", [False, True], ids=["without-kserve", "with-kserve"])
async def test_roles_of_an_earlier_release_keep_nothing_from_being_removed_where_there_can_be_no_other_engine(
    site: Site, make_want: MakeWant, is_installed: bool
) -> None:
    definitions = str(Path(__file__).with_name("kinds_of_others.yaml"))
    change = ("apply",) if is_installed else ("delete", "--ignore-not-found")
    site.kubectl(*change, "-f", definitions)
    deadline = time.monotonic() + 30
    while is_served(site, INFERENCE_SERVICES) != is_installed:
        assert time.monotonic() < deadline, "the API server hears of its definitions"
        await asyncio.sleep(0.2)
    site.apply(OVERLAYS / "cluster")
    site.admit(make_want().namespace)
    take_away(site, "serving.kserve.io")
    cluster = KubernetesObjects(KubernetesRest(site.plane.url, tls=site.plane.tls(), token=site.token()))
    want = make_want()
    root = Path(want.package_uri).parent
    options = Options(image="none", objects_root=str(root), objects_claim="objects")
    engine = TritonDeployment(cluster, FolderObjects(root), options, lambda _uid: want.namespace)
    try:
        await engine.apply(want)
        if is_installed:
            with pytest.raises(UnboundError, match=r"inferenceservices.*Apply the roles of this version"):
                await engine.remove(want.uid)
        else:
            await engine.remove(want.uid)
        assert await cluster.list(engine.main, want.namespace, {meta.UID_LABEL: want.uid}) == []
    finally:
        await engine.close()
        await cluster.close()
        site.remove(OVERLAYS / "cluster")


def take_away(site: Site, group: str) -> None:
    """Remove all rights on objects of an API group."""
    for role in json.loads(site.kubectl("get", "clusterroles", "-o", "json"))["items"]:
        kept = [rule for rule in role.get("rules") or [] if group not in rule.get("apiGroups", ())]
        if role["metadata"]["name"].startswith("pelagos") and kept != role["rules"]:
            patch = json.dumps([{"op": "replace", "path": "/rules", "value": kept}])
            site.kubectl("patch", "clusterrole", role["metadata"]["name"], "--type=json", "-p", patch)
