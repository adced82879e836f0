"""A real API server that allows restricted pods only takes every pod that Pelagos leads to, by dry runs of an ordinary account.

The server has PodSecurityPolicy, the forerunner of Pod Security. A policy writes what is lacking into a pod before it judges,
which Pod Security does not do; so nothing about security may differ in what comes back.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import urllib.error
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import pod_security
import rendering
from control_plane import ControlPlane
from installed import Site
from kfp_fake_server import pods as steps
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

Pod = dict[str, Any]

NAMESPACE, ACCOUNT = "restricted", "somebody"
POLICY = Path(__file__).with_name("restricted_policy.yaml")
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
def somebody(strict_site: Site) -> ControlPlane:
    """The server as an account sees it that may create restricted pods only."""
    strict_site.kubectl("apply", "-f", str(POLICY))
    return dataclasses.replace(strict_site.plane, token=strict_site.token(ACCOUNT, NAMESPACE))


def dry_run(somebody: ControlPlane, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> Pod:
    """The pod as the server would store it. Raises HTTPError where it refuses."""
    named = {key: metadata[key] for key in ("labels", "annotations") if key in metadata} | {"name": "pod"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec}
    found: Pod = somebody.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods?dryRun=All", pod)
    return found


def security(spec: Mapping[str, Any]) -> list[Any]:
    """All that a pod says about security; options of SELinux that choose nothing say nothing."""
    contexts = [
        each.get("securityContext", {}) for each in (spec, *spec.get("initContainers", ()), *spec["containers"])
    ]
    hosts = [spec.get(name, False) for name in ("hostNetwork", "hostPID", "hostIPC")]
    return [{key: value for key, value in context.items() if value != {}} for context in contexts] + hosts


def takes(somebody: ControlPlane, templates: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """Each pod is taken as it is, under the restricted policy."""
    assert templates
    for metadata, spec in templates:
        stored = dry_run(somebody, metadata, spec)

        assert stored["metadata"]["annotations"]["kubernetes.io/psp"] == "restricted"
        assert security(stored["spec"]) == security(spec)
        assert pod_security.violations(metadata, spec) == []  # what a policy cannot say


@pytest.mark.parametrize("overlay", rendering.OVERLAYS)
def test_a_server_takes_the_operator(somebody: ControlPlane, overlay: str) -> None:
    bodies = rendering.kustomize(rendering.MANIFESTS / "overlays" / overlay)

    takes(somebody, [pod for body in bodies for pod in pod_security.templates(body)])


@pytest.mark.parametrize("how", ["from a claim", "from object storage"])
def test_a_server_takes_model_servers(somebody: ControlPlane, how: str) -> None:
    deployment = deployment_manifests.deployment(WANTS[how], "name: 'detector'", GIVEN)

    takes(somebody, list(pod_security.templates(deployment)))


@pytest.mark.parametrize("how", WANTS)
def test_a_server_takes_what_kserve_makes_of_an_inference_service(somebody: ControlPlane, how: str) -> None:
    service = kserve_manifests.inference_service(WANTS[how], "name: 'detector'", GIVEN)
    service["metadata"]["uid"] = "5f0d"
    (runtime,) = rendering.documents((rendering.MANIFESTS / "kserve/clusterservingruntime.yaml").read_text())
    deployment = controller._deployment(service, runtime, [])

    takes(somebody, list(pod_security.templates(deployment)))


@pytest.fixture
async def server() -> AsyncIterator[tuple[FakeServer, ByHand]]:
    """A pipeline server whose steps go on when a test says so."""
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

    assert len(hand.pods) == count
    rendered = [steps.render(pod, NAMESPACE) for pod in hand.pods]
    takes(somebody, [(pod["metadata"], pod["spec"]) for pod in rendered])


def has_begun(hand: ByHand, number: int) -> bool:
    return len(hand.pods) > number


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something in the pipeline server."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)


REFUSED: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "privileged": {"container security": {"privileged": True, "allowPrivilegeEscalation": True}},
    "allowPrivilegeEscalation": {"container security": {"allowPrivilegeEscalation": True}},
    "capabilities.add": {"container security": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}},
    "root UID": {"pod security": {"runAsUser": 0}},
    "runAsNonRoot": {"pod security": {"runAsNonRoot": False}, "container security": {"runAsUser": 0}},
    "seLinuxOptions": {"pod security": {"seLinuxOptions": {"type": "spc_t"}}},
    "sysctl": {"pod security": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "hostPath": {"pod": {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}},
    "hostNetwork": {"pod": {"hostNetwork": True}},
    "hostPID": {"pod": {"hostPID": True}},
    "hostIPC": {"pod": {"hostIPC": True}},
    "hostPort": {"container": {"ports": [{"containerPort": 8080, "hostPort": 8080}]}},
}
LACKING: dict[str, tuple[str, Mapping[str, Any]]] = {
    "runAsNonRoot": ("pod security", {"runAsNonRoot": None, "runAsUser": None}),
    "allowPrivilegeEscalation": ("container security", {"allowPrivilegeEscalation": None}),
    "capabilities": ("container security", {"capabilities": None}),
    "all capabilities": ("container security", {"capabilities": {"drop": ["NET_RAW"]}}),
}


def places() -> tuple[Pod, dict[str, dict[str, Any]]]:
    """The operator's pod, and where it can be changed."""
    (body,) = (
        body for body in rendering.kustomize(rendering.MANIFESTS / "overlays/cluster") if body["kind"] == "Deployment"
    )
    pod = copy.deepcopy(body["spec"]["template"]["spec"])
    container = pod["containers"][0]
    pod |= {"volumes": [], "containers": [container]}
    container["volumeMounts"] = []
    named = {"pod": pod, "pod security": pod["securityContext"], "container": container}
    return pod, named | {"container security": container["securityContext"]}


@pytest.mark.parametrize("what", REFUSED)
def test_a_server_refuses_what_the_standard_forbids(somebody: ControlPlane, what: str) -> None:
    pod, where = places()
    assert dry_run(somebody, {}, pod)
    for place, change in REFUSED[what].items():
        where[place].update(change)

    with pytest.raises(urllib.error.HTTPError) as refused:
        dry_run(somebody, {}, pod)
    assert refused.value.code == 403
    assert what in "".join(refused.value.__notes__)


@pytest.mark.parametrize("what", LACKING)
def test_what_a_pod_lacks_shows_in_what_the_server_adds(somebody: ControlPlane, what: str) -> None:
    pod, where = places()
    place, change = LACKING[what]
    where[place].update(change)

    assert security(dry_run(somebody, {}, pod)["spec"]) != security(pod)


def test_the_policy_is_what_refuses(strict_site: Site, somebody: ControlPlane) -> None:
    pod, where = places()
    where["container security"].update(REFUSED["privileged"]["container security"])

    assert dry_run(strict_site.plane, {}, pod)["metadata"]["annotations"]["kubernetes.io/psp"] == "anything"
