"""An operator of a later release finds work that an earlier one began, and continues it: nothing is started again.

``lives_golden.json`` is append-only. It has worlds as operators of earlier releases left them, by date and moment: the content of
the API server, the engine, MLflow and the object store. `recorded` wrote them, in the simulation of that release. Before a change
of what status holds, record one more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import simulation
from pelagos.api import kinds
from pelagos.ports.cluster import Key
from pelagos.ports.fakes.cluster import Backup
from pelagos.ports.fakes.pipelines import FakeRun
from pelagos.ports.pipelines import PipelineRun, RunName, RunRequest, RunState
from pelagos.ports.tracking import Outcome, TrackedRun
from simulation import DETECTOR, FRAMES, Simulation, status

RELEASES: Mapping[str, Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "lives_golden.json").read_text(encoding="utf-8")
)
PREPARING, TRAINING, ENDED = (
    "while a version is prepared",
    "while a model is trained",
    "when a training has ended meanwhile",
)


def recorded(world: Simulation) -> dict[str, Any]:
    """Everything that outlives an operator."""
    return {
        "at": world.event_loop.time(),
        "resources": [{"kind": key.kind, **body} for key, body in world.cluster.backup().bodies.items()],
        "runs": [
            {
                "name": str(name),
                "flow": known.request.flow,
                "parameters": dict(known.request.parameters),
                "labels": dict(known.request.labels),
                "namespace": known.request.namespace,
                "retryKey": known.run.retry_key,
                "attempt": known.run.attempt,
                "state": known.run.state.value,
                "startedAt": known.run.started_at and known.run.started_at.isoformat(),
                "finishedAt": known.run.finished_at and known.run.finished_at.isoformat(),
            }
            for name, known in world.pipelines.runs.items()
        ],
        "tracked": [
            {
                "id": run.id,
                "experiment": run.experiment,
                "url": run.url,
                "outcome": run.outcome.value,
                "tags": dict(run.tags),
                "metrics": dict(run.metrics),
                "artifactUri": run.artifact_uri,
            }
            for run in world.tracking.runs.values()
        ],
        "objects": dict(world.objects.files),
        "volume": dict(world.volumes.files),
    }


def restore(world: Simulation, told: Mapping[str, Any]) -> None:
    """Fill a world without an operator with a recorded one. Runs in progress do nothing until the test moves them."""
    world.data_plane.halted = True
    bodies = {}
    for kind in kinds.KINDS:
        for body in (dict(each) for each in told["resources"] if each["kind"] == kind.kind):
            # The fake learns of a kind when one of its resources is created.
            world.create(kind, body["metadata"]["name"], body["spec"])
            bodies[Key(body.pop("kind"), body["metadata"]["namespace"], body["metadata"]["name"])] = body
    latest = max(int(body["metadata"]["resourceVersion"]) for body in bodies.values())
    world.cluster.restore(Backup(bodies, latest))
    for each in told["runs"]:
        name, attempt, key = RunName(each["name"]), each["attempt"], each["retryKey"]
        request = RunRequest(
            name, each["flow"], each["parameters"], attempt, key, labels=each["labels"], namespace=each["namespace"]
        )
        began, ended = (each[at] and datetime.fromisoformat(each[at]) for at in ("startedAt", "finishedAt"))
        run = PipelineRun(name, RunState(each["state"]), attempt, key, 1, "", "", began, ended)
        world.pipelines.runs[name] = FakeRun(request, run)
    for each in told["tracked"]:
        world.tracking.runs[each["id"]] = TrackedRun(
            each["id"], each["experiment"], each["url"], Outcome(each["outcome"]), each["tags"], each["metrics"],
            each["artifactUri"],
        )  # fmt: skip
    world.objects.files, world.volumes.files = dict(told["objects"]), dict(told["volume"])
    world.run(told["at"])


def going_on(told: Mapping[str, Any]) -> list[RunName]:
    return [RunName(each["name"]) for each in told["runs"] if each["state"] == RunState.RUNNING.value]


def names(told: Mapping[str, Any]) -> set[str]:
    return {each["name"] for each in told["runs"]}


@pytest.mark.parametrize("release", RELEASES)
def test_a_training_that_goes_on_is_followed_to_its_end_and_not_started_again(world: Simulation, release: str) -> None:
    told = RELEASES[release][TRAINING]
    restore(world, told)
    (running,) = going_on(told)
    frozen = status(world, DETECTOR)["inputs"]

    world.start()
    world.run(120)

    assert (set(world.pipelines.runs), world.pipelines.submitted, world.tracking.created) == (names(told), 0, 0)
    assert world.ready(DETECTOR)["reason"] == "Training"
    assert status(world, DETECTOR)["progress"]["epoch"] == 4, "what was told stays told"

    world.data_plane.end(running)
    world.run_until(world.all_current)

    assert (set(world.pipelines.runs), world.pipelines.submitted, world.tracking.created) == (names(told), 0, 0)
    assert status(world, DETECTOR)["inputs"] == frozen
    assert status(world, DETECTOR)["model"]["version"] == "1"


@pytest.mark.parametrize("release", RELEASES)
def test_a_training_that_ended_while_no_operator_was_there_is_taken_as_it_is(world: Simulation, release: str) -> None:
    told = RELEASES[release][ENDED]
    restore(world, told)

    world.start()
    world.run_until(world.all_current)

    assert (set(world.pipelines.runs), world.pipelines.submitted, world.tracking.created) == (names(told), 0, 0)
    assert status(world, DETECTOR)["metrics"] == {"test/mAP50": "0.8000", "test/mAP50-95": "0.4000"}


@pytest.mark.parametrize("release", RELEASES)
def test_a_version_that_is_being_prepared_becomes_the_one_that_was_meant(world: Simulation, release: str) -> None:
    told = RELEASES[release][PREPARING]
    restore(world, told)
    (running,) = going_on(told)

    world.start()
    world.run(120)
    assert (set(world.pipelines.runs), world.pipelines.submitted) == (names(told), 0)

    world.data_plane.end(running)
    world.data_plane.halted = False
    world.run_until(world.all_current)

    # The only other run is the training, which had to wait for the version.
    assert [run.request.flow for name, run in world.pipelines.runs.items() if name != running] == ["training"]
    assert status(world, FRAMES)["pipelineRun"]["attempt"] == 1


def test_a_world_of_this_release_is_restored_as_it_was_recorded(world: Simulation) -> None:
    simulation.apply_samples(world)
    world.start()
    world.run_until(world.all_current)
    world.stop()
    told = json.loads(json.dumps(recorded(world)))

    with simulation.simulation() as other:
        restore(other, told)
        assert recorded(other) == told
