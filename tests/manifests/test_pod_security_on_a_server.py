"""Pod Security of a real API server accepts every pod of Pelagos where `restricted` is enforced.

It refuses pods that the standard forbids, so that its acceptance proves something. By dry runs of an ordinary account.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import urllib.error
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import rendering
from control_plane import ControlPlane
from engines.model_server.test_manifests import ADDED
from installed import Site
from kfp_fake_server.by_hand import ByHand
from kfp_fake_server.server import FakeServer
from kserve_fake_server import controller
from kubeflow_worlds import COMPILED, make_request
from pelagos.engines.deployment import manifests as deployment_manifests
from pelagos.engines.kserve import manifests as kserve_manifests
from pelagos.engines.kubeflow.engine import Kubeflow
from pelagos.engines.kubeflow.engine import KubeflowConfig as Server
from pelagos.engines.kubeflow.placement import Mount, PodDefaults
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.engines.model_server.options import Options
from pelagos.ports.pipelines import RunResources
from pelagos.ports.placement import Placement
from pelagos.ports.serving import DesiredService, Scaling
from pelagos.ports.tenants import Tenant
from value_sets import SETS, objects

Pod = dict[str, Any]

NAMESPACE, ACCOUNT = "restricted", "somebody"
NAMESPACES = Path(__file__).with_name("restricted_namespace.yaml")
OLDEST = (1, 25)
"""Every server since this version has Pod Security."""
PLACEMENT = Placement(memory="8Gi", gpus=1, gpu_product="NVIDIA-A10", shared_memory="2Gi", queue="reef")
TENANT = Tenant(
    service_account="pelagos-workload", pipeline_service_account="pelagos-pipelines", image_pull_secrets=("registry",)
)
WANT = DesiredService(
    uid="5f0c", namespace=NAMESPACE, name="detector", model_name="detector", package_uri="/objects/models/1",
    onnx_sha256="0" * 64,
    manifest_sha256="1" * 64, max_batch_size=4, max_queue_delay=1000, instances=1, confidence="0.25", iou="0.7", cpu=1,
    digest="d", placement=PLACEMENT, tenant=TENANT,
)  # fmt: skip
WANTS = {
    "from a claim": WANT,
    "from object storage": dataclasses.replace(WANT, package_uri="s3://science/objects/models/1"),
    "by Knative": dataclasses.replace(WANT, scaling=Scaling(mode="Knative")),
}
GIVEN = Options(
    image="serving:1",
    objects_root="/objects",
    objects_claim="objects",
    objects_secret="s3",
    s3_endpoint="http://s3:9000",
)
CHANGES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "with what a platform adds": {"pods": ADDED},
    "run by whom the cluster gives": {"user": ""},
}
SURROUNDINGS = PodDefaults(
    image="trainer:1",
    data=Mount("data", "/var/pelagos/data"),
    objects=Mount("objects", "/var/pelagos/objects"),
    object_storage=True,
    objects_secret="s3",
    tracking_secret="mlflow",
)


PARAMETERS = {
    "dataset-preparation": ("request", "data_root", "store", "report"),
    "training": ("request", "data_root", "store", "report", "workspace", "tracking_uri", "tracking_run"),
}


@pytest.fixture(scope="module")
def somebody(site: Site) -> Iterator[ControlPlane]:
    """The server for an account that may create pods, in a namespace that accepts only restricted ones and elsewhere."""
    if site.plane.version < OLDEST:
        pytest.skip(f"this server of {site.plane.version} has no Pod Security")
    site.kubectl("apply", "-f", str(NAMESPACES))
    yield dataclasses.replace(site.plane, token=site.token(ACCOUNT, NAMESPACE))
    site.kubectl("delete", "-f", str(NAMESPACES), "--wait=false")
    for namespace in (NAMESPACE, "open"):
        site.finalize(namespace)


def dry_run(
    somebody: ControlPlane, metadata: Mapping[str, Any], spec: Mapping[str, Any], namespace: str = NAMESPACE
) -> Pod:
    """The pod as the server would store it. Raises HTTPError where it refuses."""
    named = {key: metadata[key] for key in ("labels", "annotations") if key in metadata} | {"name": "pod"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec}
    found: Pod = somebody.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
    return found


def takes(somebody: ControlPlane, templates: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """Check that each pod is accepted; otherwise fail with the server's message."""
    assert templates
    for metadata, spec in templates:
        dry_run(somebody, metadata, spec)


def led_to(bodies: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return [pod for body in bodies for pod in rendering.pods(body)]


@pytest.mark.parametrize("overlay", rendering.OVERLAYS)
def test_a_server_takes_the_operator(somebody: ControlPlane, overlay: str) -> None:
    takes(somebody, led_to(rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay)))


@pytest.mark.parametrize("name", SETS)
def test_no_value_makes_a_pod_that_a_server_refuses(somebody: ControlPlane, name: str) -> None:
    takes(somebody, led_to(objects(SETS[name])))


def test_a_server_takes_what_the_sample_of_a_repository_installs(somebody: ControlPlane) -> None:
    takes(somebody, led_to(rendering.kustomize(rendering.MANIFESTS / "samples/gitops/platform")))


@pytest.mark.parametrize("how", ["from a claim", "from object storage"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_server_takes_model_servers(somebody: ControlPlane, how: str, change: str) -> None:
    given = dataclasses.replace(GIVEN, **CHANGES[change])
    deployment = deployment_manifests.deployment(WANTS[how], "name: 'detector'", given)

    takes(somebody, led_to([deployment]))


@pytest.mark.parametrize("how", WANTS)
def test_a_server_takes_what_kserve_makes_of_an_inference_service(somebody: ControlPlane, how: str) -> None:
    service = kserve_manifests.inference_service(WANTS[how], "name: 'detector'", GIVEN)
    service["metadata"]["uid"] = "5f0d"
    ours = rendering.MANIFESTS / "kserve"
    (runtime,) = rendering.documents((ours / "clusterservingruntime.yaml").read_text())
    (storage,) = rendering.documents((ours / "clusterstoragecontainer.yaml").read_text())
    deployment = controller._deployment(service, runtime, storage["spec"]["container"] | {"env": []})

    takes(somebody, led_to([deployment]))


@pytest.fixture
async def server() -> AsyncIterator[tuple[FakeServer, ByHand]]:
    """A pipeline server whose steps continue when a test says so."""
    hand = ByHand()
    running = FakeServer(hand)
    await running.start()
    yield running, hand
    await running.stop()


@pytest.mark.parametrize(("flow", "count"), [("dataset-preparation", 1), ("training", 2)])
async def test_a_server_takes_every_step_of_a_pipeline(
    somebody: ControlPlane, server: tuple[FakeServer, ByHand], flow: str, count: int
) -> None:
    running, hand = server
    site = Server(COMPILED, SURROUNDINGS, namespace=NAMESPACE, one_tenant=True)
    engine = Kubeflow(KubeflowRest(running.url), site)
    resources = RunResources(cpu=6, placement=PLACEMENT, time_limit=3600)
    parameters = dict.fromkeys(PARAMETERS[flow], "x")
    await engine.submit(make_request(flow=flow, parameters=parameters, resources=resources, tenant=TENANT))
    for number in range(count):
        await until(functools.partial(has_begun, hand, number))
        hand.finish(hand.pods[number].run)
    await until(lambda: {run.state for run in running.store.runs.values()} == {"SUCCEEDED"})
    await engine.close()

    assert (len(hand.pods), len(hand.bodies)) == (count, 2 * count + 1)
    takes(somebody, [(pod["metadata"], pod["spec"]) for pod in hand.bodies.values()])


def has_begun(hand: ByHand, number: int) -> bool:
    return len(hand.pods) > number


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition in the pipeline server."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the server does not notify
            await asyncio.sleep(0.05)


REFUSED: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "privileged (": {"container security": {"privileged": True, "allowPrivilegeEscalation": True}},
    "allowPrivilegeEscalation != false": {"container security": {"allowPrivilegeEscalation": None}},
    'securityContext.capabilities.drop=["ALL"]': {"container security": {"capabilities": {"drop": ["NET_RAW"]}}},
    "unrestricted capabilities": {"container security": {"capabilities": None}},
    'must not include "SYS_ADMIN"': {"container security": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}},
    "runAsUser=0": {"pod security": {"runAsUser": 0}},
    "runAsNonRoot != true": {"pod security": {"runAsNonRoot": None}},
    "seccompProfile": {"pod security": {"seccompProfile": None}},
    'type to "Unconfined"': {"pod security": {"seccompProfile": {"type": "Unconfined"}}},
    "AppArmor": {"pod security": {"appArmorProfile": {"type": "Unconfined"}}},
    "seLinuxOptions": {"pod security": {"seLinuxOptions": {"type": "spc_t"}}},
    "forbidden sysctls": {"pod security": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "hostPath": {"pod": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}},
    "hostNetwork=true": {"pod": {"hostNetwork": True}},
    "hostPID=true": {"pod": {"hostPID": True}},
    "hostIPC=true": {"pod": {"hostIPC": True}},
    "hostPort": {"container": {"ports": [{"containerPort": 8080, "hostPort": 8080}]}},
    "10.0.0.1": {"container": {"livenessProbe": {"httpGet": {"path": "/", "port": 80, "host": "10.0.0.1"}}}},
}
"""The server's message, by the difference of a pod from ours."""


@pytest.mark.parametrize("what", REFUSED)
def test_a_server_refuses_what_the_standard_forbids(somebody: ControlPlane, what: str) -> None:
    (deployment,) = (
        body for body in rendering.kustomize(rendering.MANIFESTS / "overlays/cluster") if body["kind"] == "Deployment"
    )
    pod = copy.deepcopy(deployment["spec"]["template"]["spec"])
    container = pod["containers"][0]
    pod |= {"volumes": [], "containers": [container]}
    container["volumeMounts"] = []
    where = {"pod": pod, "pod security": pod["securityContext"], "container": container}
    where["container security"] = container["securityContext"]
    assert dry_run(somebody, {}, pod)
    for place, change in REFUSED[what].items():
        where[place].update(change)

    with pytest.raises(urllib.error.HTTPError) as refused:
        dry_run(somebody, {}, pod)
    assert refused.value.code == 403
    words = "".join(refused.value.__notes__).replace('\\"', '"')
    assert 'violates PodSecurity "restricted:latest"' in words
    assert what in words
    assert dry_run(somebody, {}, pod, "open")  # only Pod Security refuses it


def test_namespaces_enforce_it() -> None:
    namespaces = [body for body in objects(SETS["everything"]) if body["kind"] == "Namespace"]

    assert len(namespaces) == 2
    for body in namespaces:
        for mode in ("enforce", "audit", "warn"):
            assert body["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"
