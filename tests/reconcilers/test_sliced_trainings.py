"""Slices by a field that no image of the dataset version has are refused before a pipeline starts; others are trained for."""

from __future__ import annotations

import json

import pytest

import simulation
from simulation import DETECTOR, FRAMES, Simulation


@pytest.mark.parametrize(
    ("captured", "reason"),
    [(("site",), "SlicesImpossible"), (("site", "depth"), "Completed"), ((), "Completed")],
    ids=["no depth", "a depth", "a status that says nothing, which the step judges"],
)
def test_what_the_dataset_says_of_capture_decides(world: Simulation, captured: tuple[str, ...], reason: str) -> None:
    world.data_plane.captured = captured
    simulation.apply_samples(world, training={"evaluation": {"slices": ["site", "depthBand"]}})
    world.start()
    world.run_until(lambda: world.is_current(FRAMES) and world.ready(DETECTOR).get("reason") == reason)

    started = [run.request for run in world.pipelines.runs.values() if run.request.flow == "training"]
    if reason == "SlicesImpossible":
        assert started == []
        assert "spec.evaluation.slices names depthBand" in world.ready(DETECTOR)["message"]
        return
    (request,) = started
    asked = json.loads(request.parameters["request"])["evaluation"]
    assert asked["slices"] == ["site", "depthBand"], "in their order: the first one is shown first"
