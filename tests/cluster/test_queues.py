"""Queues of the real Kueue: quota by tenant and resource, a shared cohort, priorities, and their effects on trainings.

The platform's queues and one tenant, marine-lab, are those of manifests/samples/gitops with quotas of a small cluster; the other,
`bay`, gets a copy of marine-lab's queue. The node offers GPUs that are only counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import rendering
from cluster.harness import machine
from cluster.harness.cluster import Cluster
from cluster.platform import services
from cluster.platform.environments import TRAINER
from cluster.platform.kueue import Kueue, offer_gpus
from cluster.platform.services import Platform
from cluster.platform.site import SYSTEM, TENANT, TENANT_SETTINGS, Site, give_storage_credentials
from installations import dataset, training

IN_ORDER = True
"""The tests of this module build on each other."""
SAMPLES = Path(os.environ.get("PELAGOS_SAMPLES", machine.ROOT / ".pelagos/data/samples"))
REPOSITORY = "samples/gitops/platform"
LAB = "marine-lab"
ROUTINE, URGENT = "pelagos-routine", "pelagos-urgent"
CROPS = dataset("crops", "samples/phytoplankton-crops", "Classification", resources={"cpu": 1}, deletionPolicy="Delete")
EPOCHS, ENDLESS = 40, 2000
"""Epochs of a training that is interrupted before its end, and of trainings that outlast the tests."""
GPUS = 2
"""GPUs of the node and of the cohort: neither tenant has any of its own, so both borrow."""


def on_gpu(name: str, epochs: int, gpus: int = 1, **spec: Any) -> dict[str, Any]:
    """A training that asks for GPUs. Two cores have room for four steps, so that trainings wait only for GPUs."""
    asked = {"cpu": "400m", "memory": "2Gi", "sharedMemory": "256Mi", "gpus": gpus}
    return training(name, "crops", "mobilenet_v3_small", epochs, resources=asked, deletionPolicy="Delete", **spec)


def apply_part(cluster: Cluster, folder: Path, quotas: Mapping[str, int], **parts: list[str]) -> None:
    """Apply parts of the sample repository with the GPU quotas of a small cluster: name of a Cohort or ClusterQueue -> GPUs."""
    folder.mkdir()
    path = "/spec/resourceGroups/0/flavors/1/resources/2/nominalQuota"
    patches = [
        {
            "target": {"group": "kueue.x-k8s.io", "name": name},
            "patch": yaml.safe_dump([{"op": "replace", "path": path, "value": str(count)}]),
        }
        for name, count in quotas.items()
    ]
    named = {kind: [f"{REPOSITORY}/{name}" for name in names] for kind, names in parts.items()}
    rendering.kustomization(
        folder, resources=named.get("resources", []), components=named["components"], patches=patches
    )
    cluster.kubectl("apply", "-k", folder)


def make_lab(cluster: Cluster, folder: Path) -> None:
    """The sample's tenant with its queue."""
    tenant = f"tenants/{LAB}"
    apply_part(cluster, folder, {LAB: 0}, resources=[tenant], components=[f"{tenant}/kueue"])
    give_storage_credentials(cluster, LAB)
    TRAINER.bind(cluster, LAB)


def give_queue_to_bay(cluster: Cluster) -> None:
    """A copy of the sample's queue, as for a further tenant."""
    text = (rendering.MANIFESTS / REPOSITORY / f"tenants/{LAB}/kueue/queue.yaml").read_text()
    queue, local = yaml.safe_load_all(text.replace(LAB, TENANT))
    for flavor in queue["spec"]["resourceGroups"][0]["flavors"]:
        flavor["resources"][2]["nominalQuota"] = "0"
    cluster.apply(queue, local)


@pytest.fixture(scope="module")
def bay(
    kueue: Kueue,
    platform: Platform,
    tmp_path_factory: pytest.TempPathFactory,
    operator_image: str,
    trainer_image: str,
) -> Iterator[Site]:
    """Pelagos and the platform's queues. The tenant's settings name a queue that does not exist yet."""
    del kueue
    cluster, folder = platform.cluster, tmp_path_factory.mktemp("queues")
    for tenant in (TENANT, LAB):
        platform.upload(SAMPLES / "phytoplankton-crops", f"data/{tenant}/samples/phytoplankton-crops")
    cluster.create_namespace(SYSTEM)
    give_storage_credentials(cluster, SYSTEM)
    installed = Site.install(
        cluster,
        folder / "kustomization",
        overlay="triton-only",
        images={"operator": operator_image, "serving": "none", "trainer": trainer_image},
        PELAGOS_S3_ENDPOINT=services.STORAGE,
    )
    offer_gpus(cluster, GPUS)
    apply_part(cluster, folder / "platform", {"pelagos": GPUS}, components=["kueue"])
    make_lab(cluster, folder / "lab")
    queue = {"queue": "runs", "priority": ROUTINE}
    cluster.apply({**TENANT_SETTINGS, "data": TENANT_SETTINGS["data"] | queue})
    yield installed
    replace(installed, tenant=LAB).kubectl("delete", "datasets,trainingruns", "--all", "--timeout=120s")
    installed.uninstall()
    cluster.kubectl("delete", "-k", folder / "lab", "--ignore-not-found", "--timeout=120s")
    offer_gpus(cluster, 0)


@pytest.fixture(scope="module")
def lab(bay: Site) -> Site:
    """The sample's tenant, with a Ready Dataset."""
    site = replace(bay, tenant=LAB)
    site.apply(CROPS)
    site.wait_ready("dataset", "crops", 300)
    return site


def says(site: Site, name: str, reason: str, *words: str, kind: str = "trainingrun") -> Mapping[str, str]:
    """Wait until Ready is not True with this reason, and its message contains all ``words``."""

    def told() -> Mapping[str, str] | None:
        ready = site.ready(kind, name)
        found = ready.get("reason") == reason and all(word in ready.get("message", "") for word in words)
        return ready if found and ready["status"] != "True" else None

    found: Mapping[str, str] = site.wait(f"{kind} {name} says {reason} with {words}", told, 480)
    return found


def trains(site: Site, name: str) -> None:
    """Wait for its first epoch."""

    def epoch() -> int:
        progress = site.get("trainingrun", name).get("status", {}).get("progress") or {}
        return int(progress.get("epoch", 0))

    site.wait(f"{name} trains", epoch, 480)


def was_preempted(site: Site, name: str, *words: str) -> None:
    """Wait for the event that contains all ``words``.

    The pod has half a minute to end, in addition to the usual waiting time of a test.
    """

    def told() -> bool:
        for pod in site.pods():
            stopped = any(each["type"] == "TerminationTarget" for each in pod["status"].get("conditions", ()))
            if stopped and pod["metadata"].get("deletionGracePeriodSeconds", 0) > 1:
                site.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=1", "--wait=false", check=False)
        chosen = f"--field-selector=involvedObject.name={name},reason=Preempted"
        events = json.loads(site.kubectl("get", "events", chosen, "-o", "json"))["items"]
        return any(all(word in event["message"] for word in words) for event in events)

    site.wait(f"{name} was preempted: {words}", told, 480)


def queued(site: Site, name: str) -> Mapping[str, Any]:
    """Wait until status describes the run's queue; returns that part."""
    found: Mapping[str, Any] = site.wait(
        f"{name} says where it queues", lambda: site.get("trainingrun", name)["status"].get("queue"), 60
    )
    return found


def flavors(kueue: Kueue, site: Site, kind: str, name: str) -> set[str]:
    """Flavors whose quota the pods of a resource's run use or used."""
    uid = site.get(kind, name)["metadata"]["uid"]
    pods = {pod["metadata"]["uid"] for pod in site.pods(f"pelagos.dev/uid={uid}")}
    return {
        flavor
        for workload in kueue.workloads(site.tenant)
        if pods & {owner["uid"] for owner in workload["metadata"]["ownerReferences"]}
        for podset in workload["status"].get("admission", {}).get("podSetAssignments", [])
        for flavor in podset["flavors"].values()
    }


def test_a_queue_that_is_not_there_is_named_and_used_as_soon_as_it_is(bay: Site) -> None:
    bay.apply(CROPS)

    says(bay, "crops", "NamespaceNotReady", "LocalQueue runs does not exist", kind="dataset")

    give_queue_to_bay(bay.cluster)
    bay.wait_ready("dataset", "crops", 300)


def test_a_step_without_a_gpu_takes_none_of_the_quota_for_nodes_with_gpus(lab: Site, kueue: Kueue) -> None:
    assert flavors(kueue, lab, "dataset", "crops") == {"pelagos-cpu"}


def test_a_request_that_no_queue_can_ever_hold_is_stalled(bay: Site) -> None:
    bay.apply(on_gpu("huge", 1, gpus=GPUS + 1))

    told = says(bay, "huge", "RequestTooLarge", f"maximum capacity ({GPUS})", "spec.resources")
    assert "can never start" in told["message"]
    bay.kubectl("delete", "trainingrun/huge", "--timeout=120s")


def test_a_tenant_borrows_what_nobody_uses(bay: Site, kueue: Kueue) -> None:
    bay.apply(on_gpu("first", ENDLESS))
    trains(bay, "first")
    bay.apply(on_gpu("second", ENDLESS))
    trains(bay, "second")

    assert flavors(kueue, bay, "trainingrun", "second") == {"pelagos-gpu"}


def test_another_tenant_gets_its_fair_share_at_once(bay: Site, lab: Site, platform: Platform) -> None:
    lab.apply(on_gpu("routine", EPOCHS))

    was_preempted(bay, "second", "in the queue runs", "for a fair share")
    says(bay, "second", "Queued", "insufficient unused quota for nvidia.com/gpu in flavor pelagos-gpu")
    bay.wait("status has its place", lambda: queued(bay, "second").get("position") == 1, 60)
    assert "insufficient unused quota" in queued(bay, "second")["reason"]
    trains(lab, "routine")
    assert queued(bay, "first")["since"] <= queued(bay, "first")["admittedAt"]
    assert bay.ready("trainingrun", "first")["reason"] == "Training"


def test_a_more_important_training_takes_the_place_of_another_which_trains_no_epoch_twice(
    bay: Site, lab: Site, platform: Platform
) -> None:
    lab.apply(on_gpu("urgent", 1, priority=URGENT))

    was_preempted(lab, "routine", "in the queue runs", "for a more important workload")
    says(lab, "routine", "Queued", "insufficient unused quota for nvidia.com/gpu in flavor pelagos-gpu")
    lab.wait_ready("trainingrun", "urgent", 480)

    status = lab.wait_ready("trainingrun", "routine", 400)["status"]
    assert platform.epochs(LAB, status["pipelineRun"]["id"]) == list(range(1, EPOCHS + 1))
    assert bay.ready("trainingrun", "first")["reason"] == "Training"


def test_a_queue_that_is_stopped_is_named_and_goes_on(bay: Site) -> None:
    bay.apply(on_gpu("third", 1))
    says(bay, "third", "Queued")

    bay.kubectl("patch", "localqueue/runs", "--type=merge", "-p", json.dumps({"spec": {"stopPolicy": "Hold"}}))
    says(bay, "third", "QueueNotUsable", "LocalQueue runs is")

    bay.kubectl("patch", "localqueue/runs", "--type=merge", "-p", json.dumps({"spec": {"stopPolicy": "None"}}))
    says(bay, "third", "Queued")
