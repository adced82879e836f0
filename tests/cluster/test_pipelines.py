"""Pipeline runs on a real node: the engine kubeflow, a fake server outside of the cluster, and real pods of the trainer's image.

The operator gets a truthful state, regardless of what schedulers, kubelets and container engines do to pods.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import pipeline_worlds
from cluster.harness.cluster import Cluster
from cluster.platform.environments import TRAINER
from cluster.platform.services import serve_workflows
from kfp_fake_server.kubernetes import Connection, Kubernetes
from kfp_fake_server.server import FakeServer
from kubeflow_worlds import COMPILED, NAME, make_request
from pelagos.engines.kubeflow.ending import Timeouts
from pelagos.engines.kubeflow.engine import Kubeflow, KubeflowConfig
from pelagos.engines.kubeflow.placement import STEP, Mount, PodDefaults
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.engines.kubernetes.objects import KubernetesObjects
from pelagos.ports.pipelines import FINISHED, PipelineRun, RunRequest, RunResources, RunState
from pelagos.ports.placement import Placement
from pelagos.ports.tenants import Tenant

SECONDS = 240.0


@dataclass
class Pipelines:
    """The engine and where its steps run. ``folder`` is the data volume, on this machine and in every pod."""

    cluster: Cluster
    namespace: str
    server: FakeServer
    engine: Kubeflow
    folder: Path

    def controllable(self, **changes: Any) -> RunRequest:
        """The request for a run whose step waits for a file."""
        return make_request(parameters={"folder": str(self.folder)}, **changes)

    async def begun(self) -> None:
        """Wait until the step is running."""
        deadline = time.monotonic() + SECONDS
        while not (self.folder / "begun").exists():
            run = await self.engine.find(NAME)
            if run is None or run.state in FINISHED or time.monotonic() > deadline:
                raise AssertionError(f"should begin, and is {run}\n{self.cluster.describe(self.namespace)}")
            await asyncio.sleep(0.2)
        # The pod may have begun before the server saw it: if it is deleted then, it is created again as one that never began.
        while not self.server.execution.begun:
            if time.monotonic() > deadline:
                raise AssertionError(f"the server should see it begin\n{self.cluster.describe(self.namespace)}")
            await asyncio.sleep(0.2)
        await self.reach(RunState.RUNNING)

    async def reach(self, *states: RunState, words: str = "") -> PipelineRun:
        """Poll until the run is in one of the states and its message contains the words."""
        deadline = time.monotonic() + SECONDS
        while True:
            run = await self.engine.find(NAME)
            if run is not None and run.state in states and words in run.message:
                return run
            if time.monotonic() > deadline:
                raise AssertionError(f"should be {states}, and is {run}\n{self.cluster.describe(self.namespace)}")
            await asyncio.sleep(0.3)

    def pods(self) -> list[dict[str, Any]]:
        """Pods of steps, without drivers."""
        which = f"--selector=app.kubernetes.io/name={STEP}"
        said = self.cluster.kubectl("get", "pods", which, f"--namespace={self.namespace}", "--output=json")
        found: list[dict[str, Any]] = json.loads(said)["items"]
        return found


def _connection(cluster: Cluster, namespace: str, folder: Path) -> Connection:
    """A connection with the rights of KFP's own controllers: pods of the namespace."""
    account = f"--serviceaccount={namespace}:default"
    cluster.kubectl(
        "create", "rolebinding", "steps", "--clusterrole=cluster-admin", account, f"--namespace={namespace}"
    )
    # The server checks the rights of the steps' account, which is the same here.
    cluster.kubectl(
        "create", "clusterrolebinding", f"reviews-{namespace}", "--clusterrole=system:auth-delegator", account
    )
    config = yaml.safe_load(cluster.service_account_kubeconfig(namespace, "default").read_text())
    server = config["clusters"][0]["cluster"]
    token, authority = folder / "token", folder / "authority.pem"
    token.write_text(config["users"][0]["user"]["token"])
    if "certificate-authority" in server:
        authority = Path(server["certificate-authority"])
    else:
        authority.write_bytes(base64.b64decode(server["certificate-authority-data"]))
    return Connection(server["server"], token, authority)


def _create_volumes(cluster: Cluster, namespace: str, folder: Path) -> None:
    folder.chmod(0o755)
    for name in ("data", "objects"):
        cluster.create_volume(name, folder / name, namespace)


@pytest.fixture
async def pipelines(
    cluster: Cluster, namespace: str, trainer_image: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Pipelines]:
    """Pipelines with the controllable flows; parametrize indirectly with False for the real ones."""
    compiled = COMPILED
    if getattr(request, "param", True):
        compiled = tmp_path / "compiled"
        compiled.mkdir()
        pipeline_worlds.compile_flows(compiled)
    data, objects = tmp_path / "data", tmp_path / "objects"
    _create_volumes(cluster, namespace, tmp_path)
    serve_workflows(cluster)
    extra = TRAINER.bind(cluster, namespace).as_extra()
    server = FakeServer(Kubernetes(_connection(cluster, namespace, tmp_path), namespace, extra, cluster.images.base()))
    await server.start()
    pod_defaults = PodDefaults(
        image=trainer_image,
        image_pull_policy="Never",
        data=Mount("data", str(data)),
        objects=Mount("objects", str(objects)),
        tracking_secret="mlflow",
    )
    # A pod is deleted once its processes have ended, for which they have the usual half a minute.
    site = KubeflowConfig(compiled, pod_defaults, namespace=namespace, one_tenant=True, timeouts=Timeouts(end=60))
    rest = cluster.rest()
    engine = Kubeflow(KubeflowRest(server.url), site, objects=KubernetesObjects(rest))
    yield Pipelines(cluster, namespace, server, engine, data)
    await rest.close()
    await server.stop()
    assert server.violations == []


def _sized(request: RunRequest, *, time_limit: int = 0, **placement: Any) -> RunRequest:
    # With the other containers of its pod a step asks for one core.
    placed = Placement(millicores=900, millicores_limit=1000, **placement)
    resources = RunResources(cpu=1, time_limit=time_limit, placement=placed)
    return replace(request, resources=resources, tenant=Tenant(pipeline_service_account="default"))


async def test_a_step_runs_restricted_with_what_it_was_given(pipelines: Pipelines) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mlflow", "namespace": pipelines.namespace}}
    pipelines.cluster.apply({**secret, "stringData": {"MLFLOW_TRACKING_TOKEN": "canary"}})
    await pipelines.engine.submit(_sized(pipelines.controllable(), memory="512Mi", shared_memory="96Mi"))
    await pipelines.begun()
    assert (await pipelines.reach(RunState.RUNNING)).started_at is not None
    (pod,) = pipelines.pods()
    execute = ("exec", pod["metadata"]["name"], f"--namespace={pipelines.namespace}", "--")

    assert pipelines.cluster.kubectl(*execute, "id", "-u") == "10001\n"
    assert " 96M " in pipelines.cluster.kubectl(*execute, "df", "-h", "/dev/shm")
    facts = json.loads((pipelines.folder / "facts.json").read_text())
    assert facts["environment"].items() >= {"MLFLOW_TRACKING_TOKEN": "canary", "OMP_NUM_THREADS": "1"}.items()
    assert "MLFLOW_TRACKING_USERNAME" not in facts["environment"]

    (pipelines.folder / "succeed").touch()
    run = await pipelines.reach(RunState.SUCCEEDED)
    assert run.finished_at is not None
    assert "canary" not in json.dumps([run.document() for run in pipelines.server.store.runs.values()])
    await pipelines.engine.delete(NAME)
    assert pipelines.pods() == []


async def test_canceling_ends_the_processes_of_the_step(pipelines: Pipelines) -> None:
    await pipelines.engine.submit(_sized(pipelines.controllable(), memory="512Mi"))
    await pipelines.begun()

    await pipelines.engine.cancel(NAME)

    assert (await pipelines.reach(RunState.CANCELED)).finished_at is not None
    assert pipelines.pods() == []


async def test_a_step_that_raises_fails_the_run_with_its_words(pipelines: Pipelines) -> None:
    (pipelines.folder / "fail").write_text("the nets were empty")
    await pipelines.engine.submit(_sized(pipelines.controllable(), memory="512Mi"))

    await pipelines.reach(RunState.FAILED, words="ValueError: the nets were empty")


async def test_a_node_that_is_drained_interrupts_the_run_and_the_next_attempt_goes_on(pipelines: Pipelines) -> None:
    await pipelines.engine.submit(_sized(pipelines.controllable(), memory="512Mi"))
    await pipelines.begun()
    pipelines.cluster.drain(pods="app.kubernetes.io/part-of=pelagos")
    try:
        run = await pipelines.reach(RunState.INTERRUPTED)
        assert "ended without an outcome" in run.message
        again = replace(_sized(pipelines.controllable(), memory="512Mi"), attempt=2)
        assert (await pipelines.engine.submit(again)).attempt == 2
        await pipelines.reach(RunState.PENDING, words="nodes are available")
    finally:
        pipelines.cluster.uncordon()

    (pipelines.folder / "succeed").touch()
    assert (await pipelines.reach(RunState.SUCCEEDED)).attempt == 2


async def test_the_cluster_ends_a_run_at_its_time_limit_by_itself(pipelines: Pipelines) -> None:
    await pipelines.engine.submit(_sized(pipelines.controllable(), memory="512Mi", time_limit=25))
    await pipelines.begun()

    await pipelines.reach(RunState.FAILED, words="DeadlineExceeded")


@pytest.mark.parametrize("pipelines", [False], indirect=True, ids=["real-flow"])
async def test_a_gpu_that_no_node_has_is_waited_for_and_named(pipelines: Pipelines) -> None:
    names = ("request", "data_root", "store", "report", "workspace", "tracking_uri", "tracking_run")
    request = make_request(flow="training", parameters=dict.fromkeys(names, "x"))
    await pipelines.engine.submit(_sized(request, gpus=1, memory="512Mi"))

    await pipelines.reach(RunState.PENDING, words="Insufficient nvidia.com/gpu")


@pytest.mark.parametrize("pipelines", [False], indirect=True, ids=["real-flow"])
async def test_a_dataset_version_is_prepared_on_volumes(pipelines: Pipelines) -> None:
    for number in range(24):
        _draw(pipelines.folder / "samples" / "frames" / ("cod", "eel", "ray")[number % 3] / f"{number}.png", number)
    objects = pipelines.folder.parent / "objects"
    recipe = {"source": {"volume": {"path": "samples/frames"}}, "format": "ImageFolder", "task": "Classification"}
    parameters = {
        "request": json.dumps(recipe),
        "data_root": str(pipelines.folder),
        "store": str(objects / "reef"),
        "report": str(objects / "reports" / NAME),
    }
    await pipelines.engine.submit(_sized(make_request(parameters=parameters), memory="2Gi"))

    await pipelines.reach(RunState.SUCCEEDED)
    result = json.loads((objects / "reports" / NAME / "result.json").read_text())
    assert (result["images"], [each["name"] for each in result["classes"]]) == (24, ["cod", "eel", "ray"])
    assert list(objects.glob("reef/versions/*/manifest.json"))


def _draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(noise).save(path)
