"""Real statuses: everything that the operator writes while resources live, fail, are suspended, wait and are deleted.

They come from tests/simulation.py: its loop, driver and reconcilers are the operator's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import builders
import kstatus
import simulation
from pelagos.api import kinds
from pelagos.ports.cluster import Resource
from simulation import DETECTOR, FRAMES, SERVICE, Simulation

Body = dict[str, Any]


def _live(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)


def _miss_the_source(world: Simulation) -> None:
    world.create(
        kinds.DATASET, "frames", builders.changed(builders.DATASET, {"source": {"volume": {"path": "nowhere"}}})
    )
    world.start()
    world.run(60)


def _fail_the_gate(world: Simulation) -> None:
    world.data_plane.metrics = {"test/mAP50": 0.1, "test/mAP50-95": 0.05}
    simulation.apply_samples(world)
    world.start()
    world.run(120)


def _fail_the_run(world: Simulation) -> None:
    world.data_plane.failures = [{"reason": "UntrustedCheckpoint", "message": "weights.pt holds code"}] * 9
    simulation.apply_samples(world)
    world.start()
    world.run(120)


def _suspend(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run(1)
    for key in (FRAMES, DETECTOR):
        world.cluster.edit(key, {"suspend": True})
    world.run(60)


def _lose_everything(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run(2)
    world.outages(happening=True)
    world.run(120)
    world.outages(happening=False)
    world.run_until(world.all_current)


def _miss_the_model(world: Simulation) -> None:
    world.create(kinds.MODEL_SERVICE, "detector", {"model": {"registry": {"model": "nothing", "alias": "champion"}}})
    world.start()
    world.run(60)


def _serve_what_is_not_ours(world: Simulation) -> None:
    world.create(kinds.MODEL_SERVICE, "detector", {"model": {"uri": "fake://objects/models/other/uid/package"}})
    world.start()
    world.run(60)


def _delete_on_the_way(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run(4)
    for key in (SERVICE, DETECTOR, FRAMES):
        world.cluster.delete(key)
    world.run(30)


def _be_interrupted(world: Simulation) -> None:
    world.data_plane.interruptions = 20
    simulation.apply_samples(world)
    world.start()
    world.run(1200)


SCENES: dict[str, Callable[[Simulation], None]] = {
    "live": _live,
    "miss the source": _miss_the_source,
    "fail the gate": _fail_the_gate,
    "fail the run": _fail_the_run,
    "suspend": _suspend,
    "lose everything": _lose_everything,
    "miss the model": _miss_the_model,
    "serve what is not ours": _serve_what_is_not_ours,
    "delete on the way": _delete_on_the_way,
    "be interrupted": _be_interrupted,
}


@pytest.fixture(scope="session")
def bodies() -> list[Body]:
    """Every different state of a resource that ever appeared."""
    found: dict[str, Body] = {}
    for play in SCENES.values():
        with simulation.simulation() as world:
            play(world)
            for history in world.auditor.seen.values():
                for resource in history:
                    found.setdefault(_summary(resource), kstatus.body_of(resource))
    return list(found.values())


def _summary(resource: Resource) -> str:
    conditions = [(each["type"], each["status"], each["reason"]) for each in resource.status.get("conditions", ())]
    is_stale = resource.status.get("observedGeneration") != resource.generation
    return repr((resource.kind.kind, resource.deleting, is_stale, resource.spec.get("suspend"), sorted(conditions)))
