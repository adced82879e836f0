"""The main job on a real cluster: pipelines on a Kubeflow server, objects and data on claims, models served through KServe.

As in test_main_job_with_deployments.py; KServe's controller and its webhooks are its own (platform/kserve.py).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.harness import machine
from cluster.platform.kserve import Kserve
from cluster.platform.services import Platform
from cluster.platform.site import SYSTEM, TENANT, Site
from installations import dataset, service, training

IN_ORDER = True
"""The tests of this module build on each other."""
SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", machine.ROOT / ".pelagos/data/samples"))
RESOURCES = (
    dataset("crops", "samples/phytoplankton-crops", "Classification", resources={"cpu": 1}, deletionPolicy="Delete"),
    training(
        "classifier",
        "crops",
        "mobilenet_v3_small",
        2,
        resources={"cpu": 2, "memory": "4Gi", "sharedMemory": "256Mi"},
        gates=[{"metric": "test/accuracy", "minimum": "0"}],
        register={"model": "classifier", "alias": "champion"},
        deletionPolicy="Delete",
    ),
    service(
        "classifier",
        {"registry": {"model": "classifier", "alias": "champion"}},
        resources={"cpu": 1, "memory": "1Gi"},
        deletionPolicy="Delete",
    ),
)


@pytest.fixture(scope="module")
def site(
    kserve: Kserve,
    platform: Platform,
    tmp_path_factory: pytest.TempPathFactory,
    operator_image: str,
    serving_image: str,
    trainer_image: str,
) -> Iterator[Site]:
    """Pelagos from the overlay for KServe, with everything on claims."""
    cluster = platform.cluster
    volumes = cluster.folder / "volumes"
    cluster.create_namespace(SYSTEM)
    for namespace in (SYSTEM, TENANT):
        cluster.create_volume("pelagos-data", volumes / "data", namespace)
        cluster.create_volume("pelagos-objects", volumes / "objects", namespace)
    shutil.copytree(SAMPLES, volumes / "data" / TENANT / "samples")
    installed = Site.install(
        cluster,
        tmp_path_factory.mktemp("site") / "kustomization",
        overlay="kserve",
        components=("claims",),
        images={"operator": operator_image, "serving": serving_image, "trainer": trainer_image},
    )
    yield installed
    installed.uninstall()


@pytest.fixture(scope="module")
def served(site: Site) -> Site:
    """The three resources, Ready."""
    site.apply(*RESOURCES)
    site.wait_ready("modelservice", "classifier", 900)
    return site


def test_all_conditions_of_the_three_resources_hold(served: Site) -> None:
    for kind, name in (("dataset", "crops"), ("trainingrun", "classifier"), ("modelservice", "classifier")):
        conditions = {
            each["type"]: each["status"]
            for each in served.get(kind, name)["status"]["conditions"]
            if each["reason"] != "NotAskedFor"
        }
        assert set(conditions.values()) == {"True"}, f"{kind}: {conditions}"


def test_kserve_mounts_the_package_from_the_claim(served: Site) -> None:
    (inference,) = json.loads(served.kubectl("get", "inferenceservices", "-o", "json"))["items"]
    assert inference["status"]["deploymentMode"] == "Standard"
    assert inference["spec"]["predictor"]["model"]["storageUri"].startswith("pvc://pelagos-objects/")

    (pod,) = served.pods("serving.kserve.io/inferenceservice=classifier")
    server = next(each for each in pod["spec"]["containers"] if each["name"] == "kserve-container")
    mounts = {each["mountPath"]: each for each in server["volumeMounts"]}
    assert mounts["/mnt/models"]["readOnly"]
    assert "initContainers" not in pod["spec"]


def answer(site: Site) -> Any:
    """The answer to a user outside of the cluster."""
    image = next(Path(site.cluster.folder, "volumes/data", TENANT, "samples/phytoplankton-crops").rglob("*.jpg"))
    return json.loads(site.pelagos("predict", "classifier", image, "--namespace", TENANT, "-o", "json"))


def test_a_user_outside_gets_an_answer(served: Site) -> None:
    got = answer(served)

    assert sum(each["probability"] for each in got["classes"]) == pytest.approx(1, abs=1e-3)
    assert len(got["classes"]) == len(served.get("dataset", "crops")["status"]["classes"])


def test_plain_deployments_take_over_from_kserve_and_give_back(served: Site) -> None:
    """With another overlay, whose roles allow it. The previous engine's objects are deleted once its successor answers right."""
    by_kserve = served.get("modelservice", "classifier")["status"]["url"]
    plain = f"grpc://classifier.{TENANT}.svc:9000"

    def is_served_at(url: str, without: str) -> bool:
        left = served.kubectl("get", "deployments,services,inferenceservices", "-o", "name").split()
        return without not in left and served.get("modelservice", "classifier")["status"].get("url") == url

    served.change_overlay("triton-only")
    without = "inferenceservice.serving.kserve.io/classifier"
    served.wait("a Deployment serves alone", lambda: is_served_at(plain, without), 300)
    served.wait_ready("modelservice", "classifier", 60)
    assert answer(served)["classes"]

    served.change_overlay("kserve")
    served.wait("KServe serves alone", lambda: is_served_at(by_kserve, "deployment.apps/classifier"), 300)
    served.wait_ready("modelservice", "classifier", 60)
    assert answer(served)["classes"]
    assert "service/classifier" not in served.kubectl("get", "services", "-o", "name").split()


def test_the_deletion_of_the_three_resources_leaves_nothing(served: Site) -> None:
    served.kubectl("delete", "modelservice/classifier", "trainingrun/classifier", "dataset/crops", "--timeout=120s")

    served.wait("no pod is left", lambda: not served.pods(), 90)
    assert served.kubectl("get", "inferenceservices", "-o", "name") == ""
    objects = served.cluster.folder / "volumes" / "objects"
    assert [path for path in objects.rglob("*") if path.is_file()] == []
