"""Objects that only claim to belong to a ModelService: nobody is directed to them, and they are not touched."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from control_plane import ControlPlane
from pelagos.api import meta
from pelagos.engines.deployment.engine import TritonDeployment
from pelagos.engines.kubernetes.objects import Body
from pelagos.engines.model_server.marks import WANT_ANNOTATION
from pelagos.engines.model_server.object_kinds import DEPLOYMENTS
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.serving import DesiredService
from serving_clusters import ServingCluster, options, serving_cluster

MakeWant = Callable[..., DesiredService]
UID = "uid-of-victim"


@pytest.fixture
async def site(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(plane, "deployment", tmp_path.parent, tmp_path) as made:
        made.node.faults.frozen = True
        yield made


def restarted(site: ServingCluster, namespace: str | None) -> TritonDeployment:
    """The engine of an operator that has just started; its store has no package to compare with."""
    return TritonDeployment(site.cluster, ObjectsFake(), options(site.root), lambda _uid: namespace)


async def genuine(site: ServingCluster) -> Body:
    (found,) = await site.all(DEPLOYMENTS, UID)
    return found


def forged(body: Body, namespace: str, **metadata: Any) -> dict[str, Any]:
    """A copy of an object as somebody can write it who has read the original."""
    made: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": copy.deepcopy(body["spec"])}
    kept = {name: body["metadata"][name] for name in ("name", "labels", "annotations", "ownerReferences")}
    return made | {"metadata": kept | {"namespace": namespace} | metadata}


async def create(site: ServingCluster, body: Mapping[str, Any]) -> None:
    answer = await site.rest.ask("POST", DEPLOYMENTS.path(body["metadata"]["namespace"]), body)
    assert answer.status == 201, answer.message


async def test_an_object_in_another_namespace_is_nobodys(
    site: ServingCluster, plane: ControlPlane, make_want: MakeWant
) -> None:
    await site.serving.apply(site.in_namespace(make_want(uid=UID)))
    genuine_one, elsewhere = await genuine(site), f"{site.namespace}-attacker"
    plane.create_namespace(elsewhere)
    await create(site, forged(genuine_one, elsewhere))
    seen = await restarted(site, site.namespace).observe(UID)
    assert seen is not None
    await site.cluster.delete(DEPLOYMENTS, genuine_one)
    for namespace in (site.namespace, None):
        engine = restarted(site, namespace)
        assert await engine.observe(UID) is None
        assert not (await engine.probe(UID)).correct
        await engine.restart(UID)
        await engine.remove(UID)
    left = await site.cluster.list(DEPLOYMENTS, elsewhere, {meta.UID_LABEL: UID})
    assert [body["metadata"]["generation"] for body in left] == [1]
    assert "deletionTimestamp" not in left[0]["metadata"]


async def test_an_object_that_the_service_does_not_own_is_not_its_own(
    site: ServingCluster, make_want: MakeWant
) -> None:
    await site.serving.apply(site.in_namespace(make_want(uid=UID)))
    genuine_one = await genuine(site)
    await site.cluster.delete(DEPLOYMENTS, genuine_one)
    # First in every list.
    await create(site, forged(genuine_one, site.namespace, name="a", ownerReferences=[]))
    engine = restarted(site, site.namespace)
    assert await engine.observe(UID) is None
    await engine.remove(UID)
    assert (await genuine(site))["metadata"]["name"] == "a"
    # It hides no original.
    await site.serving.apply(site.in_namespace(make_want(uid=UID)))
    assert await restarted(site, site.namespace).observe(UID) is not None


@pytest.mark.parametrize("field", ["uid", "namespace"])
async def test_a_want_of_another_service_is_not_believed(site: ServingCluster, make_want: MakeWant, field: str) -> None:
    want = site.in_namespace(make_want(uid=UID))
    await site.serving.apply(want)
    text = (await genuine(site))["metadata"]["annotations"][WANT_ANNOTATION]
    changed = text.replace(getattr(want, field), "another")
    patch = {"metadata": {"annotations": {WANT_ANNOTATION: changed}}}
    await site.cluster.patch(DEPLOYMENTS, site.namespace, "detector", patch)
    assert await restarted(site, site.namespace).observe(UID) is None
