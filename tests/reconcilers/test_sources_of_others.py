"""A Dataset with a source of others: what the operator looks at, and what it says once nobody names the extension any more."""

from __future__ import annotations

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
    """Elsewhere, and never changed."""

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
