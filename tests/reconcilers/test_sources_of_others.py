"""A Dataset with an extension's source: what the operator checks, and what it reports once no setting names the extension."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import pytest
from pydantic import Field

import builders
import simulation
from extension_example import descriptions
from pelagos.api import kinds
from pelagos.decisions.dataset import identity
from pelagos.ports.volumes import Fingerprint
from pelagos_contract import sources
from pelagos_contract.base import Strict
from pelagos_contract.sources import SourceDescription


class Record(Strict):
    """A source elsewhere that never changes."""

    number: Annotated[str, Field(description="Number of the record.")]


@pytest.fixture
def world() -> Iterator[simulation.Simulation]:
    with simulation.simulation() as made:
        yield made


@contextmanager
def registered(place: SourceDescription) -> Iterator[None]:
    sources.register(place)
    try:
        yield
    finally:
        sources.withdraw(place.name)


def dataset(source: builders.Yaml) -> builders.Yaml:
    return {**builders.DATASET, "source": source}


def test_a_file_on_the_volume_is_waited_for_by_its_own_field(world: simulation.Simulation) -> None:
    with descriptions.registered():
        key = world.create(kinds.DATASET, "frames", dataset({"archive": {"file": "frames.zip"}}))
        world.start()
        world.run(30)
        told = world.condition(key, "SourceResolved")["message"]
        assert told.startswith('spec.source.archive.file: "frames.zip" does not exist yet on the data volume')

        world.volumes.put("frames.zip")

        world.run_until(world.all_current)
        world.stop()


def test_what_is_elsewhere_is_keyed_by_what_spec_says_and_prepared_once(world: simulation.Simulation) -> None:
    with registered(SourceDescription("record", Record, "A record of an archive.")):
        key = world.create(kinds.DATASET, "frames", dataset({"record": {"number": "1"}}))
        world.start()
        world.run_until(world.all_current)
        assert world.condition(key, "SourceResolved")["message"] == "as spec.source.record says"
        assert len(world.pipelines.runs) == 1

        world.run(3600)

        assert len(world.pipelines.runs) == 1
        world.stop()


def attempts(world: simulation.Simulation) -> list[int]:
    return [known.run.attempt for known in world.pipelines.runs.values()]


def test_what_changes_elsewhere_is_looked_at_again_by_a_step(world: simulation.Simulation) -> None:
    spec = {**dataset({"http": {"url": "https://data.example/reef.zip"}}), "refresh": "1h"}
    key = world.create(kinds.DATASET, "frames", spec)
    world.start()
    world.run_until(world.all_current)
    assert attempts(world) == [1]

    world.run(3500)
    assert attempts(world) == [1]
    world.run(200)

    assert attempts(world) == [2]
    world.run_until(world.all_current)
    assert world.ready(key)["reason"] == "VersionReady"
    (known,) = world.pipelines.runs.values()
    assert known.request.retry_key.startswith("@")
    assert json.loads(known.request.parameters["request"])["retry"] == known.request.retry_key
    world.run(3 * 3600)
    assert attempts(world) == [5]
    world.stop()


def test_what_a_digest_names_is_never_looked_at_again(world: simulation.Simulation) -> None:
    source = {"http": {"url": "https://data.example/reef.zip", "sha256": "0" * 64}}
    world.create(kinds.DATASET, "frames", {**dataset(source), "refresh": "1h"})
    world.start()
    world.run_until(world.all_current)
    world.run(2 * 3600)
    assert attempts(world) == [1]
    world.stop()


def test_a_person_may_have_it_looked_at_now(world: simulation.Simulation) -> None:
    spec = {**dataset({"http": {"url": "https://data.example/reef.zip"}}), "refresh": "10m"}
    key = world.create(kinds.DATASET, "frames", spec)
    world.start()
    world.run_until(world.all_current)
    world.run(660)
    world.run_until(world.all_current)
    world.cluster.annotate(key, "pelagos.dev/retry", "now")
    world.run(60)
    assert attempts(world) == [3]
    (known,) = world.pipelines.runs.values()
    assert known.request.retry_key == "now"
    world.stop()


@pytest.mark.parametrize(
    ("reason", "seconds"), [("SourceSecretIncomplete", 60), ("SourceAccessDenied", 3600), ("SourceNotAllowed", 3600)]
)
def test_what_was_refused_is_tried_again_in_time(world: simulation.Simulation, reason: str, seconds: int) -> None:
    source = {"http": {"url": "https://data.example/reef.zip", "sha256": "0" * 64, "secretRef": {"name": "reef"}}}
    world.data_plane.failures.append({"reason": reason, "message": "no"})
    key = world.create(kinds.DATASET, "frames", {**dataset(source), "refresh": "1h"})
    world.start()
    world.run_until(lambda: world.ready(key).get("reason") == reason)
    (known,) = world.pipelines.runs.values()
    assert known.request.secret is not None
    assert known.request.secret.name == "reef"
    world.run(seconds - 20)
    assert attempts(world) == [1]
    world.run(40)
    world.run_until(world.all_current)
    assert attempts(world) == [2]
    world.stop()


def test_without_the_extension_the_resource_says_what_is_unknown_and_nothing_loops(
    world: simulation.Simulation,
) -> None:
    with descriptions.registered():
        world.volumes.put("frames.zip")
        key = world.create(kinds.DATASET, "frames", dataset({"archive": {"file": "frames.zip"}}))
        world.start()
        world.run_until(world.all_current)
        world.stop()

    world.start()
    world.run(60)

    told = world.condition(key, "Ready")
    assert told["reason"] == "InvalidSpec"
    assert "spec.source.archive: extra inputs are not permitted (it is {'file': 'frames.zip'})" in told["message"]
    written = world.versions()
    world.run(3600)
    assert world.versions() == written


def test_what_was_made_from_a_folder_keeps_its_digest_when_a_source_is_added() -> None:
    content = Fingerprint("sha256:content", 3)
    before = identity.inputs(builders.dataset_spec(), content).digest

    with descriptions.registered():
        assert identity.inputs(builders.dataset_spec(), content).digest == before


@pytest.mark.parametrize("file", ["/etc/a.zip", "../a.zip"])
def test_a_path_that_leaves_the_volume_is_refused_by_its_own_field(file: str) -> None:
    with descriptions.registered():
        spec = kinds.DATASET.spec.model_validate(dataset({"archive": {"file": file}}))
        broken = [rule.field for rule in kinds.DATASET.spec.rules() if not rule.holds(spec)]
    assert broken == ["spec.source.archive.file"]
