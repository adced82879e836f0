"""A world in memory for every test. In: resources that users write. Out: status, events, and the calls of the fakes.

Time is virtual; nothing of the loop, the driver or the reconcilers is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import simulation
from simulation import Simulation


@pytest.fixture
def world() -> Iterator[Simulation]:
    """A world with images on its volume, no resource, and no operator yet."""
    with simulation.simulation() as made:
        yield made


@pytest.fixture
def ready(world: Simulation) -> Simulation:
    """One resource of each kind, all of them Ready."""
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    return world
