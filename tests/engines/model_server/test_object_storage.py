"""A package on S3-compatible storage gets into the pod, with the tenant's own credentials and no others.

API server, storage (moto) and Triton are real processes; nodes and KServe are fake servers.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane import ControlPlane
from object_storage import ObjectStorage
from pelagos.engines.model_server.object_kinds import INFERENCE_SERVICES
from pelagos.engines.s3.client import Service
from pelagos.engines.s3.objects import S3Objects
from pelagos.ports.serving import DesiredService, ServiceState
from pelagos.ports.tenants import Tenant
from serving_clusters import ServingCluster, options, serving_cluster, until

MakeWant = Callable[..., DesiredService]
UID = "uid-on-s3"


@pytest.fixture(params=["deployment", "kserve"])
async def site(
    request: pytest.FixtureRequest, plane: ControlPlane, bucket: str, object_storage: ObjectStorage, tmp_path: Path
) -> AsyncIterator[ServingCluster]:
    root = f"s3://{bucket}/objects"
    given = options(
        Path("/"), objects_root=root, objects_claim="", s3_endpoint=object_storage.url, s3_region="us-east-1"
    )
    objects = S3Objects(root, Service(object_storage.url))
    async with serving_cluster(plane, request.param, tmp_path.parent, tmp_path, given, objects) as made:
        yield made


def give_credentials(site: ServingCluster, storage: ObjectStorage, secret_key: str) -> None:
    """A Secret for both engines; KServe finds it by the ServiceAccount, and the endpoint in its annotations."""
    values = {"AWS_ACCESS_KEY_ID": storage.access[0], "AWS_SECRET_ACCESS_KEY": secret_key}
    endpoint = {
        "serving.kserve.io/s3-endpoint": storage.url.removeprefix("http://"),
        "serving.kserve.io/s3-usehttps": "0",
    }
    core = f"/api/v1/namespaces/{site.namespace}"
    metadata = {"name": "s3-of-the-lab", "annotations": endpoint}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    site.plane.request("POST", f"{core}/secrets", {"metadata": metadata, "data": data})
    account = {"metadata": {"name": "lab"}, "secrets": [{"name": "s3-of-the-lab"}]}
    site.plane.request("POST", f"{core}/serviceaccounts", account)


def put(storage: ObjectStorage, bucket: str, package: Path) -> None:
    for path in package.rglob("*"):
        if path.is_file():
            storage.put(bucket, f"objects/packages/1/{path.relative_to(package).as_posix()}", path.read_bytes())


def wanted(site: ServingCluster, want: DesiredService, bucket: str) -> DesiredService:
    tenant = Tenant(objects_secret="s3-of-the-lab", service_account="lab")
    return replace(site.in_namespace(want), package_uri=f"s3://{bucket}/objects/packages/1", tenant=tenant)


async def test_a_package_on_object_storage_is_served(
    site: ServingCluster, bucket: str, object_storage: ObjectStorage, make_want: MakeWant
) -> None:
    want = make_want(uid=UID)
    put(object_storage, bucket, Path(want.package_uri))
    give_credentials(site, object_storage, object_storage.access[1])
    await site.serving.apply(wanted(site, want, bucket))
    seen = await until(site.serving, UID, ServiceState.LOADED, ServiceState.DEAD, ServiceState.LOAD_FAILED)
    assert (seen.state, seen.message) == (ServiceState.LOADED, "")
    assert (await site.serving.probe(UID)).correct
    if site.kserve is not None:
        (made,) = await site.cluster.list(INFERENCE_SERVICES, site.namespace)
        assert made["spec"]["predictor"]["storageContainerName"] == "pelagos"


async def test_a_graph_that_was_altered_on_the_storage_is_not_served(
    site: ServingCluster, bucket: str, object_storage: ObjectStorage, make_want: MakeWant
) -> None:
    want = make_want(uid=UID)
    put(object_storage, bucket, Path(want.package_uri))
    object_storage.put(bucket, "objects/packages/1/model.onnx", b"something else")
    give_credentials(site, object_storage, object_storage.access[1])
    await site.serving.apply(wanted(site, want, bucket))
    seen = await until(site.serving, UID, ServiceState.LOADED, ServiceState.DEAD, ServiceState.LOAD_FAILED)
    assert seen.state is ServiceState.LOAD_FAILED
    assert "model.onnx has been altered" in seen.message


@pytest.mark.parametrize("site", ["kserve"], indirect=True)
async def test_an_account_that_lists_no_secret_is_said_to_be_so_and_no_server_has_died(
    site: ServingCluster, bucket: str, object_storage: ObjectStorage, make_want: MakeWant
) -> None:
    want = make_want(uid=UID)
    put(object_storage, bucket, Path(want.package_uri))
    site.plane.request("POST", f"/api/v1/namespaces/{site.namespace}/serviceaccounts", {"metadata": {"name": "lab"}})
    await site.serving.apply(wanted(site, want, bucket))
    seen = await until(site.serving, UID, ServiceState.LOADED, ServiceState.DEAD, ServiceState.FETCH_FAILED)
    assert seen.state is ServiceState.FETCH_FAILED
    assert "init container storage-initializer of pod " in seen.message
    assert "`secrets` of the ServiceAccount lab" in seen.message
    assert seen.restarts == 0
