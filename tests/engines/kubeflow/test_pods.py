"""The fake server with a cluster: steps become pods on a real API server, and their states reach the operator as messages.

No node runs here: tests write the status of pods.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import urllib.error
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import rendering
from control_plane import ControlPlane
from kfp_fake_server import workflow_kind
from kfp_fake_server.kubernetes import Connection, Kubernetes
from kfp_fake_server.server import FakeServer
from kubeflow_worlds import COMPILED, NAME, make_request
from pelagos.api import reasons
from pelagos.engines.kubeflow import facts, preflight
from pelagos.engines.kubeflow.ending import Timeouts
from pelagos.engines.kubeflow.engine import Kubeflow, KubeflowConfig
from pelagos.engines.kubeflow.placement import Mount, PodDefaults
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.engines.kubernetes.objects import KubernetesObjects
from pelagos.engines.kubernetes.quantities import quantity
from pelagos.ports.errors import UnfinishedError
from pelagos.ports.pipelines import PipelineRun, RunRequest, RunResources, RunState
from pelagos.ports.placement import Placement, Toleration
from pelagos.ports.tenants import Tenant
from serving_clusters import PatientRest

SECONDS = 60.0
PARAMETERS = ("request", "data_root", "store", "report", "workspace", "tracking_uri", "tracking_run")
POD_DEFAULTS = PodDefaults(
    image="registry.example.org/trainer:7",
    data=Mount("data", "/var/pelagos/data"),
    objects=Mount("objects", "/var/pelagos/objects"),
    object_storage=True,
    s3_endpoint="http://minio:9000",
    s3_region="us-east-1",
    objects_secret="s3",
    tracking_secret="mlflow",
    ca_config_map="private-ca",
)
ACCOUNT = "pelagos-pipelines"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
PLACES = {
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Role": (RBAC, "roles"),
    "RoleBinding": (RBAC, "rolebindings"),
}
_numbers = itertools.count(1)


@dataclass
class PodCluster:
    """The engine, its server, and an API server that stores the pods."""

    plane: ControlPlane
    namespace: str
    server: FakeServer
    engine: Kubeflow
    order: dict[str, int] = field(default_factory=dict)

    def everything(self) -> list[dict[str, Any]]:
        """All pods."""
        found: list[dict[str, Any]] = self.plane.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return found

    def pods(self) -> list[dict[str, Any]]:
        """Pods of steps; driver pods are completed as soon as they are seen."""
        found = []
        for pod in self.everything():
            if facts.is_of_step(pod):
                found.append(pod)
            elif pod["status"]["phase"] == "Pending":
                self.become(pod, phase="Succeeded")
        # Creation times are whole seconds, within which several pods can come: they are kept in the order in which they were
        # seen.
        for pod in found:
            self.order.setdefault(pod["metadata"]["name"], len(self.order))
        return sorted(found, key=lambda pod: self.order[pod["metadata"]["name"]])

    async def pod(self, number: int = 0) -> dict[str, Any]:
        """Wait for the pod of a step."""
        deadline = time.monotonic() + SECONDS
        while len(self.pods()) <= number:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        return self.pods()[number]

    def become(self, pod: Mapping[str, Any], **status: Any) -> None:
        """Write a pod's status, as a node or a scheduler would."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}/status"
        self.plane.request("PATCH", path, {"status": status}, kind="application/strategic-merge-patch+json")

    async def reach(self, *states: RunState, words: str = "") -> PipelineRun:
        """Poll until the run is in one of the states and its message contains the words."""
        deadline = time.monotonic() + SECONDS
        while True:
            self.pods()
            run = await self.engine.find(NAME)
            if run is not None and run.state in states and words in run.message:
                return run
            assert time.monotonic() < deadline, f"should be {states} with {words!r}, and is {run}"
            await asyncio.sleep(0.1)


def grant(plane: ControlPlane, namespace: str) -> None:
    """Create the account of steps with its role, as in manifests/tenant/base."""
    for body in rendering.documents((rendering.MANIFESTS / "tenant/base/tenant.yaml").read_text()):
        root, plural = PLACES.get(body["kind"], ("", ""))
        if plural and body["metadata"]["name"] == ACCOUNT:
            body["metadata"]["namespace"] = namespace
            for subject in body.get("subjects", []):
                subject["namespace"] = namespace
            plane.request("POST", f"{root}/namespaces/{namespace}/{plural}", body)


def connection(plane: ControlPlane, folder: Path) -> Connection:
    token = folder / "token"
    token.write_text(plane.token)
    return Connection(plane.url, token, plane.authority)


def serve_workflows(plane: ControlPlane) -> None:
    """Define the kind Workflow, as on a cluster with Argo."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    known = plane.request("GET", definitions)["items"]
    if all(each["metadata"]["name"] != workflow_kind.DEFINITION["metadata"]["name"] for each in known):
        plane.request("POST", definitions, workflow_kind.DEFINITION)
    deadline = time.monotonic() + SECONDS
    while True:
        groups = plane.request("GET", "/apis")["groups"]
        if any(group["name"] == "argoproj.io" for group in groups):
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
async def pods(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[PodCluster]:
    serve_workflows(plane)
    namespace = f"reef-{next(_numbers)}"
    plane.create_namespace(namespace)
    grant(plane, namespace)
    server = FakeServer(
        Kubernetes(connection(plane, tmp_path), namespace, helpers_image="registry.example.org/argoexec:4")
    )
    await server.start()
    site = KubeflowConfig(
        COMPILED,
        POD_DEFAULTS,
        namespace=namespace,
        one_tenant=True,
        timeouts=Timeouts(end=5, poll=0.1, look=timedelta()),
    )
    objects = KubernetesObjects(PatientRest(plane.url, tls=plane.tls(), token=plane.token))
    engine = Kubeflow(KubeflowRest(server.url), site, objects=objects)
    yield PodCluster(plane, namespace, server, engine)
    await objects.close()
    await server.stop()
    assert server.violations == []


def training() -> RunRequest:
    placement = Placement(
        memory="24Gi",
        gpus=2,
        gpu_product="NVIDIA-A10",
        shared_memory="8Gi",
        node_selector={"zone": "a"},
        tolerations=(Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),),
        queue="reef",
    )
    tenant = Tenant(pipeline_service_account=ACCOUNT, image_pull_secrets=("registry",))
    resources = RunResources(cpu=6, placement=placement, time_limit=3600)
    return make_request(flow="training", parameters=dict.fromkeys(PARAMETERS, "x"), resources=resources, tenant=tenant)


async def test_a_step_becomes_the_pod_that_was_asked_for(pods: PodCluster) -> None:
    await pods.engine.submit(training())

    pod = await pods.pod()
    container, _ = pod["spec"]["containers"]
    assert container["image"] == "registry.example.org/trainer:7"
    assert container["resources"] == {
        "requests": {"cpu": "6", "memory": "24Gi", "nvidia.com/gpu": "2"},
        "limits": {"cpu": "6", "memory": "24Gi", "nvidia.com/gpu": "2"},
    }
    assert pod["spec"]["nodeSelector"] == {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-A10"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]
    assert pod["spec"]["activeDeadlineSeconds"] == 3600
    assert pod["spec"]["serviceAccountName"] == ACCOUNT
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert (
        pod["metadata"]["labels"].items()
        >= {
            "kueue.x-k8s.io/queue-name": "reef",
            "pelagos.dev/uid": training().labels["pelagos.dev/uid"],
            "app.kubernetes.io/managed-by": "pelagos-operator",
            "app.kubernetes.io/component": "training",
        }.items()
    )
    security = container["securityContext"]
    assert (security["runAsUser"], security["runAsNonRoot"], security["allowPrivilegeEscalation"]) == (
        10001,
        True,
        False,
    )


@pytest.mark.parametrize("account", ["pelagos-workload", "default"])
async def test_an_account_that_may_not_tell_how_a_step_ended_fails_the_run(pods: PodCluster, account: str) -> None:
    await pods.engine.submit(replace(training(), tenant=Tenant(pipeline_service_account=account)))

    await pods.reach(RunState.FAILED, words=f"{pods.namespace}:{account} cannot get")
    assert pods.pods() == []


async def test_the_account_of_steps_may_read_no_other_secret_and_make_no_pod(pods: PodCluster) -> None:
    user = f"system:serviceaccount:{pods.namespace}:{ACCOUNT}"
    wanted = {
        ("get", "secrets", "mlpipeline-minio-artifact"): True,
        ("get", "secrets", "s3"): False,
        ("list", "secrets", ""): False,
        ("get", "configmaps", "pelagos-tenant-reef"): False,
        ("create", "pods", ""): False,
    }
    for (verb, resource, name), may in wanted.items():
        about = {"namespace": pods.namespace, "verb": verb, "resource": resource, "name": name}
        review = {"spec": {"user": user, "resourceAttributes": about}}
        answer = pods.plane.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        assert answer["status"]["allowed"] is may, (verb, resource, name)


async def test_a_step_has_its_volumes_and_its_secrets_and_no_secret_in_the_open(pods: PodCluster) -> None:
    await pods.engine.submit(training())

    pod = await pods.pod()
    container, _ = pod["spec"]["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume.pop("name"): volume for volume in pod["spec"]["volumes"]}
    assert volumes[mounts["/var/pelagos/data"]] == {"persistentVolumeClaim": {"claimName": "data"}}
    assert volumes[mounts["/var/pelagos/objects"]] == {"persistentVolumeClaim": {"claimName": "objects"}}
    assert volumes[mounts["/dev/shm"]] == {"emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    assert volumes[mounts["/etc/pelagos/ca"]]["configMap"]["name"] == "private-ca"
    plain = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
    secret = {
        variable["name"]: variable["valueFrom"]["secretKeyRef"]
        for variable in container["env"]
        if "valueFrom" in variable
    }
    assert plain.items() >= {"AWS_ENDPOINT_URL": "http://minio:9000", "ULTRALYTICS_SAFE_LOAD": "1"}.items()
    assert plain["AWS_CA_BUNDLE"] == plain["MLFLOW_TRACKING_SERVER_CERT_PATH"] == "/etc/pelagos/ca/ca.crt"
    assert secret["AWS_SECRET_ACCESS_KEY"] == {"name": "s3", "key": "AWS_SECRET_ACCESS_KEY", "optional": False}
    assert secret["MLFLOW_TRACKING_TOKEN"] == {"name": "mlflow", "key": "MLFLOW_TRACKING_TOKEN", "optional": True}


async def test_steps_follow_each_other_and_the_last_holds_no_gpu(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    for number in range(2):
        pod = await pods.pod(number)
        pods.become(pod, phase="Running")
        await pods.reach(RunState.RUNNING)
        pods.become(pod, phase="Succeeded")

    run = await pods.reach(RunState.SUCCEEDED)
    assert run.started_at is not None
    gpus = {}
    for pod in pods.pods():
        container, _ = pod["spec"]["containers"]
        gpus[container["args"][-1]] = container["resources"]["limits"].get("nvidia.com/gpu", "0")
    assert gpus == {"train_evaluate": "2", "export": "0"}


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}


def container_status(**state: Any) -> list[dict[str, Any]]:
    common = {"name": "main", "ready": False, "restartCount": 0, "image": "x", "imageID": "x"}
    return [common | {"state": state}]


async def test_a_pod_without_a_node_waits_and_says_for_what(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    pods.become(await pods.pod(), phase="Pending", conditions=[UNSCHEDULABLE])

    run = await pods.reach(RunState.PENDING, words="Insufficient nvidia.com/gpu")
    assert run.reason == reasons.UNSCHEDULABLE
    assert run.started_at is None


async def test_an_image_that_cannot_be_pulled_is_reported(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    waiting = container_status(waiting={"reason": "ImagePullBackOff", "message": "Back-off pulling image"})
    pods.become(await pods.pod(), phase="Pending", containerStatuses=waiting)

    run = await pods.reach(RunState.PENDING, words="ImagePullBackOff: Back-off pulling image")
    assert run.reason == reasons.IMAGE_NOT_PULLED


def admission_knows(pods: PodCluster) -> None:
    """Wait until admission, which hears of quotas some time after they are stored, refuses a pod that exceeds this one."""
    asked = {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}}
    body = {"metadata": {"name": "asked"}, "spec": {"containers": [{"name": "a", "image": "b", "resources": asked}]}}
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            pods.plane.request("POST", f"/api/v1/namespaces/{pods.namespace}/pods?dryRun=All", body)
        except urllib.error.HTTPError as error:
            if "exceeded quota" in str(error.__notes__):
                return
        time.sleep(0.05)
    raise AssertionError("admission does not hear of the quota")


async def test_a_quota_that_is_used_up_is_told_and_waited_for(pods: PodCluster) -> None:
    quotas = f"/api/v1/namespaces/{pods.namespace}/resourcequotas"
    pods.plane.request(
        "POST", quotas, {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "1"}}}
    )
    status = {"hard": {"requests.nvidia.com/gpu": "1"}, "used": {"requests.nvidia.com/gpu": "0"}}
    pods.plane.request("PATCH", f"{quotas}/gpus/status", {"status": status}, kind="application/merge-patch+json")
    await asyncio.to_thread(admission_knows, pods)

    await pods.engine.submit(training())
    run = await pods.reach(RunState.PENDING, words="exceeded quota")
    assert "can never start in the namespace's quota" in run.message
    assert run.reason == reasons.REQUEST_TOO_LARGE

    pods.plane.request("DELETE", f"{quotas}/gpus")
    await pods.pod()


@pytest.mark.parametrize(
    ("status", "want", "words"),
    [
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            RunState.INTERRUPTED,
            "the pod of step train-evaluate ended without an outcome: Evicted: The node was low on resource: memory.",
        ),
        (
            {"containerStatuses": container_status(terminated={"reason": "OOMKilled", "exitCode": 137})},
            RunState.FAILED,
            "ran out of memory",
        ),
        (
            {"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the specified deadline"},
            RunState.FAILED,
            "DeadlineExceeded",
        ),
        (
            {
                "containerStatuses": container_status(
                    terminated={"reason": "Error", "exitCode": 1, "message": "ValueError: the nets were empty\n"}
                )
            },
            RunState.FAILED,
            "step train-evaluate failed: Error (exit code 1): ValueError: the nets were empty",
        ),
    ],
    ids=["evicted", "out-of-memory", "deadline", "error"],
)
async def test_how_a_pod_ended_is_reported(
    pods: PodCluster, status: dict[str, Any], want: RunState, words: str
) -> None:
    await pods.engine.submit(training())
    pods.become(await pods.pod(), phase="Failed", **status)

    await pods.reach(want, words=words)


async def test_a_pod_that_somebody_deletes_while_it_runs_is_an_interruption(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    pod = await pods.pod()
    pods.become(pod, phase="Running")
    deadline = time.monotonic() + SECONDS
    while not pods.server.execution.begun:  # until Argo has seen it
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    pods.plane.request("DELETE", f"/api/v1/namespaces/{pods.namespace}/pods/{pod['metadata']['name']}")

    await pods.reach(RunState.INTERRUPTED, words="pod deleted")


async def test_a_pod_that_somebody_deletes_before_it_ran_is_made_again(pods: PodCluster) -> None:
    """Argo creates the pod again: nothing is lost with it."""
    await pods.engine.submit(training())
    before = await pods.pod()
    pods.plane.request("DELETE", f"/api/v1/namespaces/{pods.namespace}/pods/{before['metadata']['name']}")
    deadline = time.monotonic() + SECONDS
    while [pod["metadata"]["uid"] for pod in pods.pods()] in ([], [before["metadata"]["uid"]]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)

    pods.become(await pods.pod(), phase="Running")
    assert (await pods.reach(RunState.RUNNING)).attempt == 1


async def test_a_webhook_that_cannot_be_asked_about_a_pod_is_named_and_waited_for(pods: PodCluster) -> None:
    root = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hook = {
        "name": "pods.queues.example.org",
        "clientConfig": {"url": "https://127.0.0.1:1/pods"},
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": pods.namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    metadata = {"name": f"away-{pods.namespace}"}
    pods.plane.request("POST", root, {"metadata": metadata, "webhooks": [hook]})
    try:
        await pods.engine.submit(training())
        await pods.reach(RunState.PENDING, words="pods.queues.example.org")
    finally:
        pods.plane.request("DELETE", f"{root}/{metadata['name']}")

    pods.become(await pods.pod(), phase="Running")
    assert (await pods.reach(RunState.RUNNING)).attempt == 1


async def test_canceling_deletes_the_pod_and_deleting_what_is_left(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    await pods.pod()
    await pods.engine.cancel(NAME)
    assert pods.pods() == []
    assert (await pods.reach(RunState.CANCELED)).finished_at is not None

    await pods.engine.submit(replace(training(), attempt=2))
    pods.become(await pods.pod(), phase="Failed", reason="Evicted")
    await pods.reach(RunState.INTERRUPTED)
    await pods.engine.delete(NAME)
    assert pods.everything() == []


def amount(pod: Mapping[str, Any], resource: str) -> Decimal:
    """What a pod requests, as the scheduler, quotas and Kueue count it."""
    asked = [
        [quantity(each["resources"].get("requests", {}).get(resource)) or Decimal(0) for each in pod["spec"][kind]]
        for kind in ("initContainers", "containers")
    ]
    return max(*asked[0], sum(asked[1], Decimal(0)))


async def test_each_step_is_prepared_by_a_pod_and_asks_for_what_we_reckon_with(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    pod = await pods.pod()

    drivers = [each for each in pods.everything() if not facts.is_of_step(each)]
    assert [facts.step_of(each, ["train-evaluate", "export"]) for each in drivers].count("train-evaluate") == 1
    assert len(drivers) == 2
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["init", "kfp-launcher"]
    assert [each["name"] for each in pod["spec"]["containers"]] == ["main", "wait"]
    assert pod["metadata"]["annotations"]["workflows.argoproj.io/node-id"]
    own = {"cpu": Decimal(6), "memory": Decimal(24 * 1024**3)}
    assert {name: amount(pod, name) - own[name] for name in own} == dict(preflight.HELPERS)


async def test_what_prepares_the_run_waits_for_the_run(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    deadline = time.monotonic() + SECONDS
    while not (found := pods.everything()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    pods.become(found[0], phase="Pending", conditions=[UNSCHEDULABLE | {"message": "0/1 nodes are available."}])

    run = await pods.engine.find(NAME)

    assert run is not None
    assert (run.state, run.reason) == (RunState.PENDING, reasons.UNSCHEDULABLE)
    assert run.message == "the run waits for a node with room: 0/1 nodes are available."


async def test_what_cannot_prepare_a_step_is_told_by_its_own_name(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    deadline = time.monotonic() + SECONDS
    while not (found := pods.everything()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    pods.become(found[0], phase="Failed", containerStatuses=container_status(terminated={"exitCode": 1}))

    run = await pods.reach(RunState.FAILED, words="exit code 1")

    assert f"step {found[0]['metadata']['name']} failed" in run.message


async def test_a_pod_whose_node_does_not_answer_keeps_the_run_from_ending(pods: PodCluster) -> None:
    await pods.engine.submit(training())
    pod = await pods.pod()
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{pod['metadata']['name']}"
    binding = {"metadata": {"name": pod["metadata"]["name"]}, "target": {"kind": "Node", "name": "gone"}}
    pods.plane.request("POST", f"{path}/binding", binding)
    pods.become(pod, phase="Running")
    await pods.reach(RunState.RUNNING)

    with pytest.raises(UnfinishedError, match="is being ended"):
        await pods.engine.cancel(NAME)

    pods.plane.request("DELETE", path, {"gracePeriodSeconds": 0})  # as the node's controller does after some time
    await pods.engine.cancel(NAME)
    assert (await pods.reach(RunState.CANCELED)).message == "the run was canceled"


async def test_a_pod_that_the_cluster_refuses_fails_the_run_in_the_clusters_words(pods: PodCluster) -> None:
    wrong = replace(training().resources, placement=Placement(node_selector={"zone": "not a label value!"}))
    await pods.engine.submit(replace(training(), resources=wrong))

    run = await pods.reach(RunState.FAILED)

    assert "nodeSelector" in run.message
