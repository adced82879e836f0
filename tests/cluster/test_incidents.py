"""What clusters do to workloads: no room, no image, no memory, no quota, evictions. Each has a truthful status, and heals.

One small training of crops is used for all; the installation is the one for clusters without KServe, with objects in S3.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import machine, servers
from cluster.harness.namespaces import Node
from cluster.platform import services
from cluster.platform.client import Client, directly
from cluster.platform.environments import Mounted, serve
from cluster.platform.services import Platform
from cluster.platform.site import OPERATOR, SYSTEM, TENANT, Site, give_storage_credentials
from installations import dataset, service, training

SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", machine.ROOT / ".pelagos/data/samples"))
CROPS = dataset("crops", "samples/phytoplankton-crops", "Classification", resources={"cpu": 1}, deletionPolicy="Delete")

LATE = "pelagos-test/serving:late"
"""An image that does not exist at first."""


def small_training(name: str, epochs: int = 1, **resources: Any) -> dict[str, Any]:
    """A training that takes seconds."""
    asked = {"cpu": 1, "memory": "2Gi", "sharedMemory": "256Mi", **resources}
    return training(name, "crops", "mobilenet_v3_small", epochs, resources=asked, deletionPolicy="Delete")


@pytest.fixture(scope="module")
def site(
    platform: Platform,
    tmp_path_factory: pytest.TempPathFactory,
    operator_image: str,
    serving_image: str,
    trainer_image: str,
) -> Iterator[Site]:
    """Pelagos, and a Dataset that is Ready."""
    cluster = platform.cluster
    platform.upload(SAMPLES / "phytoplankton-crops", f"data/{TENANT}/samples/phytoplankton-crops")
    cluster.create_namespace(SYSTEM)
    give_storage_credentials(cluster, SYSTEM)
    installed = Site.install(
        cluster,
        tmp_path_factory.mktemp("site") / "kustomization",
        overlay="triton-only",
        images={"operator": operator_image, "serving": serving_image, "trainer": trainer_image},
        PELAGOS_S3_ENDPOINT=services.STORAGE,
    )
    installed.apply(CROPS)
    installed.wait_ready("dataset", "crops", 300)
    yield installed
    installed.uninstall()
    cluster.images.remove(LATE)


def message_with(site: Site, kind: str, name: str, *words: str) -> Mapping[str, str]:
    """Wait until Ready is not True and its message contains all ``words``."""

    def told() -> Mapping[str, str] | None:
        ready = site.ready(kind, name)
        return (
            ready if ready.get("status") != "True" and all(word in ready.get("message", "") for word in words) else None
        )

    found: Mapping[str, str] = site.wait(f"{kind} {name} says {words}", told, 120)
    return found


def progress(site: Site, name: str) -> Any:
    """The progress of a training; None before its first epoch."""
    return site.get("trainingrun", name).get("status", {}).get("progress")


def patch(site: Site, kind: str, name: str, spec: Mapping[str, Any]) -> None:
    site.kubectl("patch", f"{kind}/{name}", "--type=merge", "-p", json.dumps({"spec": spec}))


def delete(site: Site, *resources: str) -> None:
    site.kubectl("delete", *resources, "--timeout=120s")


def test_a_training_that_no_quota_or_node_can_take_says_what_is_missing_and_takes_less(site: Site) -> None:
    site.apply(small_training("greedy", gpus=8))

    told = message_with(site, "trainingrun", "greedy", "nvidia.com/gpu: 4 in all", "one step asks for 8")
    assert told["reason"] == "NamespaceNotReady"

    patch(site, "trainingrun", "greedy", {"resources": {"gpus": 4}})
    told = message_with(site, "trainingrun", "greedy", "Insufficient nvidia.com/gpu")
    assert told["reason"] == "Unschedulable"

    patch(site, "trainingrun", "greedy", {"resources": {"gpus": 0}})
    site.wait_ready("trainingrun", "greedy", 240)
    delete(site, "trainingrun/greedy")


def test_a_training_that_runs_out_of_memory_says_so_and_goes_on_with_more(site: Site) -> None:
    site.apply(small_training("hungry", memory="96Mi", sharedMemory="16Mi"))

    told = message_with(site, "trainingrun", "hungry", "memory", "spec.resources.memory")
    assert told["reason"].startswith("Pipeline")

    patch(site, "trainingrun", "hungry", {"resources": {"memory": "2Gi"}})
    site.wait_ready("trainingrun", "hungry", 300)
    delete(site, "trainingrun/hungry")


def test_a_quota_that_is_used_up_is_named_and_waited_for(site: Site) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": "bay"},
        "spec": {"hard": {"pods": "0"}},
    }
    site.cluster.apply(quota)
    site.apply(small_training("patient"))

    message_with(site, "trainingrun", "patient", "exceeded quota")

    site.kubectl("delete", "resourcequota/none")
    site.wait_ready("trainingrun", "patient", 240)
    delete(site, "trainingrun/patient")


def test_a_secret_that_is_missing_is_named_and_used_as_soon_as_it_is_there(site: Site) -> None:
    """A node has taken the pod, so that the node's message is checked as well."""
    site.kubectl("delete", "secret/pelagos-s3")
    site.apply(small_training("keyless"))

    told = message_with(site, "trainingrun", "keyless", "pelagos-s3")
    assert told["reason"] == "StepNotConfigured"

    give_storage_credentials(site.cluster, TENANT)
    site.wait_ready("trainingrun", "keyless", 300)
    delete(site, "trainingrun/keyless")


_ARCHIVES = """
import http.server
class Handler(http.server.SimpleHTTPRequestHandler):
    def send_head(self):
        if self.headers["Authorization"] != "Bearer of-the-bay":
            self.send_error(401)
            return None
        return super().send_head()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""
"""A server of files for anyone with the token."""


def test_a_source_is_fetched_with_the_secret_of_its_namespace_from_where_the_platform_allows(
    site: Site, tmp_path: Path
) -> None:
    folder = tmp_path / "archives"
    shutil.make_archive(str(folder / "crops"), "zip", SAMPLES / "phytoplankton-crops")
    folder.chmod(0o755)
    command = ("-c", f"import os; os.chdir({str(folder)!r})\n{_ARCHIVES}")
    serve(site.cluster, "archives", services.NAMESPACE, 8080, command, Mounted((), data=(folder,)))
    address = f"http://archives.{services.NAMESPACE}:8080"
    fetched = {"http": {"url": f"{address}/crops.zip", "secretRef": {"name": "login"}}}
    far = dataset("far", "unused", "Classification", resources={"cpu": 1}, deletionPolicy="Delete")
    site.apply(far | {"spec": far["spec"] | {"source": fetched}})

    told = message_with(site, "dataset", "far", "login")
    assert told["reason"] == "StepNotConfigured"

    site.kubectl("create", "secret", "generic", "login", "--from-literal=token=of-the-bay")
    told = message_with(site, "dataset", "far", address)
    assert told["reason"] == "SourceNotAllowed"

    settings = ("configmap", f"pelagos-tenant-{TENANT}", f"--namespace={SYSTEM}")
    allowed = {"data": {"sourceHosts": address}}
    site.cluster.kubectl("patch", *settings, "--type=merge", "-p", json.dumps(allowed))
    asked = itertools.count()

    def taken() -> bool:
        """The operator learns of the platform's settings within a minute; until then it refuses as before."""
        ready = site.ready("dataset", "far")
        if ready.get("reason") == "SourceNotAllowed":
            site.kubectl("annotate", "dataset/far", f"pelagos.dev/retry=allowed-{next(asked)}", "--overwrite")
        return ready.get("status") == "True"

    site.wait("far is Ready", taken, 300)
    status = site.get("dataset", "far")["status"]
    assert status["images"] == site.get("dataset", "crops")["status"]["images"]
    assert status["source"]["url"] == f"{address}/crops.zip"
    delete(site, "dataset/far", "secret/login")
    site.cluster.kubectl("patch", *settings, "--type=json", "-p", '[{"op": "remove", "path": "/data/sourceHosts"}]')


def test_a_step_that_is_evicted_is_started_again_and_trains_no_epoch_twice(site: Site, platform: Platform) -> None:
    site.apply(small_training("evicted", epochs=12))
    site.wait("it trains", lambda: progress(site, "evicted"), 240)
    (pod,) = [each for each in site.pods() if each["status"]["phase"] == "Running"]
    # The shell that starts the step does not pass SIGTERM on; with the usual grace period the step could succeed before it is
    # killed.
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod["metadata"]["name"]},
        "deleteOptions": {"gracePeriodSeconds": 1},
    }

    path = f"/api/v1/namespaces/bay/pods/{pod['metadata']['name']}/eviction"
    site.cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))

    status = site.wait_ready("trainingrun", "evicted", 400)["status"]
    (tracked,) = [run for run in platform.tracked_runs() if run["info"]["run_id"] == status["tracking"]["run"]]
    assert tracked["info"]["status"] == "FINISHED"
    assert platform.epochs(TENANT, status["pipelineRun"]["id"]) == list(range(1, 13))
    attempts = {run["display_name"].rpartition("-a")[2] for run in platform.pipeline_runs(TENANT) if run["state"] != ""}
    assert attempts >= {"1", "2"}
    delete(site, "trainingrun/evicted")


def test_an_operator_that_is_killed_while_a_training_runs_adopts_it(site: Site, platform: Platform) -> None:
    site.apply(small_training("adopted", epochs=12))
    site.wait("it trains", lambda: progress(site, "adopted"), 240)
    known = {run["run_id"] for run in platform.pipeline_runs(TENANT)}

    site.cluster.kubectl(
        "delete", "pods", f"--namespace={SYSTEM}", "--all", "--grace-period=0", "--force", "--wait=false"
    )

    status = site.wait_ready("trainingrun", "adopted", 400)["status"]
    assert {run["run_id"] for run in platform.pipeline_runs(TENANT)} == known
    assert platform.epochs(TENANT, status["pipelineRun"]["id"]) == list(range(1, 13))


def test_an_image_that_is_missing_is_named_and_used_as_soon_as_it_is_there(site: Site) -> None:
    """The model trained in test_an_operator_that_is_killed_... is served from an image that becomes available late."""
    cluster = site.cluster
    cluster.images.remove(LATE)  # left by a run that was killed
    variable = f"PELAGOS_SERVING_IMAGE={LATE}"
    cluster.kubectl("set", "env", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", variable)
    cluster.kubectl("rollout", "status", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", "--timeout=120s")
    site.apply(service("late", {"trainingRunRef": {"name": "adopted"}}, resources={"cpu": 1, "memory": "1Gi"}))

    told = message_with(site, "modelservice", "late", LATE)
    assert told["reason"] == "WaitingForCluster"

    cluster.images.tag("pelagos-test/serving:test", LATE)
    site.wait_ready("modelservice", "late", 400)


def test_a_drained_node_interrupts_everything_and_everything_comes_back(site: Site) -> None:
    site.wait_ready("modelservice", "late", 60)
    # The platform's pods keep their data in memory, so they must stay; on a real cluster it would move with them.
    site.cluster.drain(pods="app.kubernetes.io/part-of=pelagos")
    nodes = site.cluster.kubectl("get", "nodes", "-o", "wide")
    assert "SchedulingDisabled" in nodes, f"{servers.NODE} takes pods: {nodes}"

    site.cluster.uncordon()

    site.await_operator()
    site.wait_ready("modelservice", "late", 300)


@pytest.fixture(scope="module")
def second(site: Site, serving_image: str, trainer_image: str) -> Iterator[Node]:
    """A second node, once the first runs a server for the model of test_an_operator_that_is_killed_..."""
    node = site.cluster.add_node(serving_image, trainer_image)
    site.cluster.images.tag(serving_image, LATE)
    yield node
    node.stop()
    site.cluster.kubectl("delete", "node", node.place.name, "--ignore-not-found")


def servers_by_node(site: Site) -> list[str]:
    """The nodes of the model server's pods that are Ready and not being deleted."""
    uid = site.get("modelservice", "late")["metadata"]["uid"]
    return sorted(
        pod["spec"]["nodeName"]
        for pod in site.pods(f"pelagos.dev/uid={uid}")
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
    )


def test_a_model_server_leaves_a_drained_node_without_a_failed_request(site: Site, second: Node) -> None:
    patch(site, "modelservice", "late", {"scaling": {"min": 2, "max": 2}})
    site.wait("a server is on each node", lambda: servers_by_node(site) == [servers.NODE, second.place.name], 240)
    uid = site.get("modelservice", "late")["metadata"]["uid"]

    image = next((SAMPLES / "phytoplankton-crops").rglob("*.jpg")).read_bytes()
    with Client(directly(site, "late", image)) as client:
        site.cluster.drain(pods=f"pelagos.dev/uid={uid}")
        try:
            site.wait("both are on the other", lambda: servers_by_node(site) == [second.place.name] * 2, 240)
            site.wait_ready("modelservice", "late", 60)
        finally:
            site.cluster.uncordon()

    assert client.failures == []
    assert client.answers > 10


def test_a_node_that_dies_is_survived_by_a_training_and_by_a_service(
    site: Site, second: Node, platform: Platform
) -> None:
    """The first attempt and the server are on that node, which then stops responding."""
    cluster = site.cluster
    # A node has room for one of each.
    patch(site, "modelservice", "late", {"scaling": {"min": 1, "max": 1}})
    site.wait("one server is left", lambda: servers_by_node(site) == [second.place.name], 60)
    cluster.kubectl("cordon", servers.NODE)
    try:
        site.apply(small_training("moved", epochs=12))
        site.wait("it trains", lambda: progress(site, "moved"), 240)
    finally:
        cluster.uncordon()

    second.stop()
    site.wait("the node is missed", lambda: not cluster.node_is_ready(second.place.name), 120)
    site.wait("no server is Ready", lambda: site.ready("modelservice", "late").get("status") != "True", 120)
    cluster.kubectl("delete", "node", second.place.name)

    site.wait("it is on the node that is left", lambda: servers_by_node(site) == [servers.NODE], 240)
    site.wait_ready("modelservice", "late", 120)
    status = site.wait_ready("trainingrun", "moved", 400)["status"]
    assert platform.epochs(TENANT, status["pipelineRun"]["id"]) == list(range(1, 13))
