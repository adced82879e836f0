"""The main job on a real cluster: pipelines on a Kubeflow server, objects in S3, models served by Deployments.

The operator is a pod under its own ServiceAccount; pipeline steps and model servers are pods with real images and real programs.
platform/services.py says what is not the original.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import machine
from cluster.platform import services
from cluster.platform.client import Client
from cluster.platform.services import BUCKET, Platform
from cluster.platform.site import SYSTEM, TENANT, Site, give_storage_credentials
from installations import dataset, service, training

IN_ORDER = True
"""The tests of this module build on each other."""
SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", machine.ROOT / ".pelagos/data/samples"))
FRAMES = "samples/phytoplankton-frames"
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
) -> Iterator[Site]:
    """Pelagos from the overlay for clusters without KServe."""
    cluster = platform.cluster
    platform.upload(SAMPLES, f"data/{TENANT}/samples")
    cluster.create_namespace(SYSTEM)
    give_storage_credentials(cluster, SYSTEM)
    installed = Site.install(
        cluster,
        tmp_path_factory.mktemp("site") / "kustomization",
        overlay="triton-only",
        images={"operator": operator_image, "serving": serving_image, "trainer": trainer_image},
        PELAGOS_S3_ENDPOINT=services.STORAGE,
    )
    yield installed
    installed.uninstall()


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


def test_new_settings_are_rolled_out_without_a_failed_request(served: Site, platform: Platform, tmp_path: Path) -> None:
    image, _ = probe_image(served, platform, tmp_path)
    before = served.pods("pelagos.dev/uid=" + served.get("modelservice", "detector")["metadata"]["uid"])
    client = Client(served, "detector", image.read_bytes())
    with client:
        served.kubectl("patch", "modelservice/detector", "--type=merge", "-p", '{"spec":{"thresholds":{"iou":"0.6"}}}')
        served.wait(
            "another pod serves, alone",
            lambda: (pods := served_pods(served)) and not {name(pod) for pod in pods} & {name(pod) for pod in before},
            240,
        )
        served.wait_ready("modelservice", "detector", 120)

    assert client.failures == []
    assert client.answers > 10


def served_pods(site: Site) -> list[Any]:
    """Pods of the model server that are not being deleted."""
    pods = site.pods("pelagos.dev/uid=" + site.get("modelservice", "detector")["metadata"]["uid"])
    return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]


def name(pod: Any) -> str:
    return str(pod["metadata"]["name"])


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
    served.wait("no pod is left", lambda: not served.pods(), 180)
    left = served.kubectl("get", "deployments,services,hpa,pdb,networkpolicies,configmaps", "-o", "name").split()
    assert set(left) <= {"configmap/kube-root-ca.crt"}
    assert platform.storage().keys(BUCKET, "objects/") == []
    assert platform.pipeline_runs(TENANT) == []
    assert platform.tracked_runs() == []
