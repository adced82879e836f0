"""Model packages on object storage, served by KServe with its own controller, webhooks and storage initializer.

The packages are tiny and untrained. What KServe needs of a tenant is missing at first, and added as Pelagos' messages say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.harness import machine
from cluster.platform import services
from cluster.platform.client import Client, directly
from cluster.platform.kserve import Kserve
from cluster.platform.services import BUCKET, Platform
from cluster.platform.site import OPERATOR, SYSTEM, TENANT, Site, give_storage_credentials
from installations import service

IN_ORDER = True
"""The tests of this module build on each other."""
MODELS = f"objects/{TENANT}/models/{TENANT}"
SECRET = "pelagos-s3"
LOCKED = "locked"
"""A storage that accepts none of our keys."""
LATE = "pelagos-test/serving:late"
"""An image that does not exist."""


def packaged(platform: Platform, package: Path, name: str, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Upload a package; the source of a ModelService that serves it."""
    platform.upload(package, f"{MODELS}/{name}")
    for each in without:
        platform.storage().remove(BUCKET, f"{MODELS}/{name}/{each}")
    return {"uri": f"s3://{BUCKET}/{MODELS}/{name}", "manifestSha256": package.name}


@pytest.fixture(scope="module")
def package(packages: dict[str, tuple[str, str]]) -> Path:
    return Path(packages["Detection"][0])


@pytest.fixture(scope="module")
def site(
    kserve: Kserve,
    platform: Platform,
    tmp_path_factory: pytest.TempPathFactory,
    operator_image: str,
    serving_image: str,
) -> Iterator[Site]:
    """Pelagos from the overlay for KServe, with objects in S3, and a tenant without KServe's objects."""
    cluster = platform.cluster
    cluster.create_namespace(SYSTEM)
    give_storage_credentials(cluster, SYSTEM)
    installed = Site.install(
        cluster,
        tmp_path_factory.mktemp("site") / "kustomization",
        overlay="kserve",
        images={"operator": operator_image, "serving": serving_image, "trainer": serving_image},
        PELAGOS_S3_ENDPOINT=services.STORAGE,
    )
    yield installed
    installed.uninstall()


def told(site: Site, name: str, *words: str, seconds: float = 150) -> Mapping[str, str]:
    """Wait until Ready is not True and its message contains all ``words``."""

    def found() -> Mapping[str, str] | None:
        ready = site.ready("modelservice", name)
        said = ready.get("message", "")
        return ready if ready.get("status") != "True" and all(word in said for word in words) else None

    told: Mapping[str, str] = site.wait(f"{name} says {words}", found, seconds)
    return told


def annotate(site: Site, endpoint: str) -> None:
    """Set KServe's annotations about the storage."""
    notes = [f"serving.kserve.io/s3-endpoint={endpoint.removeprefix('http://')}", "serving.kserve.io/s3-usehttps=0"]
    site.kubectl("annotate", "--overwrite", f"secret/{SECRET}", *notes)


def pods(site: Site, name: str) -> list[Any]:
    """Pods of a model server that are not being deleted."""
    found = site.pods("pelagos.dev/uid=" + site.get("modelservice", name)["metadata"]["uid"])
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def inference_service(site: Site, name: str) -> Any:
    return json.loads(site.kubectl("get", "inferenceservices", name, "-o", "json"))


def test_a_tenant_without_what_kserve_needs_is_told_what_that_is(site: Site, platform: Platform, package: Path) -> None:
    model = packaged(platform, package, "colours")
    site.apply(service("colours", model, resources={"cpu": 1, "memory": "1Gi"}, deletionPolicy="Delete"))

    ready = told(site, "colours", "storage-initializer", "`secrets` of the ServiceAccount pelagos-workload")

    assert ready["reason"] == "PackageNotFetched"
    assert "serving.kserve.io/s3-endpoint" in ready["message"]
    assert "died" not in ready["message"]


def test_keys_that_the_storage_refuses_are_said_to_be_refused(site: Site, platform: Platform) -> None:
    services.start_locked_storage(platform.cluster, LOCKED)
    tenant = platform.cluster.folder / "tenant-of-kserve"
    tenant.mkdir(exist_ok=True)
    manifests = os.path.relpath((machine.ROOT / "manifests/tenant").resolve(), tenant.resolve())
    wanted = {"namespace": TENANT, "resources": [f"{manifests}/base"], "components": [f"{manifests}/kserve"]}
    (tenant / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    site.cluster.kubectl("apply", "-k", tenant)
    annotate(site, f"{LOCKED}.{services.NAMESPACE}:9000")
    # A pod keeps the settings that it was created with.
    site.kubectl("delete", "pods", "--selector=serving.kserve.io/inferenceservice", "--grace-period=1")

    ready = told(site, "colours", "The storage refuses the keys", "ServiceAccount pelagos-workload")

    assert ready["reason"] == "PackageNotFetched"


def test_with_what_was_asked_for_it_serves(site: Site, package: Path) -> None:
    annotate(site, services.STORAGE)
    site.kubectl("delete", "pods", "--selector=serving.kserve.io/inferenceservice", "--grace-period=1")

    site.wait_ready("modelservice", "colours", 240)

    got = json.loads(site.pelagos("predict", "colours", package / "probe.png", "--namespace", TENANT, "-o", "json"))
    known = json.loads((package / "probe.json").read_text())
    assert [each["classId"] for each in got["detections"]] == [each["classId"] for each in known["detections"]]
    (pod,) = pods(site, "colours")
    assert [each["name"] for each in pod["spec"]["initContainers"]] == ["storage-initializer"]
    assert inference_service(site, "colours")["status"]["deploymentMode"] == "Standard"


def test_a_new_version_is_rolled_out_without_a_failed_request(site: Site, package: Path) -> None:
    before = {pod["metadata"]["name"] for pod in pods(site, "colours")}
    with Client(directly(site, "colours", (package / "probe.png").read_bytes())) as client:
        site.kubectl("patch", "modelservice/colours", "--type=merge", "-p", '{"spec":{"thresholds":{"iou":"0.6"}}}')
        site.wait(
            "another pod serves, alone",
            lambda: (now := {pod["metadata"]["name"] for pod in pods(site, "colours")}) and not now & before,
            240,
        )
        site.wait_ready("modelservice", "colours", 120)

    assert client.failures == []
    assert client.answers > 10


def test_a_service_scales_by_kubectl_scale(site: Site) -> None:
    before = {pod["metadata"]["name"] for pod in pods(site, "colours")}

    site.kubectl("scale", "modelservice/colours", "--replicas=2")
    site.wait("two serve", lambda: site.get("modelservice", "colours")["status"].get("replicas") == 2, 150)
    assert before < {pod["metadata"]["name"] for pod in pods(site, "colours")}, "no server was replaced"

    site.kubectl("scale", "modelservice/colours", "--replicas=1")
    site.wait("one serves", lambda: len(pods(site, "colours")) == 1, 150)
    site.wait_ready("modelservice", "colours", 60)


def test_an_image_that_is_missing_is_named_and_the_old_version_serves_on(site: Site, serving_image: str) -> None:
    cluster = site.cluster
    cluster.images.remove(LATE)  # left by a run that was killed

    def serve_from(image: str) -> None:
        variable = f"PELAGOS_SERVING_IMAGE={image}"
        cluster.kubectl("set", "env", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", variable)
        cluster.kubectl("rollout", "status", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", "--timeout=120s")

    serve_from(LATE)
    site.kubectl("patch", "modelservice/colours", "--type=merge", "-p", '{"spec":{"thresholds":{"iou":"0.5"}}}')
    ready = told(site, "colours", LATE, "the old version is still served")
    assert ready["reason"] == "WaitingForCluster"

    serve_from(serving_image)
    site.wait_ready("modelservice", "colours", 240)


def test_a_package_that_lacks_its_graph_is_not_served(site: Site, platform: Platform, package: Path) -> None:
    model = packaged(platform, package, "torn", without=("model.onnx",))
    site.apply(service("torn", model, resources={"cpu": 1, "memory": "1Gi"}, deletionPolicy="Delete"))

    ready = told(site, "torn", "model.onnx")

    assert ready["reason"] == "ModelLoadFailed"
    site.kubectl("delete", "modelservice/torn", "--timeout=120s")


def test_an_inference_service_that_is_deleted_behind_our_back_comes_back(site: Site) -> None:
    before = inference_service(site, "colours")["metadata"]["uid"]

    site.kubectl("delete", "inferenceservices", "--all", "--wait=true")
    site.wait("it is made again", lambda: site.kubectl("get", "inferenceservices", "-o", "name"), 60)
    site.wait_ready("modelservice", "colours", 180)

    assert inference_service(site, "colours")["metadata"]["uid"] != before


def test_while_kserves_controller_is_away_what_serves_serves_on(site: Site, kserve: Kserve, package: Path) -> None:
    with Client(directly(site, "colours", (package / "probe.png").read_bytes())) as client:
        kserve.end()
        try:
            site.kubectl("patch", "modelservice/colours", "--type=merge", "-p", '{"spec":{"thresholds":{"iou":"0.7"}}}')
            ready = told(site, "colours", "webhook")
            assert "inferenceservice.kserve-webhook-server" in ready["message"]
        finally:
            kserve.begin()
        site.wait_ready("modelservice", "colours", 240)

    assert client.failures == []


def test_the_deletion_of_the_service_leaves_nothing_of_kserve(site: Site) -> None:
    site.kubectl("delete", "modelservice/colours", "--timeout=120s")

    site.wait("no pod is left", lambda: not site.pods(), 90)
    left = site.kubectl("get", "inferenceservices,deployments,services,hpa,networkpolicies", "-o", "name")
    assert left == ""
