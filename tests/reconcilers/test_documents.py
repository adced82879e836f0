"""What documents of a model say about its data comes from the Dataset, as it is when the training starts."""

from __future__ import annotations

import json
from typing import Any

import pytest

import simulation
from simulation import DETECTOR, FRAMES, Simulation


def told(world: Simulation) -> list[dict[str, Any]]:
    """The input of trainings for their documents."""
    world.run_until(lambda: world.ready(DETECTOR).get("reason") == "Training")
    asked = [json.loads(run.request.parameters["request"]) for run in world.pipelines.runs.values()]
    return [each["about"] for each in asked if "about" in each]


def test_title_licence_and_people_of_the_dataset_reach_the_training(world: Simulation) -> None:
    said = {"title": "Fish of the bay", "license": "CC-BY-4.0", "creators": [{"name": "Curie, Marie"}]}
    simulation.apply_samples(world, dataset={"metadata": said})
    world.start()

    dataset = {"title": "Fish of the bay", "license": "CC-BY-4.0", "creators": ["Curie, Marie"]}
    assert told(world) == [{"resource": "default/detector", "dataset": dataset}]


@pytest.mark.parametrize("metadata", [None, {"license": "no licence of the list"}])
def test_what_the_dataset_does_not_say_or_not_rightly_is_left_out(
    world: Simulation, metadata: dict[str, Any] | None
) -> None:
    simulation.apply_samples(world, training={"datasetRef": {"name": "frames"}})
    world.start()
    world.run_until(lambda: bool(simulation.status(world, FRAMES).get("versions")))
    if metadata is not None:
        world.cluster.edit(FRAMES, {"metadata": metadata})

    assert told(world) == [{"resource": "default/detector"}]
