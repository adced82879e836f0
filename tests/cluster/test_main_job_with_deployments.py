"""The main job on a real cluster: pipelines on a Kubeflow server, objects in S3, models served by Deployments.

The operator is a pod under its own ServiceAccount; pipeline steps, model servers, the tenant's gateway and the hub are pods with
real images and real programs.
platform/services.py lists the parts that are not the originals.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from catalogued import CARD
from cluster.harness import machine
from cluster.platform import gateway as gateway_of
from cluster.platform import services
from cluster.platform.client import Client, directly
from cluster.platform.gateway import Gateway
from cluster.platform.services import BUCKET, Platform
from cluster.platform.site import OPERATOR, SYSTEM, TENANT, Site, give_storage_credentials
from installations import dataset, service, training
from pelagos_contract import trial_signature

IN_ORDER = True
"""The tests of this module build on each other."""
SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", machine.ROOT / ".pelagos/data/samples"))
FRAMES = "samples/phytoplankton-frames"
KEY = secrets.token_bytes(32)
"""The hub's key, with which the operator knows its Trials."""
THE_OPERATOR = "app.kubernetes.io/component=operator"
GROUPED = {"policy": "Grouped", "ratios": {"train": 72, "validation": 14, "test": 14}}
RESOURCES = (
    dataset(
        "frames", FRAMES, "Detection", split=GROUPED, resources={"cpu": 1, "memory": "2Gi"}, deletionPolicy="Delete"
    ),
    training(
        "detector",
        "frames",
        "yolov8n",
        2,
        size=96,
        resources={"cpu": 2, "memory": "4Gi", "sharedMemory": "256Mi"},
        gates=[{"metric": "test/mAP50", "minimum": "0"}],
        register={"model": "detector", "alias": "champion"},
        deletionPolicy="Delete",
    ),
    service(
        "detector",
        {"trainingRunRef": {"name": "detector"}},
        thresholds={"confidence": "0.01"},
        card=CARD,
        publish={"catalogue": "Public"},
        resources={"cpu": 1, "memory": "1Gi"},
        deletionPolicy="Delete",
    ),
)


@pytest.fixture(scope="module")
def site(
    platform: Platform,
    tmp_path_factory: pytest.TempPathFactory,
    operator_image: str,
    serving_image: str,
    trainer_image: str,
    hub_image: str,
) -> Iterator[Site]:
    """Pelagos from the overlay for clusters without KServe."""
    cluster = platform.cluster
    platform.upload(SAMPLES, f"data/{TENANT}/samples")
    cluster.create_namespace(SYSTEM)
    give_storage_credentials(cluster, SYSTEM)
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": trial_signature.SECRET, "namespace": SYSTEM},
            "data": {trial_signature.SECRET_KEY: base64.b64encode(KEY).decode()},
        }
    )
    installed = Site.install(
        cluster,
        tmp_path_factory.mktemp("site") / "kustomization",
        overlay="triton-only",
        components=("hub",),
        images={"operator": operator_image, "serving": serving_image, "trainer": trainer_image, "hub": hub_image},
        PELAGOS_S3_ENDPOINT=services.STORAGE,
        **gateway_of.SETTINGS,
    )
    yield installed
    installed.uninstall()


@pytest.fixture(scope="module")
def gateway(
    site: Site, gateway_image: str, envoy_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The tenant's gateway."""
    started = Gateway.start(site, tmp_path_factory.mktemp("gateway") / "kustomization", gateway_image, envoy_image)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def served(site: Site) -> Site:
    """The three resources, Ready."""
    site.apply(*RESOURCES)
    site.wait_ready("modelservice", "detector", 900)
    return site


def test_all_conditions_of_the_three_resources_hold(served: Site) -> None:
    for kind, name in (("dataset", "frames"), ("trainingrun", "detector"), ("modelservice", "detector")):
        conditions = {
            each["type"]: each["status"]
            for each in served.get(kind, name)["status"]["conditions"]
            if each["reason"] != "NotAskedFor"
        }
        assert set(conditions.values()) == {"True"}, f"{kind}: {conditions}"


def probe_image(served: Site, platform: Platform, folder: Path) -> tuple[Path, Any]:
    """The package's own example image and the training framework's answer."""
    uri = served.get("modelservice", "detector")["status"]["model"]["uri"]
    key = uri.removeprefix(f"s3://{BUCKET}/")
    image = folder / "probe.png"
    image.write_bytes(platform.storage().get(BUCKET, f"{key}/probe.png"))
    return image, json.loads(platform.storage().get(BUCKET, f"{key}/probe.json"))


def test_a_user_outside_gets_the_answer_of_the_training_framework(
    served: Site, platform: Platform, tmp_path: Path
) -> None:
    image, known = probe_image(served, platform, tmp_path)

    got = json.loads(served.pelagos("predict", "detector", image, "--namespace", TENANT, "-o", "json"))

    sure = [each for each in known["detections"] if each["score"] > 0.05]
    found = got["detections"]
    for want in sure:
        assert any(
            each["classId"] == want["classId"]
            and each["box"] == pytest.approx(want["box"], abs=1)
            and each["score"] == pytest.approx(want["score"], abs=0.01)
            for each in found
        ), want


def test_one_pipeline_run_and_one_tracked_run_were_made(served: Site, platform: Platform) -> None:
    names = [run["display_name"] for run in platform.pipeline_runs(TENANT)]
    assert len(names) == len(set(names)) == 2

    (tracked,) = platform.tracked_runs()
    assert tracked["info"]["status"] == "FINISHED"
    assert tracked["info"]["run_id"] == served.get("trainingrun", "detector")["status"]["tracking"]["run"]


def test_applying_everything_again_changes_nothing(served: Site) -> None:
    said = served.apply(*RESOURCES)
    assert [line.rsplit(" ", 1)[1] for line in said.splitlines()] == ["unchanged"] * 3

    applied = served.apply_manifests().splitlines()
    assert {line.rsplit(" ", 1)[1] for line in applied} == {"unchanged"}, applied


def test_a_new_version_is_rolled_out_without_a_failed_request(
    served: Site, gateway: Gateway, platform: Platform, tmp_path: Path
) -> None:
    """Neither of those who ask the service itself, nor of those who ask the gateway on a connection that stays open."""
    image = probe_image(served, platform, tmp_path)[0].read_bytes()
    before = served.pods("pelagos.dev/uid=" + served.get("modelservice", "detector")["metadata"]["uid"])
    # One for each, since a caller has a limit.
    tokens = {kind: gateway.opened(kind, modelServiceRef={"name": "detector"}) for kind in ("http", "grpc")}
    asking = {kind: gateway.asking(kind, token, "detector", image) for kind, token in tokens.items()}
    clients = {kind: Client(ask) for kind, ask in {**asking, "directly": directly(served, "detector", image)}.items()}
    with contextlib.ExitStack() as asked:
        for client in clients.values():
            asked.enter_context(client)
        served.kubectl("patch", "modelservice/detector", "--type=merge", "-p", '{"spec":{"thresholds":{"iou":"0.6"}}}')
        served.wait(
            "another pod serves, alone",
            lambda: (pods := served_pods(served)) and not {name(pod) for pod in pods} & {name(pod) for pod in before},
            240,
        )
        served.wait_ready("modelservice", "detector", 120)

    assert [failure for client in clients.values() for failure in client.failures] == []
    assert all(client.answers > 10 for client in clients.values())
    served.kubectl("delete", "trials", *tokens)
    served.wait(
        "their tokens open nothing", lambda: {gateway.status(each, "detector") for each in tokens.values()} == {401}
    )


def served_pods(site: Site) -> list[Any]:
    """Pods of the model server that are not being deleted."""
    pods = site.pods("pelagos.dev/uid=" + site.get("modelservice", "detector")["metadata"]["uid"])
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def name(pod: Any) -> str:
    return str(pod["metadata"]["name"])


def test_the_hub_shows_the_model_and_when_it_was_proven(served: Site) -> None:
    def entries() -> Any:
        return json.loads(asked_of_the_hub(served, "/api/models"))["items"]

    (entry,) = served.wait("the catalogue has the model", entries)
    assert (entry["namespace"], entry["name"], entry["title"]) == (TENANT, "detector", CARD["title"])
    page = asked_of_the_hub(served, f"/models/{TENANT}/detector").decode()
    assert str(CARD["title"]) in page
    served.wait("it has read the operator's metrics", lambda: entries()[0]["proof"]["asked"], 30)


def asked_of_the_hub(site: Site, path: str) -> bytes:
    """The hub's answer to a request through its Service, which names the host that browsers name."""
    port = site.cluster.forward_service("pelagos-hub", 80, SYSTEM)
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": "models.example.org"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return bytes(answer.read())


def test_a_trial_with_a_server_of_its_own_opens_and_leaves_nothing(
    served: Site, gateway: Gateway, platform: Platform, tmp_path: Path
) -> None:
    image = probe_image(served, platform, tmp_path)[0].read_bytes()
    spec = {"modelServiceRef": {"name": "detector"}, "isolation": "Dedicated", "user": "ada"}
    signature = trial_signature.sign(KEY, namespace=TENANT, name="own", spec=spec, seconds=int(time.time()))
    token = gateway.opened("own", {trial_signature.ANNOTATION: signature}, **spec)

    assert served.get("trial", "own")["status"]["attested"] is True
    assert gateway.asking("grpc", token, "trial-own", image)()["detections"] != []
    assert gateway.status(token, "detector") == 403
    served.kubectl("delete", "trial/own", "--timeout=120s")
    served.kubectl("wait", "--for=delete", "modelservice/trial-own", "--timeout=120s")
    assert gateway.status(token, "trial-own") == 401


def test_a_trial_ends_on_time_while_the_operator_is_away(served: Site, gateway: Gateway) -> None:
    token = gateway.opened("short", modelServiceRef={"name": "detector"}, duration="1m")
    told = served.get("trial", "short")["status"]
    assert told["url"] == f"http://pelagos-gateway.{TENANT}:8080/{TENANT}/detector"
    script = (
        "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], headers={'Authorization': sys.argv[2]}))"
    )
    within = ("--", "python3", "-c", script, f"{told['url']}/v2/health/ready", f"Bearer {token}")
    served.cluster.kubectl("exec", f"--namespace={SYSTEM}", "deployment/pelagos-hub", *within)
    another = token[:-1] + ("a" if token[-1] != "a" else "b")
    assert [gateway.status(each, "detector") for each in ("", another)] == [401, 401]
    assert gateway.status(token, "another") == 403

    deployment = f"deployment/{OPERATOR}"
    served.cluster.kubectl("scale", f"--namespace={SYSTEM}", deployment, "--replicas=0")
    served.cluster.kubectl("wait", "--for=delete", f"--namespace={SYSTEM}", "pods", "--selector", THE_OPERATOR)
    try:
        assert gateway.status(token, "detector") == 200, "the operator was gone too late"
        ends = datetime.fromisoformat(told["expiresAt"])
        served.wait("its token opens nothing", lambda: gateway.status(token, "detector") == 401, 70)
        assert abs((datetime.now(UTC) - ends).total_seconds()) < 5
        assert served.get("trial", "short")["status"]["phase"] == "Open"
    finally:
        served.cluster.kubectl("scale", f"--namespace={SYSTEM}", deployment, "--replicas=1")
        served.await_operator()
    # It says that it has ended, and is deleted by itself a moment later.
    served.kubectl("wait", "--for=delete", "trial/short", "--timeout=60s")


def test_a_service_that_may_grow_gets_an_autoscaler_and_loses_it_again(served: Site) -> None:
    served.kubectl("patch", "modelservice/detector", "--type=merge", "-p", '{"spec":{"scaling":{"max":2}}}')
    found = served.wait(
        "there is an autoscaler", lambda: served.kubectl("get", "hpa", "-o", "jsonpath={.items[*].spec}")
    )
    assert json.loads(found)["maxReplicas"] == 2

    served.kubectl("patch", "modelservice/detector", "--type=merge", "-p", '{"spec":{"scaling":{"max":1}}}')
    served.wait("it is gone", lambda: not served.kubectl("get", "hpa", "-o", "name"))
    served.wait_ready("modelservice", "detector", 120)


def test_a_server_that_calls_itself_ready_and_answers_nothing_is_replaced(served: Site) -> None:
    before = {name(pod) for pod in served_pods(served)}

    served.cluster.node.run("pkill", "-KILL", "-f", "triton_python_backend_stub")

    served.wait("another pod", lambda: {name(pod) for pod in served_pods(served)} - before, 120)
    served.wait_ready("modelservice", "detector", 120)


def test_an_operator_that_is_killed_finds_all_as_it_was(served: Site, platform: Platform) -> None:
    runs = len(platform.pipeline_runs(TENANT))
    versions = [served.get(kind, name)["metadata"]["resourceVersion"] for kind, name in THREE]
    served.cluster.kubectl(
        "delete", "pods", f"--namespace={SYSTEM}", "--all", "--grace-period=0", "--force", "--wait=false"
    )
    time.sleep(2)

    served.await_operator()
    served.wait_ready("modelservice", "detector", 60)

    assert [served.get(kind, name)["metadata"]["resourceVersion"] for kind, name in THREE[:2]] == versions[:2]
    assert len(platform.pipeline_runs(TENANT)) == runs


THREE = (("dataset", "frames"), ("trainingrun", "detector"), ("modelservice", "detector"))


def test_a_drained_node_takes_the_service_down_and_up_again(served: Site) -> None:
    served.cluster.kubectl("cordon", "node1")
    try:
        (pod,) = served_pods(served)
        served.kubectl("delete", f"pod/{name(pod)}", "--grace-period=1")
        said = served.wait(
            "the status tells that the pod has no node",
            lambda: (
                (ready := served.ready("modelservice", "detector")).get("status") != "True"
                and "unschedulable" in ready.get("message", "")
                and ready
            ),
            60,
        )
        assert said["reason"] == "WaitingForCluster"
    finally:
        served.cluster.uncordon()
    served.wait_ready("modelservice", "detector", 120)


def test_a_version_that_a_training_has_used_stays_beyond_those_that_are_kept(served: Site, platform: Platform) -> None:
    used = served.get("trainingrun", "detector")["status"]["dataset"]["version"]

    # Whether a version is in use is checked whenever the source is.
    smaller = {"history": {"keep": 1}, "preprocessing": {"resize": {"longest": 64}}, "refresh": "5s"}
    served.kubectl("patch", "dataset/frames", "--type=merge", "-p", json.dumps({"spec": smaller}))
    told = served.wait(
        "another version, and why the first stays",
        lambda: (
            (status := served.get("dataset", "frames")["status"])["version"] != used
            and "TrainingRun" in ((status.get("removals") or {}).get("message") or "")
            and status
        ),
        240,
    )

    assert {each["version"] for each in told["versions"]} == {told["version"], used}
    assert stored(platform, told, "versions") == {digest_of(told["version"]), digest_of(used)}


def stored(platform: Platform, status: Any, what: str) -> set[str]:
    """Digests of ``versions``, or of ``blobs``, in the store of a Dataset."""
    store = status["versions"][0]["uri"].removeprefix(f"s3://{BUCKET}/").rpartition("/versions/")[0]
    keys = platform.storage().keys(BUCKET, f"{store}/{what}/")
    parts = [key.removeprefix(f"{store}/{what}/").split("/") for key in keys]
    # A blob is named by its digest, whose first two digits are a folder.
    return {each[0] if what == "versions" else "".join(each) for each in parts}


def digest_of(version: str) -> str:
    return version.removeprefix("sha256:")


def test_a_version_that_nothing_uses_any_more_is_removed_with_its_images(served: Site, platform: Platform) -> None:
    served.kubectl("delete", "modelservice/detector", "--timeout=120s")
    # The training is deleted by itself once nothing refers to it any more.
    served.kubectl("patch", "trainingrun/detector", "--type=merge", '--patch={"spec": {"ttlSecondsAfterFinished": 0}}')
    served.kubectl("wait", "--for=delete", "trainingrun/detector", "--timeout=120s")

    told = served.wait(
        "the removal is done",
        lambda: (
            (removals := (status := served.get("dataset", "frames")["status"]).get("removals") or {}).get("versions")
            == 1
            and not removals.get("removing")
            and status
        ),
        240,
    )

    assert [each["version"] for each in told["versions"]] == [told["version"]]
    assert stored(platform, told, "versions") == {digest_of(told["version"])}
    # All images of the remaining version were resized, so none of the other version's are among them.
    prefix = told["versions"][0]["uri"].removeprefix(f"s3://{BUCKET}/")
    manifest = json.loads(platform.storage().get(BUCKET, f"{prefix}/manifest.json"))
    assert stored(platform, told, "blobs") == {image["sha256"] for image in manifest["images"]}
    removals = told["removals"]
    assert removals["images"] > 0
    assert removals["keptImages"] == len({image["sha256"] for image in manifest["images"]})
    assert served.ready("dataset", "frames")["status"] == "True"


def test_the_deletion_of_the_dataset_leaves_nothing(served: Site, platform: Platform) -> None:
    served.kubectl("delete", "dataset/frames", "--timeout=120s")

    # Longer than a pod may take to finish requests in progress.
    but_the_gateway = f"app.kubernetes.io/name!={gateway_of.NAME}"
    served.wait("no pod is left", lambda: not served.pods(but_the_gateway), 180)
    kinds = "deployments,services,hpa,pdb,networkpolicies,configmaps"
    left = served.kubectl("get", kinds, "-o", "name", f"--selector={but_the_gateway}").split()
    assert set(left) <= {"configmap/kube-root-ca.crt"}
    assert platform.storage().keys(BUCKET, "objects/") == []
    assert platform.pipeline_runs(TENANT) == []
    assert platform.tracked_runs() == []
