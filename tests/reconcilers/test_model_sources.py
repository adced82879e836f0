"""Where the model of a service comes from, and what is reported if it does not exist."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

import builders
from pelagos.api import kinds
from pelagos.decisions import training_run
from pelagos.ports.cluster import Key
from pelagos.ports.registry import DesiredModelVersion
from pelagos.ports.tenants import Tenant
from pelagos.reconcilers import sealed_runs
from pelagos_contract.tags import SEAL_TAG
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
    """Register a model as the operator does for a TrainingRun of this namespace."""
    tags = {"pelagos.dev/resource": "trainingrun/default/detector", **tags}
    want = DesiredModelVersion("uid", "plankton", "champion", "somewhere", "t1", tags)
    sealed = {**tags, SEAL_TAG: sealed_runs.version_seal(world.authority, want)}
    ownership = sealed_runs.ownership(world.authority)
    world.ask(world.registry.register(replace(want, tags=sealed), ownership))


DESCRIPTION = {"onnxSha256": ONNX}
MANIFEST = hashlib.sha256(json.dumps(DESCRIPTION).encode()).hexdigest()
PINNED = {"uri": URI, "manifestSha256": MANIFEST}
PACKAGE = {
    "pelagos.dev/package-uri": URI,
    "pelagos.dev/onnx-sha256": ONNX,
    "pelagos.dev/manifest-sha256": MANIFEST,
}


def trained(world: Simulation, name: str = "detector", **model: str) -> None:
    """A TrainingRun that is Ready with a model, as its status says."""
    key = world.create(kinds.TRAINING_RUN, name, builders.TRAINING_RUN)
    told: dict[str, Any] = {"status": "True", "reason": "Completed", "message": "done", "observedGeneration": 1}
    told |= {"lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [told | {"type": name} for name in ("Ready", *training_run.CONDITIONS)]
    status = {"conditions": conditions, "model": {"uri": URI, "onnxSha256": ONNX, **model}, "observedGeneration": 1}
    resource = world.cluster.get(key)
    assert resource is not None
    world.ask(world.cluster.patch_status(resource, status))
    world.cluster.catch_up()


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
def test_a_registered_model_that_is_not_there_is_waited_for_with_the_next_step(
    world: Simulation, which: builders.Yaml, words: str
) -> None:
    register(world, **PACKAGE)

    found = serve(world, {"registry": {"model": "plankton", **which}})

    assert (found["status"], found["reason"]) == ("Unknown", "ModelVersionNotFound")
    assert f"the registry has no model plankton with {words} yet. Register one, or correct the name" in found["message"]


def test_a_model_that_a_training_run_is_about_to_register_is_waited_for_in_its_words(world: Simulation) -> None:
    world.make_pass(world.create(kinds.TRAINING_RUN, "later", builders.TRAINING_RUN))

    found = serve(world, {"registry": {"model": "detector", "alias": "champion"}})

    assert (found["status"], found["reason"]) == ("Unknown", "TrainingRunNotReady")
    assert (
        "alias champion yet; TrainingRun later, which registers it, is not Ready: spec.datasetRef" in found["message"]
    )


@pytest.mark.parametrize("register", [{"model": "another", "alias": "champion"}, {"model": "detector"}], ids=str)
def test_a_training_run_that_registers_something_else_is_not_waited_for(world: Simulation, register: Any) -> None:
    spec = builders.changed(builders.TRAINING_RUN, {"register": None}) | {"register": register}
    world.make_pass(world.create(kinds.TRAINING_RUN, "later", spec))

    found = serve(world, {"registry": {"model": "detector", "alias": "champion"}})

    assert found["reason"] == "ModelVersionNotFound"


def test_a_model_that_somebody_else_registered_has_no_package(world: Simulation) -> None:
    register(world)

    assert serve(world, {"registry": {"model": "plankton", "alias": "champion"}})["reason"] == "ModelPackageInvalid"


def test_a_registry_that_is_away_is_waited_for(world: Simulation) -> None:
    world.registry.outage = True

    found = serve(world, {"registry": {"model": "plankton", "alias": "champion"}})

    assert (found["status"], found["reason"]) == ("Unknown", "RegistryUnavailable")


def test_a_package_is_found_by_its_uri(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION)

    assert serve(world, PINNED)["message"] == "package mine"
    world.make_pass(SERVICE)  # and it is served
    resource = world.cluster.get(SERVICE)
    assert resource is not None
    assert resource.status["model"]["manifestSha256"] == MANIFEST


def test_a_package_that_nobody_in_the_namespace_vouches_for_is_not_served(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION)

    found = serve(world, {"uri": URI})

    assert (found["status"], found["reason"]) == ("False", "ModelPackageUnpinned")
    assert "nothing in namespace default says what the package at" in found["message"]
    assert "or set spec.model.manifestSha256 to the sha256 of the package.json that you trust" in found["message"]
    assert world.serving.started == 0


def test_a_training_run_of_the_namespace_vouches_for_its_package(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION)
    trained(world, manifestSha256=MANIFEST)

    assert serve(world, {"uri": URI})["status"] == "True"


def test_what_was_served_stays_pinned_when_its_training_run_is_gone(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION)
    serve(world, PINNED)
    world.make_pass(SERVICE)
    world.cluster.edit(SERVICE, {"model": {"uri": URI}})
    world.make_pass(SERVICE)
    assert world.condition(SERVICE, "ModelResolved")["status"] == "True"

    world.objects.put("models/default/mine/package.json", DESCRIPTION | {"labels": ["other"]})
    world.make_pass(SERVICE)

    assert world.condition(SERVICE, "ModelResolved")["reason"] == "ModelPackageAltered"


@pytest.mark.parametrize("vouched", ["spec", "training"])
def test_a_description_that_was_altered_is_refused_by_name(world: Simulation, vouched: str) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION | {"labels": ["other"]})
    if vouched == "training":
        trained(world, manifestSha256=MANIFEST)

    found = serve(world, PINNED if vouched == "spec" else {"uri": URI})

    assert (found["status"], found["reason"]) == ("False", "ModelPackageAltered")
    assert f"{URI}/package.json has been altered, or belongs to another package: sha256 " in found["message"]
    assert f"instead of {MANIFEST}; train or export the model again" in found["message"]
    assert world.serving.started == 0


def test_a_model_of_an_earlier_version_must_be_made_again(world: Simulation) -> None:
    trained(world)

    found = serve(world, {"trainingRunRef": {"name": "detector"}})

    assert (found["status"], found["reason"]) == ("False", "ModelPackageUnpinned")
    assert "TrainingRun detector does not say what its package must be" in found["message"]
    assert "train or export the model again" in found["message"]


@pytest.mark.parametrize("source", ["training", "registry"])
def test_a_stated_digest_that_contradicts_its_source_is_refused(world: Simulation, source: str) -> None:
    trained(world, manifestSha256=MANIFEST)
    register(world, **PACKAGE)
    reference: builders.Yaml = {
        "training": {"trainingRunRef": {"name": "detector"}},
        "registry": {"registry": {"model": "plankton", "alias": "champion"}},
    }[source]

    found = serve(world, {**reference, "manifestSha256": "0" * 64})

    assert (found["status"], found["reason"]) == ("False", "ModelPackageUnpinned")
    assert f"is the package {MANIFEST}, not {'0' * 64} as stated" in found["message"]
    world.cluster.edit(SERVICE, {"model": {"manifestSha256": MANIFEST}})
    world.make_pass(SERVICE)
    assert world.condition(SERVICE, "ModelResolved")["status"] == "True"


@pytest.mark.parametrize(
    ("uri", "content", "words"),
    [
        ("s3://elsewhere/model", None, "is not in the object store (fake://objects)"),
        ("fake://objects/../secret", None, "is not in the object store"),
        (URI, "not JSON", "describes no package"),
        (URI, "[]", "describes no package"),
        (URI, "{}", "describes no package"),
        (URI, "[" * 100_000, "describes no package"),
        (URI, "x" * (5 << 20), "is larger than 4194304 bytes"),
    ],
)
def test_a_uri_that_cannot_lead_to_a_package_is_refused(
    world: Simulation, uri: str, content: str | None, words: str
) -> None:
    if content is not None:
        world.objects.files["models/default/mine/package.json"] = content

    found = serve(world, {"uri": uri, "manifestSha256": hashlib.sha256((content or "").encode()).hexdigest()})

    assert (found["status"], found["reason"]) == ("False", "ModelPackageInvalid")
    assert words in found["message"]
    assert found["message"].startswith("spec.model.uri: ")


@pytest.mark.parametrize("uri", [URI, f"{URI}/"])
def test_a_package_that_is_not_there_yet_is_waited_for(world: Simulation, uri: str) -> None:
    found = serve(world, PINNED | {"uri": uri})

    assert (found["status"], found["reason"]) == ("Unknown", "ModelPackageMissing")
    assert found["message"].startswith("spec.model.uri: there is no model package at")


def test_a_uri_with_a_slash_at_its_end_is_the_same_package(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION)

    assert serve(world, PINNED | {"uri": f"{URI}/"})["message"] == "package mine"


def test_a_package_of_which_the_server_misses_files_is_waited_for(world: Simulation) -> None:
    world.objects.put("models/default/mine/package.json", DESCRIPTION)
    world.serving.missing.add(URI)

    serve(world, PINNED)

    assert world.ready(Key("ModelService", "default", "detector"))["reason"] == "ModelPackageMissing"


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
    world.objects.put("institute/plankton/models/default/mine/package.json", DESCRIPTION)
    world.objects.put("models/default/mine/package.json", DESCRIPTION)

    assert serve(world, PINNED)["reason"] == "ModelOutsideNamespace"
    world.cluster.edit(SERVICE, {"model": {"uri": "fake://objects/institute/plankton/models/default/mine"}})
    world.make_pass(SERVICE)
    assert world.condition(SERVICE, "ModelResolved")["status"] == "True"


@pytest.mark.parametrize("source", [{"trainingRunRef": {"name": "detector"}}, {"uri": URI}])
def test_the_card_of_the_training_that_made_the_model_counts_for_the_service(
    world: Simulation, source: builders.Yaml
) -> None:
    card = {"title": "Fish", "summary": "Finds fish.", "intendedUse": "a", "limitations": "b", "license": "CC0-1.0"}
    world.objects.put("models/default/mine/package.json", DESCRIPTION)
    trained(world, manifestSha256=MANIFEST)
    training = Key("TrainingRun", "default", "detector")
    world.cluster.edit(training, {"card": card | {"contact": {"name": "Roe, Jo"}}})
    spec = builders.changed(builders.MODEL_SERVICE, {"model": {"trainingRunRef": None, **source}})
    world.create(kinds.MODEL_SERVICE, "detector", {**spec, "publish": {"catalogue": "Public"}})

    world.make_pass(SERVICE)

    assert world.condition(SERVICE, "CardComplete")["status"] == "True"


def test_a_condition_about_the_card_goes_with_the_card(world: Simulation) -> None:
    world.create(kinds.MODEL_SERVICE, "detector", {**builders.MODEL_SERVICE, "card": {"title": "Fish"}})
    world.make_pass(SERVICE)
    assert world.condition(SERVICE, "CardComplete")["reason"] == "CardIncomplete"

    world.cluster.edit(SERVICE, {"card": None})
    world.make_pass(SERVICE)

    service = world.cluster.get(SERVICE)
    assert service is not None
    assert "CardComplete" not in {each["type"] for each in service.status["conditions"]}
