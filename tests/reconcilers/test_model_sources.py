"""Where the model of a service comes from, and what is said when it is not there."""

from __future__ import annotations

from typing import Any

import pytest

import builders
from pelagos.api import kinds
from pelagos.ports.cluster import Key
from pelagos.ports.registry import ModelVersionWant
from pelagos.ports.tenants import Tenant
from simulation import SERVICE, Simulation

ONNX = builders.ONNX
URI = "fake://objects/models/default/mine"


def serve(world: Simulation, model: builders.Yaml) -> dict[str, Any]:
    """The condition ModelResolved after one pass over a new service."""
    spec = builders.changed(builders.MODEL_SERVICE, {"model": {"trainingRunRef": None, **model}})
    world.create(kinds.MODEL_SERVICE, "detector", spec)
    world.make_pass(SERVICE)
    return world.condition(SERVICE, "ModelResolved")


def register(world: Simulation, **tags: str) -> None:
    want = ModelVersionWant("uid", "plankton", "champion", "somewhere", "t1", tags)
    world.ask(world.registry.register(want))


PACKAGE = {"pelagos.dev/package-uri": URI, "pelagos.dev/onnx-sha256": ONNX}


def test_a_training_run_that_is_not_there_is_waited_for(world: Simulation) -> None:
    found = serve(world, {"trainingRunRef": {"name": "later"}})

    assert (found["status"], found["reason"]) == ("Unknown", "TrainingRunNotFound")
    assert found["message"].startswith('spec.model.trainingRunRef.name: there is no TrainingRun "later"')


def test_a_training_run_that_is_being_deleted_is_not_there(world: Simulation) -> None:
    key = world.create(kinds.TRAINING_RUN, "later", builders.TRAINING_RUN)
    world.make_pass(key)
    world.cluster.delete(key)

    assert serve(world, {"trainingRunRef": {"name": "later"}})["reason"] == "TrainingRunNotFound"


def test_a_training_run_that_is_not_ready_is_waited_for_in_its_words(world: Simulation) -> None:
    world.make_pass(world.create(kinds.TRAINING_RUN, "later", builders.TRAINING_RUN))

    found = serve(world, {"trainingRunRef": {"name": "later"}})

    assert (found["status"], found["reason"]) == ("Unknown", "TrainingRunNotReady")
    assert 'there is no Dataset "frames"' in found["message"]


@pytest.mark.parametrize("which", [{"alias": "champion"}, {"version": "1"}], ids=str)
def test_a_registered_model_is_found_by_alias_and_by_version(world: Simulation, which: builders.Yaml) -> None:
    register(world, **PACKAGE)

    found = serve(world, {"registry": {"model": "plankton", **which}})

    assert (found["status"], found["message"]) == ("True", "plankton version 1")


@pytest.mark.parametrize(
    ("which", "words"), [({"alias": "challenger"}, "alias challenger"), ({"version": "9"}, "version 9")], ids=str
)
def test_a_registered_model_that_is_not_there_is_refused_with_the_next_step(
    world: Simulation, which: builders.Yaml, words: str
) -> None:
    register(world, **PACKAGE)

    found = serve(world, {"registry": {"model": "plankton", **which}})

    assert (found["status"], found["reason"]) == ("False", "ModelVersionNotFound")
    assert f"the registry has no model plankton with {words}. Register one, or correct the name" in found["message"]


def test_a_model_that_somebody_else_registered_has_no_package(world: Simulation) -> None:
    register(world)

    assert serve(world, {"registry": {"model": "plankton", "alias": "champion"}})["reason"] == "ModelPackageMissing"


def test_a_registry_that_is_away_is_waited_for(world: Simulation) -> None:
    world.registry.outage = True

    found = serve(world, {"registry": {"model": "plankton", "alias": "champion"}})

    assert (found["status"], found["reason"]) == ("Unknown", "RegistryUnavailable")


def test_a_package_is_found_by_its_uri(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", {"onnxSha256": ONNX})

    assert serve(world, {"uri": URI})["message"] == "package mine"


@pytest.mark.parametrize(
    ("uri", "content", "words"),
    [
        ("s3://elsewhere/model", None, "is not in the object store (fake://objects)"),
        ("fake://objects/../secret", None, "is not in the object store"),
        (URI, None, "there is no model package at"),
        (URI, "not JSON", "is not JSON"),
        (URI, "[]", "must hold a JSON object"),
        (URI, "{}", "package.json is missing"),
        (f"{URI}/", None, "spec.model.uri"),
    ],
)
def test_a_uri_that_leads_nowhere_is_refused(world: Simulation, uri: str, content: str | None, words: str) -> None:
    if content is not None:
        world.objects.files["models/default/mine/package.json"] = content

    found = serve(world, {"uri": uri})

    assert (found["status"], found["reason"]) == ("False", "ModelPackageMissing")
    assert words in found["message"]
    assert found["message"].startswith("spec.model.uri: ")


def test_a_uri_with_a_slash_at_its_end_is_the_same_package(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", {"onnxSha256": ONNX})

    assert serve(world, {"uri": f"{URI}/"})["message"] == "package mine"


def test_a_package_that_the_server_refuses_stalls_the_service_and_is_looked_at_again(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", {"onnxSha256": ONNX})
    world.serving.missing.add(URI)

    serve(world, {"uri": URI})

    assert world.ready(Key("ModelService", "default", "detector"))["reason"] == "SystemRejected"


STRANGE = [
    "fake://objects/models/other/uid/package",
    "fake://objects/models/default-2/uid",
    "fake://objects/models/default",
    "fake://objects/models",
    "fake://objects/datasets/default/uid",
    "fake://objects/models/default//uid",
    "fake://objects/models/default/./uid",
]


@pytest.mark.parametrize("uri", STRANGE)
def test_a_package_of_another_namespace_is_not_served_nor_even_read(world: Simulation, uri: str) -> None:
    world.objects.files[f"{uri.removeprefix('fake://objects/')}/package.json"] = f'{{"onnxSha256": "{ONNX}"}}'

    found = serve(world, {"uri": uri})

    assert (found["status"], found["reason"]) == ("False", "ModelOutsideNamespace")
    assert "is not below fake://objects/models/default, where the packages of this namespace are" in found["message"]
    resource = world.cluster.get(SERVICE)
    assert resource is not None
    assert "model" not in resource.status


@pytest.mark.parametrize("uri", ["fake://objects/models/default/../other/uid", "/etc", "s3://other/models/default/uid"])
def test_a_uri_that_leads_up_or_elsewhere_is_refused(world: Simulation, uri: str) -> None:
    assert serve(world, {"uri": uri})["status"] == "False"


@pytest.mark.parametrize("uri", [*STRANGE, "/models/default/mine", "fake://objects/models/default/../other/uid"])
def test_a_tag_in_the_registry_opens_no_other_namespace(world: Simulation, uri: str) -> None:
    register(world, **{**PACKAGE, "pelagos.dev/package-uri": uri})

    found = serve(world, {"registry": {"model": "plankton", "alias": "champion"}})

    assert (found["status"], found["reason"]) == ("False", "ModelOutsideNamespace")
    assert found["message"].startswith("spec.model.registry: plankton version 1: ")


def test_a_prefix_of_the_tenant_moves_the_folder_of_its_packages(world: Simulation) -> None:
    world.tenants.known["default"] = Tenant(storage_prefix="institute/plankton")
    world.objects.put("institute/plankton/models/default/mine/package.json", {"onnxSha256": ONNX})
    world.objects.put("models/default/mine/package.json", {"onnxSha256": ONNX})

    assert serve(world, {"uri": URI})["reason"] == "ModelOutsideNamespace"
    world.cluster.edit(SERVICE, {"model": {"uri": "fake://objects/institute/plankton/models/default/mine"}})
    world.make_pass(SERVICE)
    assert world.condition(SERVICE, "ModelResolved")["status"] == "True"
