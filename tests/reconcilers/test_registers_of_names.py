"""A Dataset that asks a register of names for the taxa of its classes, while the register does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import builders
import simulation
from pelagos.api import kinds

FAILURE = {"reason": "TaxonomyUnavailable", "message": "it does not answer", "field": "labels.taxonomy.url"}


@pytest.fixture
def world() -> Iterator[simulation.Simulation]:
    with simulation.simulation() as made:
        yield made


def attempts(world: simulation.Simulation) -> list[int]:
    return [known.run.attempt for known in world.pipelines.runs.values()]


def test_it_waits_for_a_register_and_asks_again_every_ten_minutes(world: simulation.Simulation) -> None:
    world.data_plane.failures += [FAILURE, FAILURE]
    spec = {**builders.DATASET, "labels": {"taxonomy": {"authority": "WoRMS"}}}
    key = world.create(kinds.DATASET, "frames", spec)
    world.start()
    world.run_until(lambda: world.ready(key).get("reason") == "TaxonomyUnavailable")
    ready = world.ready(key)
    assert (ready["status"], ready["message"]) == ("Unknown", "labels.taxonomy.url: it does not answer")
    # Waiting is not a final state: kstatus says InProgress, and nobody is alerted.
    assert "Stalled" not in {condition["type"] for condition in simulation.status(world, key)["conditions"]}

    world.run(580)
    assert attempts(world) == [1]
    world.run(60)
    assert attempts(world) == [2]
    world.run(620)

    assert attempts(world) == [3]
    world.run_until(world.all_current)
    assert world.ready(key)["reason"] == "VersionReady"
    world.run(4 * 3600)
    assert attempts(world) == [3]
    world.stop()
