"""Reading tenant settings from a real API server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from control_plane import ControlPlane
from pelagos.engines.kubernetes.rest import Answer, KubernetesRest
from pelagos.engines.kubernetes.tenants import KubernetesTenants
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.tenants import Tenant
from pelagos.wiring import Credentials, rest_client
from tenancy.conftest import HOME, PLACE

DEFAULTS = Tenant(tracking_secret="mlflow", objects_secret="s3", data_claim="data", objects_claim="objects")


@dataclass
class Clock:
    """A clock in seconds that the test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def trusting(plane: ControlPlane) -> ssl.SSLContext:
    """A context that trusts the API server's certificate."""
    return ssl.create_default_context(cafile=str(plane.authority))


class Counting(KubernetesRest):
    """Counts the requests that are really sent."""

    asked = 0

    async def get(self, path: str, *, timeout: float = 10.0) -> Answer:
        self.asked += 1
        return await super().get(path, timeout=timeout)


def usual(namespace: str) -> Tenant:
    """The tenant settings of a namespace without its own."""
    return replace(DEFAULTS, storage_prefix=namespace, experiment_prefix=f"{namespace}/")


async def test_a_namespace_without_tenant_settings_has_those_of_the_installation_and_is_apart_from_others(
    api: KubernetesRest, namespace: str
) -> None:
    assert await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace) == usual(namespace)


async def test_a_namespace_that_does_not_exist_has_those_of_the_installation(api: KubernetesRest) -> None:
    assert await KubernetesTenants(api, DEFAULTS, PLACE).find("no-such-namespace") == usual("no-such-namespace")


async def test_tenant_settings_for_something_else_leave_a_namespace_apart_from_others(
    api: KubernetesRest, namespace: str, agree: Callable[..., None]
) -> None:
    agree(namespace, {"queue": "gpu"})

    assert await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace) == replace(usual(namespace), queue="gpu")


async def test_empty_prefixes_share_storage_and_experiments(
    api: KubernetesRest, namespace: str, agree: Callable[..., None]
) -> None:
    agree(namespace, {"storagePrefix": "", "experimentPrefix": ""})

    assert await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace) == DEFAULTS


async def test_keys_take_the_place_of_defaults(api: KubernetesRest, namespace: str, agree: Callable[..., None]) -> None:
    given = {
        "experimentPrefix": "institute/",
        "storagePrefix": "institute/plankton",
        "queue": "gpu",
        "serviceAccount": "workload",
        "trackingSecret": "own-mlflow",
        "objectsClaim": "",
        "imagePullSecrets": "one, two",
        "maxGpus": "4",
        "sourceHosts": "https://cvat.lab.example, 10.20.0.0/16",
    }
    agree(namespace, given)

    assert await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace) == Tenant(
        experiment_prefix="institute/",
        storage_prefix="institute/plankton",
        queue="gpu",
        service_account="workload",
        tracking_secret="own-mlflow",
        objects_secret="s3",
        data_claim="data",
        objects_claim="objects",
        image_pull_secrets=("one", "two"),
        max_gpus=4,
        source_hosts="https://cvat.lab.example, 10.20.0.0/16",
    )


async def test_one_tenant_does_not_see_the_tenant_settings_of_another(
    api: KubernetesRest, namespace: str, plane: ControlPlane, agree: Callable[..., None]
) -> None:
    agree(namespace, {"storagePrefix": "institute"})
    plane.create_namespace(f"{namespace}-other")
    tenants = KubernetesTenants(api, DEFAULTS, PLACE)

    assert (await tenants.find(namespace)).storage_prefix == "institute"
    assert (await tenants.find(f"{namespace}-other")).storage_prefix == f"{namespace}-other"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"data": {"storagePrefix": "../other"}}, "storagePrefix is '../other'; allowed is"),
        ({"data": {"colour": "blue"}}, "colour is not a known key"),
        ({"data": {}, "binaryData": {"queue": "Z3B1"}}, "queue is in binaryData, which is not read"),
    ],
)
async def test_what_cannot_be_used_is_refused_in_words(
    api: KubernetesRest, namespace: str, agree: Callable[..., None], content: dict[str, Any], words: str
) -> None:
    agree(namespace, **content)

    with pytest.raises(RejectedError) as caught:
        await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace)

    assert f"ConfigMap pelagos-tenant-{namespace} of namespace {HOME}: {words}" in str(caught.value)
    assert caught.value.reason == "TenantRefused"


async def test_an_answer_is_good_for_half_a_minute(
    plane: ControlPlane, namespace: str, agree: Callable[..., None]
) -> None:
    api, clock = Counting(plane.url, tls=trusting(plane), token=plane.token), Clock()
    tenants = KubernetesTenants(api, DEFAULTS, PLACE, clock=clock)
    await asyncio.gather(*(tenants.find(namespace) for _ in range(20)))
    agree(namespace, {"queue": "gpu"})
    clock.now = 29.9
    before = await tenants.find(namespace)
    clock.now = 30.1

    assert before.queue == ""
    assert (await tenants.find(namespace)).queue == "gpu"
    # Twice its own namespace and the platform's, and the namespaces of resources of the two kinds that store anything: read
    # again, since something has changed.
    assert api.asked == 2 * (2 + 2)
    clock.now = 60.3
    await tenants.find(namespace)
    assert api.asked == 2 * (2 + 2) + 2
    await api.close()


async def test_a_refusal_is_forgotten_as_well(api: KubernetesRest, namespace: str, agree: Callable[..., None]) -> None:
    clock = Clock()
    tenants = KubernetesTenants(api, DEFAULTS, PLACE, clock=clock)
    agree(namespace, {"queue": "GPU"})
    with pytest.raises(RejectedError):
        await tenants.find(namespace)

    agree(namespace, {"queue": "gpu"})
    clock.now = 31

    assert (await tenants.find(namespace)).queue == "gpu"


async def test_where_the_operator_has_no_rights_the_command_that_gives_them_is_reported(
    plane: ControlPlane, namespace: str
) -> None:
    stranger = rest_client(Credentials(plane.url, None, str(plane.authority), None))

    with pytest.raises(RejectedError) as caught:
        await KubernetesTenants(stranger, DEFAULTS, PLACE).find(namespace)

    assert f"the operator has no rights in the namespace {namespace}" in str(caught.value)
    command = (
        f"kubectl create rolebinding pelagos-operator --namespace {namespace} --clusterrole pelagos-operator-tenant"
    )
    assert f"{command} --serviceaccount {HOME}:pelagos-operator" in str(caught.value)
    assert caught.value.reason == "NamespaceNotAdmitted"
    await stranger.close()


@pytest.mark.parametrize("namespace", ["kube-system", "kube-public"])
async def test_a_namespace_of_the_cluster_itself_is_never_a_tenant(api: KubernetesRest, namespace: str) -> None:
    with pytest.raises(RejectedError, match="never a tenant") as caught:
        await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace)

    assert caught.value.reason == "TenantRefused", "nobody need wait for it"


@pytest.mark.parametrize("agreed", [True, False], ids=["beside the platform's", "alone"])
async def test_what_a_tenant_writes_in_its_own_namespace_is_neither_obeyed_nor_passed_over(
    api: KubernetesRest, plane: ControlPlane, namespace: str, agree: Callable[..., None], agreed: bool
) -> None:
    if agreed:
        agree(namespace, {"queue": "gpu"})
    body = {"metadata": {"name": "pelagos-config"}, "data": {"storagePrefix": "institute", "maxGpus": "99"}}
    plane.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", body)

    with pytest.raises(RejectedError) as caught:
        await KubernetesTenants(api, DEFAULTS, PLACE).find(namespace)

    assert f"ConfigMap pelagos-config of namespace {namespace} is no longer read" in str(caught.value)
    assert f"belongs in the ConfigMap pelagos-tenant-{namespace} of {HOME}" in str(caught.value)
    assert f"kubectl delete configmap pelagos-config --namespace {namespace}" in str(caught.value)


async def test_an_api_server_that_is_away_is_an_outage(plane: ControlPlane, namespace: str) -> None:
    nowhere = KubernetesRest("https://127.0.0.1:9", tls=trusting(plane), token=plane.token)

    with pytest.raises(OutageError):
        await KubernetesTenants(nowhere, DEFAULTS, PLACE).find(namespace)
    await nowhere.close()
