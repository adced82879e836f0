"""Runs are in their resource's namespace on a server of many users, and in the one namespace of a server of a single user."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeflow_worlds import COMPILED, NAME, UID, Cluster, make_request
from pelagos.engines.kubeflow import engine as kubeflow
from pelagos.engines.kubeflow.engine import Kubeflow
from pelagos.engines.kubeflow.placement import Mount, PodDefaults
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.pipelines import RunName, RunState, SourceSecret
from pelagos.ports.tenants import Tenant
from pelagos.settings import Settings

multi_user = pytest.mark.parametrize("cluster", [True], indirect=True, ids=["multi-user"])


@multi_user
async def test_a_run_is_in_the_namespace_of_its_resource(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())

    assert [run.experiment.namespace for run in cluster.runs()] == ["reef"]
    assert (await cluster.find()).state is RunState.PENDING


@multi_user
async def test_a_new_operator_finds_runs_by_the_namespaces_of_their_resources(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    engine = cluster.new_engine()
    assert await engine.find(NAME) is None, "where nobody knows the resource, its run cannot be found"

    cluster.namespaces[UID] = "reef"

    found = await engine.find(NAME)
    assert found is not None
    assert [run.name for run in await engine.find_owned(UID)] == [NAME]
    await engine.delete(NAME)
    assert cluster.runs() == []


@multi_user
async def test_owned_runs_of_a_namespace_that_is_not_known_are_an_outage_rather_than_none(cluster: Cluster) -> None:
    with pytest.raises(OutageError, match="namespace"):
        await cluster.new_engine().find_owned(UID)


@multi_user
async def test_the_same_resource_name_in_two_namespaces_is_two_runs(cluster: Cluster) -> None:
    other = UID.replace("3c9a", "ffff")
    name = RunName(NAME.replace("3c9a", "ffff"))
    labels = {"pelagos.dev/uid": other, "pelagos.dev/resource": "dataset/kelp/frames"}
    await cluster.engine.submit(make_request())
    await cluster.engine.submit(make_request(name, namespace="kelp", labels=labels))

    assert {run.experiment.namespace for run in cluster.server.store.runs.values()} == {"reef", "kelp"}
    assert [run.name for run in await cluster.engine.find_owned(other)] == [name]


@multi_user
async def test_a_namespace_that_we_may_not_use_is_an_outage_that_names_the_rights(cluster: Cluster) -> None:
    cluster.server.faults.forbidden_namespaces = ["reef"]

    with pytest.raises(OutageError, match=r"403 .*reef.*kubeflow-multi-user by a ClusterRoleBinding"):
        await cluster.engine.submit(make_request())

    cluster.server.faults.forbidden_namespaces = []
    await cluster.engine.submit(make_request())
    assert len(cluster.runs()) == 1


async def test_a_server_of_a_single_user_is_never_told_a_namespace(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request())
    await cluster.new_engine().find_owned(UID)

    assert [run.experiment.namespace for run in cluster.runs()] == [""]
    assert cluster.server.violations == []


async def test_a_single_user_without_its_namespace_is_an_outage_that_names_the_setting(cluster: Cluster) -> None:
    engine = Kubeflow(KubeflowRest(cluster.server.url), replace(cluster.site, namespace=""))

    with pytest.raises(OutageError, match="set PELAGOS_KUBEFLOW_NAMESPACE"):
        await engine.submit(make_request())


async def test_the_account_of_model_servers_is_not_that_of_steps(cluster: Cluster) -> None:
    await cluster.engine.submit(make_request(tenant=Tenant(service_account="reef-servers")))

    assert cluster.runs()[0].service_account == "pipeline-runner", "what the server gives by itself"


COMMON = PodDefaults(
    image="example.org/trainer",
    data=Mount("data", "/data"),
    objects=Mount("objects", "/objects"),
    object_storage=True,
    objects_secret="s3",
    tracking_secret="mlflow",
    ca_config_map="authorities",
)
FOREIGN = {
    "trackingSecret": Tenant(tracking_secret="admin"),
    "objectsSecret": Tenant(objects_secret="mlpipeline-minio-artifact"),
    "dataClaim": Tenant(data_claim="mysql-pv-claim"),
    "objectsClaim": Tenant(objects_claim="minio-pvc"),
    "caConfigMap": Tenant(ca_config_map="pipeline-install-config"),
    "imagePullSecrets": Tenant(image_pull_secrets=("registry",)),
}


def with_surroundings(cluster: Cluster, **changes: Any) -> Kubeflow:
    site = replace(cluster.site, pod_defaults=COMMON, **changes)
    return Kubeflow(KubeflowRest(cluster.server.url), site, clock=cluster.clock)


@pytest.mark.parametrize("key", FOREIGN)
async def test_in_the_common_namespace_a_tenant_may_name_nothing_of_its_own(cluster: Cluster, key: str) -> None:
    engine = with_surroundings(cluster)

    with pytest.raises(RejectedError, match=rf"{key} of the ConfigMap pelagos-tenant-reef is .* Remove the key"):
        await engine.submit(make_request(tenant=FOREIGN[key]))

    assert cluster.runs() == []


async def test_in_the_common_namespace_the_installations_names_and_the_servers_account_are_used(
    cluster: Cluster,
) -> None:
    usual = Tenant(objects_secret="s3", tracking_secret="mlflow", data_claim="data", ca_config_map="authorities")
    tenant = replace(usual, service_account="reef-servers", pipeline_service_account="pipelines-admin")

    await with_surroundings(cluster).submit(make_request(tenant=tenant))

    assert cluster.runs()[0].service_account == "pipeline-runner"


@pytest.mark.parametrize("changes", [{"one_tenant": True}, {"namespace": "reef"}], ids=["one-tenant", "its-own"])
async def test_in_a_namespace_of_its_own_a_tenant_names_what_is_there(cluster: Cluster, changes: Any) -> None:
    tenant = Tenant(objects_secret="s3-of-the-reef", pipeline_service_account="reef-runner")

    await with_surroundings(cluster, **changes).submit(make_request(tenant=tenant))

    run = cluster.runs()[0]
    assert run.service_account == "reef-runner"
    assert "s3-of-the-reef" in str(run.struct)


@multi_user
async def test_what_people_see_of_a_run_names_the_resource(cluster: Cluster) -> None:
    tenant = Tenant(service_account="reef-servers", pipeline_service_account="reef-runner")
    await cluster.engine.submit(make_request(tenant=tenant, attempt=3))

    run = cluster.runs()[0]
    assert run.description == "dataset/reef/frames, attempt 3, started by Pelagos"
    assert (run.experiment.name, run.experiment.description) == (f"pelagos.{UID}", "dataset/reef/frames")
    assert run.service_account == "reef-runner"
    assert (await cluster.find()).url == f"https://kubeflow.example.org/#/runs/details/{run.identifier}"


def make_settings(**values: Any) -> Settings:
    return Settings(kubeflow_url="http://ml-pipeline.kubeflow:8888", trainer_image="example.org/t:1", **values)


def test_settings_describe_the_surroundings_of_steps() -> None:
    folders = {"data_root": Path("/mnt/data"), "objects_root": Path("/mnt/objects")}
    claims = {"data_claim": "data", "objects_claim": "objects"}
    mounted = kubeflow.pod_defaults(make_settings(**folders, **claims, image_pull_policy="Never"))
    stored = kubeflow.pod_defaults(
        make_settings(
            **folders,
            **claims,
            data_uri="s3://b/d",
            objects_uri="s3://b/o",
            s3_endpoint="http://minio:9000",
            objects_secret="s3",
        )
    )

    assert (mounted.data, mounted.objects) == (Mount("data", "/mnt/data"), Mount("objects", "/mnt/objects"))
    assert (mounted.image, mounted.image_pull_policy, mounted.object_storage) == ("example.org/t:1", "Never", False)
    assert (stored.data, stored.objects, stored.object_storage) == (Mount("", ""), Mount("", ""), True)
    assert (stored.s3_endpoint, stored.s3_region, stored.objects_secret) == ("http://minio:9000", "us-east-1", "s3")


async def test_settings_make_an_engine(cluster: Cluster) -> None:
    settings = make_settings(kubeflow_namespace="kubeflow").model_copy(update={"kubeflow_url": cluster.server.url})
    engine = kubeflow.from_settings(settings, COMPILED)

    run = await engine.submit(make_request())

    assert run.url.startswith(f"{cluster.server.url}/#/runs/details/")
    container = cluster.runs()[0].struct["pipeline_spec"]["deploymentSpec"]["executors"]["exec-prepare"]["container"]
    assert container["image"] == "example.org/t:1"


def test_settings_without_the_servers_address_are_refused() -> None:
    with pytest.raises(ValueError, match="PELAGOS_KUBEFLOW_URL"):
        kubeflow.from_settings(Settings(), COMPILED)


@pytest.mark.parametrize("cluster", [False], indirect=True, ids=["single-user"])
async def test_a_secret_of_a_namespace_cannot_be_mounted_in_the_common_one(cluster: Cluster) -> None:
    request = replace(make_request(), secret=SourceSecret("reef-cvat"))
    with pytest.raises(RejectedError, match="secretRef names the Secret reef-cvat; pipelines of all namespaces run in"):
        await cluster.engine.submit(request)
    assert cluster.runs() == []
