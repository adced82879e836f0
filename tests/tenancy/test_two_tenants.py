"""A tenant with every right in its own namespace tries to reach another's objects: nothing works, and each refusal is clear.

``reef`` has trained and serves; ``bay`` is the attacker. The platform's settings of both are where neither can write, so an
attack is a resource in ``bay``, or a status that only the operator writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import builders
import simulation
from pelagos.api import kinds
from pelagos.ports.cluster import Key
from pelagos.ports.tenants import Tenant
from simulation import Simulation

REEF = Tenant(storage_prefix="reef", experiment_prefix="reef/", max_gpus=4)
BAY = Tenant(storage_prefix="bay", experiment_prefix="bay/", max_gpus=1, queue="bay-runs", queues=("bay-night",))
SECRET = "reef/survey/secret.png"


@pytest.fixture
def world() -> Iterator[Simulation]:
    """``reef`` is finished; ``bay`` has its own images."""
    with simulation.simulation() as made:
        made.tenants.apart = True
        made.tenants.known = {"reef": REEF, "bay": BAY}
        made.volumes.files = {
            f"{each}/samples/frames/{n}.png": f"{each} {n}" for each in ("reef", "bay") for n in range(12)
        }
        made.volumes.put(SECRET, "of the reef alone")
        made.start()
        for kind, name, spec in (
            (kinds.DATASET, "frames", builders.DATASET),
            (kinds.TRAINING_RUN, "detector", builders.TRAINING_RUN),
            (kinds.MODEL_SERVICE, "detector", builders.MODEL_SERVICE),
        ):
            made.cluster.create(kind, name, spec, namespace="reef")
        made.run_until(made.all_current, within=600)
        yield made


def attempt(world: Simulation, kind: kinds.Kind, spec: Any, name: str = "attack") -> dict[str, Any]:
    """The condition Ready of a resource that the attacker creates, once it has settled."""
    before = {uid: dict(run.request.parameters) for uid, run in world.pipelines.runs.items()}
    key = world.cluster.create(kind, name, spec, namespace="bay").key
    world.run(60)
    for run_name, run in world.pipelines.runs.items():
        if run_name not in before:
            assert "reef" not in str(run.request.parameters), "nothing of the other tenant is handed to a step"
    return world.ready(key)


PATHS = ["../reef/survey", "survey/../../reef/survey", "/reef/survey", "..", "samples/../../reef", "./../reef/survey"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_on_the_volume_does_not_lead_out(world: Simulation, path: str) -> None:
    ready = attempt(world, kinds.DATASET, builders.changed(builders.DATASET, {"source": {"volume": {"path": path}}}))

    assert (ready["status"], ready["reason"]) in {("False", "InvalidSpec"), ("False", "SourceRejected")}
    assert "spec.source.volume.path" in ready["message"]


@pytest.mark.parametrize("path", ["reef/survey", "survey"])
def test_what_the_other_tenant_has_on_the_volume_is_not_there(world: Simulation, path: str) -> None:
    ready = attempt(world, kinds.DATASET, builders.changed(builders.DATASET, {"source": {"volume": {"path": path}}}))

    assert ready["reason"] == "SourceNotFound"
    assert f'"{path}" does not exist yet on the data volume' in ready["message"]
    assert "/bay)" in ready["message"]


def test_another_tenants_dataset_cannot_be_trained_on(world: Simulation) -> None:
    ready = attempt(world, kinds.TRAINING_RUN, builders.changed(builders.TRAINING_RUN, {"register": None}))

    assert (ready["status"], ready["reason"]) == ("Unknown", "DatasetNotFound")
    assert 'there is no Dataset "frames" in namespace bay' in ready["message"]


def test_another_tenants_training_and_package_cannot_be_served(world: Simulation) -> None:
    trained = world.cluster.get(Key("TrainingRun", "reef", "detector"))
    assert trained is not None
    uri = trained.status["model"]["uri"]
    by_name = builders.changed(builders.MODEL_SERVICE, {"model": {"trainingRunRef": {"name": "detector"}}})
    by_uri = builders.changed(builders.MODEL_SERVICE, {"model": {"trainingRunRef": None, "uri": uri}})
    served = world.serving.started

    assert attempt(world, kinds.MODEL_SERVICE, by_name, "by-name")["reason"] == "TrainingRunNotFound"
    refused = attempt(world, kinds.MODEL_SERVICE, by_uri, "by-uri")
    assert refused["reason"] == "ModelOutsideNamespace"
    assert "models/bay" in refused["message"]
    assert world.serving.started == served


def test_more_gpus_and_other_queues_than_the_platform_allows_are_refused(world: Simulation) -> None:
    world.cluster.create(kinds.DATASET, "frames", builders.DATASET, namespace="bay")
    world.run(60)
    greedy = builders.changed(builders.TRAINING_RUN, {"resources": {"gpus": 2}})
    elsewhere = builders.changed(builders.TRAINING_RUN, {"resources": {"queue": "reef-runs"}})
    preparing = builders.changed(builders.DATASET, {"resources": {"queue": "reef-runs"}})
    serving = builders.changed(builders.MODEL_SERVICE, {"resources": {"gpus": 1}, "scaling": {"max": 2}})

    for kind, spec, name, reason in (
        (kinds.TRAINING_RUN, greedy, "greedy", "GpuLimitExceeded"),
        (kinds.MODEL_SERVICE, serving, "serving", "GpuLimitExceeded"),
        (kinds.TRAINING_RUN, elsewhere, "elsewhere", "QueueNotAllowed"),
        (kinds.DATASET, preparing, "preparing", "QueueNotAllowed"),
    ):
        ready = attempt(world, kind, spec, name)
        assert (ready["status"], ready["reason"]) == ("False", reason), ready
    assert "spec.resources.queue is 'reef-runs', and the namespace may use bay-runs, bay-night" in ready["message"]
    allowed = builders.changed(builders.DATASET, {"resources": {"queue": "bay-night"}})
    assert attempt(world, kinds.DATASET, allowed, "allowed")["status"] == "True"


SPECS = (kinds.DATASET, kinds.TRAINING_RUN, kinds.MODEL_SERVICE)
CHOICES = (
    "storagePrefix",
    "experimentPrefix",
    "maxGpus",
    "secret",
    "claim",
    "serviceAccount",
    "imagePullSecrets",
    "caConfigMap",
)


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.kind)
def test_no_field_of_a_spec_names_what_the_platform_decides(kind: kinds.Kind) -> None:
    """Secrets, claims, accounts and prefixes have no field: whatever a tenant writes, there is nothing to name them with.

    The Secret that a source logs in with is the tenant's own: it is mounted from the namespace of the Dataset.
    """
    fields = {part.casefold() for part in _fields(kind.spec.model_json_schema(by_alias=True))} - {"secretref"}

    assert [each for each in CHOICES if any(each.casefold() in field for field in fields)] == []


def _fields(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return {name for child in schema for name in _fields(child)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema.get("properties", {}))
    return own | {name for child in schema.values() for name in _fields(child)}


@pytest.mark.parametrize("prefix", ["reef", "reef/survey", "", "REEF"])
def test_a_prefix_that_reaches_into_another_tenants_stalls_both_until_one_is_given_another(
    world: Simulation, prefix: str
) -> None:
    """Only the platform can make this mistake, no tenant can. Neither gets in, what exists stays, and it heals by itself."""
    files = dict(world.objects.files)
    world.tenants.known["bay"] = Tenant(storage_prefix=prefix, experiment_prefix="bay/")
    stolen = {"source": {"volume": {"path": "survey"}}}

    ready = attempt(world, kinds.DATASET, builders.changed(builders.DATASET, stolen))
    assert (ready["status"], ready["reason"]) == ("False", "TenantRefused")
    assert (
        f"storagePrefix is {prefix!r}, which overlaps with 'reef', the storagePrefix of the namespace reef"
        in ready["message"]
    )
    world.restart()
    world.run(60)
    assert world.ready(Key("Dataset", "bay", "attack"))["reason"] == "TenantRefused"
    assert world.ready(Key("Dataset", "reef", "frames"))["reason"] == "TenantRefused"
    assert world.objects.files == files

    world.tenants.known["bay"] = BAY
    world.run_until(lambda: world.ready(Key("Dataset", "reef", "frames"))["status"] == "True", within=60)
    assert world.ready(Key("Dataset", "bay", "attack"))["reason"] == "SourceNotFound"


def test_a_namespace_without_the_operators_rights_waits_with_its_reason_and_disturbs_nobody(world: Simulation) -> None:
    world.tenants.unbound.add("bay")

    ready = attempt(world, kinds.DATASET, builders.DATASET)

    assert (ready["status"], ready["reason"]) == ("Unknown", "NamespaceNotAdmitted")
    assert world.ready(Key("ModelService", "reef", "detector"))["status"] == "True"
    world.tenants.unbound.clear()
    world.run_until(lambda: world.ready(Key("Dataset", "bay", "attack"))["status"] == "True", within=120)


def test_a_service_in_a_namespace_that_the_operator_has_lost_can_be_deleted(world: Simulation) -> None:
    key = Key("ModelService", "reef", "detector")
    world.tenants.unbound.add("reef")
    world.serving.forbidden = True

    world.cluster.delete(key, at=world.clock.now().isoformat())
    world.run_until(lambda: world.cluster.get(key) is None, within=60)

    (told,) = [event for event in world.cluster.events if event.reason == "CleanUpAbandoned"]
    assert "left for the cluster to remove" in told.message
