"""Where setting an owner that blocks deletion is a separate right (OpenShift), the operator needs no further rights."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import rendering
from installed import Site
from pelagos.api import meta
from pelagos.engines.deployment import manifests as deployment_manifests
from pelagos.engines.kserve import manifests as kserve_manifests
from pelagos.engines.kubernetes.objects import Body, Collection, KubernetesObjects
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.model_server import object_kinds
from pelagos.engines.model_server.options import Options
from pelagos.ports.errors import RejectedError
from pelagos.ports.serving import DesiredService

OVERLAY = rendering.MANIFESTS / "overlays/kserve"
ROLES = [rendering.MANIFESTS / f"rbac/cluster/{engine}/roles.yaml" for engine in ("deployment", "kserve")]
TENANT_ROLE = "pelagos-operator-tenant"
KINDS = Path(__file__).with_name("kinds_of_others.yaml")
GIVEN = Options(image="serving:1", objects_root="/objects", objects_claim="objects")
SERVICE = {
    "apiVersion": meta.API_VERSION,
    "kind": "ModelService",
    "metadata": {"name": "detector"},
    "spec": {"model": {"registry": {"model": "detector", "alias": "champion"}}},
}


@pytest.fixture(scope="module")
def want(strict_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DesiredService]:
    """The desired state of an existing ModelService; the operator has the rights of both serving engines in its namespace."""
    role = tmp_path_factory.mktemp("rights") / "role.yaml"
    role.write_text(yaml.safe_dump(rights_of_both_engines()))
    strict_site.kubectl("apply", "-f", str(KINDS))
    strict_site.apply(OVERLAY)
    strict_site.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(role))
    strict_site.admit("default")
    strict_site.create(SERVICE, "default")
    uid = str(strict_site.read("ModelService", "detector")["metadata"]["uid"])
    yield DesiredService(
        uid=uid, namespace="default", name="detector", model_name="detector", package_uri="/objects/models/1",
        onnx_sha256="0" * 64,
        manifest_sha256="1" * 64, max_batch_size=4, max_queue_delay=1000, instances=1, confidence="0.25", iou="0.7", cpu=1,
        digest="d",
    )  # fmt: skip
    strict_site.kubectl("delete", "modelservices,deployments,services,inferenceservices", "--all")
    strict_site.remove(OVERLAY)


@pytest.fixture
async def cluster(strict_site: Site, want: DesiredService) -> AsyncIterator[KubernetesObjects]:
    """The API under the operator's service account."""
    del want
    plane = strict_site.plane
    found = KubernetesObjects(KubernetesRest(plane.url, tls=plane.tls(), token=strict_site.token()))
    yield found
    await found.close()


def rights_of_both_engines() -> dict[str, Any]:
    """The role that is bound in namespaces of tenants, as if both engines were installed."""
    files = (yaml.safe_load_all(path.read_text(encoding="utf-8")) for path in ROLES)
    first, *others = (role for file in files for role in file if role["metadata"]["name"] == TENANT_ROLE)
    return {**first, "rules": [*first["rules"], *(rule for role in others for rule in role["rules"])]}


def built(want: DesiredService) -> list[tuple[Collection, Body]]:
    """Objects with an owner, as both engines create them."""
    return [
        (object_kinds.DEPLOYMENTS, deployment_manifests.deployment(want, "", GIVEN)),
        (object_kinds.INFERENCE_SERVICES, kserve_manifests.inference_service(want, "", GIVEN)),
    ]


async def test_what_the_operator_makes_names_its_owner_without_leave_to_update_finalizers(
    cluster: KubernetesObjects, want: DesiredService
) -> None:
    for kind, body in built(want) + built(replace(want, digest="other", cpu=2)):
        stored = await cluster.apply(kind, body)

        (owner,) = stored["metadata"]["ownerReferences"]
        assert (owner["uid"], owner.get("blockOwnerDeletion", False)) == (want.uid, False)


@pytest.mark.parametrize("number", [0, 1], ids=["deployment", "kserve"])
async def test_an_owner_that_blocks_would_need_that_leave(
    cluster: KubernetesObjects, want: DesiredService, number: int
) -> None:
    kind, body = built(want)[number]
    body["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] = True

    with pytest.raises(RejectedError, match="cannot set blockOwnerDeletion"):
        await cluster.apply(kind, body)
