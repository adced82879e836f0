"""Helm installs an earlier Pelagos on the node, upgrades it to this one and rolls it back, while models train and are served.

Charts and operator images are those of the two commits; the chart creates the tenant. Pipeline steps and model servers are of
this tree throughout. tests/manifests/test_helm_upgrades.py does the same without a node, down to the last object.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import rendering
import upstream
from cluster.harness import machine
from cluster.platform import services
from cluster.platform.client import Client, directly
from cluster.platform.environments import TRAINER
from cluster.platform.services import Platform
from cluster.platform.site import AUTHORITY, OPERATOR, SYSTEM, Site, give_storage_credentials, remove
from installations import dataset, service, training
from manifests.test_helm_upgrades import EARLIER

SHORE = "shore"
"""The tenant's namespace."""
RELEASE = "pelagos"
SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", machine.ROOT / ".pelagos/data/samples"))
SAMPLE = "samples/phytoplankton-crops"
EPOCHS = 12
"""Epochs of a training during which the operator is replaced: ten seconds or more."""
SMALL = {"cpu": 1, "memory": "2Gi", "sharedMemory": "256Mi"}


def trained(name: str, epochs: int) -> dict[str, Any]:
    """A TrainingRun on crops."""
    return training(name, "crops", "mobilenet_v3_small", epochs, resources=SMALL, deletionPolicy="Delete")


@dataclass(frozen=True)
class Release(Site):
    """An installation by Helm; its folder holds the values."""

    def helm(self, *arguments: str | Path) -> str:
        """Run Helm as an administrator; fails with its output."""
        where = (f"--kubeconfig={self.cluster.kubeconfig}", f"--namespace={SYSTEM}")
        command = [upstream.program("helm"), *arguments, *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.describe()}"
        return done.stdout

    def operator(self) -> str:
        """The image of the Ready operator, once no other one is left."""
        self.cluster.kubectl("rollout", "status", f"--namespace={SYSTEM}", f"deployment/{OPERATOR}", "--timeout=120s")
        (found,) = self.wait("one operator", lambda: one_of(self.operators()), 60)
        return str(found["spec"]["containers"][0]["image"])

    def operators(self) -> list[Any]:
        """Pods of the operator."""
        return list(json.loads(self.cluster.kubectl("get", "pods", f"--namespace={SYSTEM}", "-o", "json"))["items"])

    def history(self) -> list[tuple[int, str]]:
        """Revisions of the release, with Helm's status of each."""
        told = json.loads(self.helm("history", RELEASE, "--output=json"))
        return [(each["revision"], each["status"]) for each in told]


def one_of(pods: list[Any]) -> list[Any]:
    """The list, if it has exactly one pod; otherwise empty."""
    return pods if len(pods) == 1 else []


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work tree of the earlier commit."""
    folder = tmp_path_factory.mktemp("earlier")
    packed = subprocess.run(["git", "archive", EARLIER], cwd=machine.ROOT, capture_output=True, check=False)
    if packed.returncode != 0:
        pytest.fail(
            f"this clone does not hold the commit {EARLIER[:7]}, from which the test upgrades; clone the whole history"
            f" (git fetch --unshallow): {packed.stderr.decode().strip()}"
        )
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def release(
    platform: Platform,
    earlier: Path,
    tmp_path_factory: pytest.TempPathFactory,
    operator_image: str,
    serving_image: str,
    trainer_image: str,
) -> Iterator[Release]:
    """The earlier chart with the earlier operator, installed."""
    cluster = platform.cluster
    before = cluster.images.build("operator", earlier, "earlier")
    platform.upload(SAMPLES / "phytoplankton-crops", f"data/{SHORE}/{SAMPLE}")
    cluster.create_namespace(SYSTEM)
    give_storage_credentials(cluster, SYSTEM)
    cluster.apply(AUTHORITY)
    made = Release(cluster, tmp_path_factory.mktemp("release"), SHORE)
    for name, image in (("earlier", before), ("today", operator_image)):
        body = values(image, serving_image, trainer_image)
        (made.folder / f"{name}.yaml").write_text(yaml.safe_dump(body))
    made.helm("install", RELEASE, earlier / rendering.CHART.relative_to(rendering.ROOT), *valued(made, "earlier"))
    cluster.wait_for("Available", f"deployment/{OPERATOR}", SYSTEM, seconds=180)
    give_storage_credentials(cluster, SHORE)
    TRAINER.bind(cluster, SHORE)
    yield made
    # With everything that they created: other tests count the objects in these servers.
    made.kubectl("delete", "datasets,trainingruns,modelservices", "--all", "--timeout=120s")
    made.helm("uninstall", RELEASE, "--wait", "--timeout=120s")
    remove(cluster, rendering.MANIFESTS / "crds")
    cluster.kubectl("delete", "namespace", SYSTEM, "--ignore-not-found", "--timeout=120s")


def values(operator: str, serving: str, trainer: str) -> dict[str, Any]:
    """Values of the charts; both know all of these."""
    repository, _, tag = operator.partition(":")
    images = {"trainerImage": trainer, "servingImage": serving}
    return {
        "image": {"repository": repository, "tag": tag},
        # During an update two model servers of one core each must fit beside it.
        "engines": {**images, "gatewayMillicores": 0},
        "operator": {"resources": {"requests": {"cpu": "0"}}, "probeInterval": 5},
        "kubeflow": {"url": services.PIPELINES},
        "tracking": {"url": services.MLFLOW},
        "storage": {"endpoint": services.STORAGE},
        "tenants": [{"namespace": SHORE}],
    }


def valued(release: Release, name: str) -> tuple[str, ...]:
    """Helm's options: the values of ``name``, and waiting."""
    return (f"--values={release.folder / f'{name}.yaml'}", "--wait", "--timeout=180s")


def begun(release: Release, name: str) -> None:
    """Start a training and wait until some epochs are done and others are not."""
    release.apply(trained(name, EPOCHS))

    def progress() -> Any:
        # There is no epoch while it prepares to train.
        return release.get("trainingrun", name).get("status", {}).get("progress", {}).get("epoch")

    assert release.wait(f"{name} trains", progress, 600) < EPOCHS


def test_an_upgrade_and_a_rollback_train_nothing_twice_and_lose_no_request(
    release: Release, platform: Platform, operator_image: str
) -> None:
    release.apply(
        dataset("crops", SAMPLE, "Classification", resources={"cpu": 1}, deletionPolicy="Delete"),
        trained("first", 1),
        service(
            "crops",
            {"trainingRunRef": {"name": "first"}},
            resources={"cpu": 1, "memory": "1Gi"},
            deletionPolicy="Delete",
        ),
    )
    release.wait_ready("modelservice", "crops", 900)
    earlier_image = release.operator()
    url = release.get("modelservice", "crops")["status"]["url"]
    image = next((SAMPLES / "phytoplankton-crops").rglob("*.jpg")).read_bytes()

    with Client(directly(release, "crops", image)) as client:
        begun(release, "over-the-upgrade")
        release.cluster.kubectl("apply", "--validate=false", "-k", rendering.MANIFESTS / "crds")
        release.helm("upgrade", RELEASE, rendering.CHART, *valued(release, "today"))
        assert release.operator() == operator_image
        release.wait_ready("trainingrun", "over-the-upgrade", 600)
        release.wait_ready("modelservice", "crops", 600)
        begun(release, "over-the-rollback")

        release.helm("rollback", RELEASE, "1", "--wait", "--timeout=180s")
        assert release.operator() == earlier_image
        release.wait_ready("trainingrun", "over-the-rollback", 600)
        release.wait_ready("modelservice", "crops", 600)

    assert client.failures == []
    assert client.answers > 50
    assert release.get("modelservice", "crops")["status"]["url"] == url
    assert release.history() == [(1, "superseded"), (2, "superseded"), (3, "deployed")]
    for name in ("over-the-upgrade", "over-the-rollback"):
        status = release.get("trainingrun", name)["status"]
        assert platform.epochs(SHORE, status["pipelineRun"]["id"]) == list(range(1, EPOCHS + 1))
    names = [run["display_name"] for run in platform.pipeline_runs(SHORE)]
    assert len(names) == len(set(names)) == 4, "one Dataset and three trainings, each once"
    ended = [each["info"]["status"] for each in platform.tracked_runs()]
    assert ended.count("FINISHED") >= 3
    assert "FAILED" not in ended
