"""What every implementation of Tracking promises, shown on the fake and on a real MLflow server."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.mlflow_rest import MlflowRest
from pelagos.engines.mlflow_tracking import MlflowTracking
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.tracking import UID_TAG, Outcome, TrackedRunWant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class World:
    """A tracking server, and what others than the operator do to it."""

    def __init__(self, tracking: TrackingFake | MlflowTracking, rest: MlflowRest | None) -> None:
        self.tracking = tracking
        self.rest = rest

    async def log_metric(self, run_id: str, name: str, value: float) -> None:
        if isinstance(self.tracking, TrackingFake):
            await self.tracking.log_metric(run_id, name, value)
            return
        assert self.rest is not None
        text = "NaN" if math.isnan(value) else value  # as protobuf writes it
        body = {"run_id": run_id, "key": name, "value": text, "timestamp": self._tick(), "step": 0}
        await self.rest.post("runs/log-metric", body)

    _time = 0

    def _tick(self) -> int:
        self._time += 1
        return self._time


@pytest.fixture(params=["fake", "mlflow"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield World(TrackingFake(), None)
        return
    rest = MlflowRest(request.getfixturevalue("mlflow_uri"))
    yield World(MlflowTracking(rest), rest)
    await rest.close()


def want(uid: str = "", experiment: str = "plankton") -> TrackedRunWant:
    return TrackedRunWant(uid or str(uuid.uuid4()), experiment, "detector", {"pelagos.dev/inputs": "sha256:1"})


async def test_a_run_is_found_by_the_uid_of_its_resource(world: World) -> None:
    asked = want()
    assert await world.tracking.find_run(asked.uid) is None
    made = await world.tracking.create_run(asked)
    found = await world.tracking.find_run(asked.uid)
    assert found == made
    assert found.experiment == "plankton"
    assert found.outcome is Outcome.RUNNING
    assert found.tags[UID_TAG] == asked.uid
    assert found.tags["pelagos.dev/inputs"] == "sha256:1"
    assert found.id in found.url
    assert found.artifact_uri.endswith(f"{found.id}/artifacts")
    assert found.metrics == {}


async def test_creating_again_adopts_the_run(world: World) -> None:
    asked = want()
    first = await world.tracking.create_run(asked)
    assert (await world.tracking.create_run(asked)).id == first.id


async def test_concurrent_creations_give_one_run(world: World) -> None:
    asked = want()
    runs = await asyncio.gather(*(world.tracking.create_run(asked) for _ in range(5)))
    assert len({run.id for run in runs}) == 1


@pytest.mark.parametrize("experiment", ["it's", 'the "best"', 'it\'s "both"', "Größe/ü %20", "a`b"])
async def test_experiments_may_have_any_name(world: World, experiment: str) -> None:
    asked = want(experiment=experiment)
    run = await world.tracking.create_run(asked)
    assert run.experiment == experiment
    assert (await world.tracking.find_run(asked.uid)) == run


async def test_a_uid_with_a_quote_is_found(world: World) -> None:
    asked = want(uid=f"it's {uuid.uuid4()}")
    run = await world.tracking.create_run(asked)
    assert (await world.tracking.find_run(asked.uid)) == run


async def test_the_latest_value_of_each_metric_is_seen(world: World) -> None:
    run = await world.tracking.create_run(asked := want())
    await world.log_metric(run.id, "train/loss", 2.5)
    await world.log_metric(run.id, "train/loss", 1.5)
    await world.log_metric(run.id, "test/mAP50", math.nan)
    found = await world.tracking.find_run(asked.uid)
    assert found is not None
    assert found.metrics["train/loss"] == 1.5
    assert math.isnan(found.metrics["test/mAP50"])


@pytest.mark.parametrize("outcome", [Outcome.FINISHED, Outcome.FAILED, Outcome.KILLED])
async def test_an_outcome_is_set_and_a_run_can_be_opened_again(world: World, outcome: Outcome) -> None:
    run = await world.tracking.create_run(asked := want())
    for wanted in (outcome, outcome, Outcome.RUNNING):
        await world.tracking.set_outcome(run.id, wanted)
        found = await world.tracking.find_run(asked.uid)
        assert found is not None
        assert found.outcome is wanted


async def test_a_deleted_run_is_not_found_and_may_be_made_anew(world: World) -> None:
    run = await world.tracking.create_run(asked := want())
    await world.tracking.delete_run(run.id)
    assert await world.tracking.find_run(asked.uid) is None
    assert (await world.tracking.create_run(asked)).id != run.id


async def test_changes_to_a_run_that_is_gone_have_no_effect(world: World) -> None:
    run = await world.tracking.create_run(want())
    for identity in (run.id, "0123456789abcdef0123456789abcdef"):
        await world.tracking.delete_run(identity)
        await world.tracking.delete_run(identity)
        await world.tracking.set_outcome(identity, Outcome.KILLED)

    assert await world.tracking.find_run(run.tags[UID_TAG]) is None


async def test_two_creators_agree_on_the_oldest_run(mlflow_uri: str) -> None:
    """Two operators, or one that was restarted while its request was under way."""
    rests = [MlflowRest(mlflow_uri) for _ in range(3)]
    creators = [MlflowTracking(rest) for rest in rests]
    asked = want()
    await asyncio.gather(*(creator.create_run(asked) for creator in creators))
    answer = await rests[0].post("experiments/search", {"max_results": 1000})
    ids = [experiment["experiment_id"] for experiment in answer["experiments"]]
    search = {"experiment_ids": ids, "filter": f"tags.`{UID_TAG}` = '{asked.uid}'"}
    runs = (await rests[0].post("runs/search", search))["runs"]
    assert len(runs) == 1
    found = await creators[0].find_run(asked.uid)
    assert found is not None
    assert found.id == runs[0]["info"]["run_id"]
    for rest in rests:
        await rest.close()


async def test_a_deleted_experiment_comes_back_with_its_runs(mlflow_uri: str) -> None:
    rest = MlflowRest(mlflow_uri)
    tracking = MlflowTracking(rest)
    first, second = want(experiment="brought back"), want(experiment="brought back")
    run = await tracking.create_run(first)
    experiment = (await rest.get("experiments/get-by-name", experiment_name="brought back"))["experiment"]
    await rest.post("experiments/delete", {"experiment_id": experiment["experiment_id"]})
    assert await tracking.find_run(first.uid) is None
    assert (await tracking.create_run(first)).id == run.id
    await rest.post("experiments/delete", {"experiment_id": experiment["experiment_id"]})
    assert (await tracking.create_run(second)).experiment == "brought back"
    await rest.close()


async def test_links_lead_to_the_public_address(mlflow_uri: str) -> None:
    rest = MlflowRest(mlflow_uri)
    run = await MlflowTracking(rest, "https://mlflow.example/").create_run(want(experiment="links"))
    experiment = (await rest.get("experiments/get-by-name", experiment_name="links"))["experiment"]["experiment_id"]
    assert run.url == f"https://mlflow.example/#/experiments/{experiment}/runs/{run.id}"
    await rest.close()
