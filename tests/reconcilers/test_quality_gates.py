"""A Dataset whose version breaks its gates starts no training, until the gates or the data change."""

from __future__ import annotations

import simulation
from simulation import DETECTOR, FRAMES, Simulation


def test_no_training_starts_on_a_version_that_is_blocked_and_one_does_once_the_gate_is_lowered(
    world: Simulation,
) -> None:
    simulation.apply_samples(world)
    world.cluster.edit(FRAMES, {"quality": {"minImagesPerClass": 1000000}})
    world.start()
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "VersionBlocked")

    assert world.ready(FRAMES)["reason"] == "QualityFailed"
    assert world.condition(FRAMES, "Prepared")["status"] == "True"
    assert "minImagesPerClass" in world.ready(DETECTOR)["message"]
    preparations = set(world.pipelines.runs)
    world.run(120)
    assert set(world.pipelines.runs) == preparations

    world.cluster.edit(FRAMES, {"quality": {"minImagesPerClass": 1}})

    world.run_until(lambda: world.ready(DETECTOR)["status"] == "True", within=3600)
    found = world.cluster.get(FRAMES)
    assert found is not None
    assert "blocked" not in found.status["versions"][0]
