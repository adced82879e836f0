"""What every implementation of Tracking promises, shown on the fake and on a real MLflow server."""

from __future__ import annotations

import asyncio
import math
import uuid
from typing import TYPE_CHECKING

import pytest

from pelagos.engines.mlflow.notation import pairs
from pelagos.engines.mlflow.rest import MlflowRest
from pelagos.engines.mlflow.tracking import PARENT_TAG, MlflowTracking
from pelagos.ports.authority import Authority
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.tracking import DesiredTrackedRun, Outcome, Sealing, TrackedRun
from pelagos_contract.tags import INTENT_TAG, SEAL_TAG, UID_TAG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


AUTHORITY = Authority(KeysFake())


def sealing_of(uid: str, authority: Authority = AUTHORITY) -> Sealing:
    """A seal as the operator makes it for the run of a resource."""
    claim = {"uid": uid}
    return Sealing(
        intent=authority.seal("intended", claim),
        seal=lambda run_id: authority.seal("run", claim | {"run": run_id}),
        holds=lambda run_id, seal: authority.holds("run", claim | {"run": run_id}, seal),
        intends=lambda seal: authority.holds("intended", claim, seal),
    )


SEALING = sealing_of("any")


async def find_run(tracking: TrackingFake | MlflowTracking, uid: str) -> TrackedRun | None:
    """The oldest run of a resource."""
    return next(iter(await tracking.find_runs(uid)), None)


class World:
    """A tracking server, and the actions of others on it."""

    def __init__(self, tracking: TrackingFake | MlflowTracking, rest: MlflowRest | None) -> None:
        self.tracking = tracking
        self.rest = rest

    async def find(self, uid: str) -> TrackedRun | None:
        return await find_run(self.tracking, uid)

    async def log_metric(self, run_id: str, name: str, value: float) -> None:
        if isinstance(self.tracking, TrackingFake):
            await self.tracking.log_metric(run_id, name, value)
            return
        assert self.rest is not None
        text = "NaN" if math.isnan(value) else value  # as protobuf writes it
        body = {"run_id": run_id, "key": name, "value": text, "timestamp": self._tick(), "step": 0}
        await self.rest.post("runs/log-metric", body)

    async def plant(self, tags: Mapping[str, str]) -> str:
        """Create a run as somebody else, with a start time of their choice; returns its id."""
        if isinstance(self.tracking, TrackingFake):
            return self.tracking.plant(tags).id
        assert self.rest is not None
        body = {"experiment_id": "0", "start_time": 1, "tags": pairs(tags)}
        return str((await self.rest.post("runs/create", body))["run"]["info"]["run_id"])

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


def want(uid: str = "", experiment: str = "plankton") -> DesiredTrackedRun:
    return DesiredTrackedRun(uid or str(uuid.uuid4()), experiment, "detector", {"pelagos.dev/inputs": "sha256:1"})


async def test_a_run_is_found_by_the_uid_of_its_resource(world: World) -> None:
    asked = want()
    assert await world.find(asked.uid) is None
    made = await world.tracking.create_run(asked, SEALING)
    found = await world.find(asked.uid)
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
    first = await world.tracking.create_run(asked, SEALING)
    assert (await world.tracking.create_run(asked, SEALING)).id == first.id


async def test_concurrent_creations_give_one_run(world: World) -> None:
    asked = want()
    runs = await asyncio.gather(*(world.tracking.create_run(asked, SEALING) for _ in range(5)))
    assert len({run.id for run in runs}) == 1


@pytest.mark.parametrize("experiment", ["it's", 'the "best"', 'it\'s "both"', "Größe/ü %20", "a`b"])
async def test_experiments_may_have_any_name(world: World, experiment: str) -> None:
    asked = want(experiment=experiment)
    run = await world.tracking.create_run(asked, SEALING)
    assert run.experiment == experiment
    assert (await world.find(asked.uid)) == run


async def test_a_uid_with_a_quote_is_found(world: World) -> None:
    asked = want(uid=f"it's {uuid.uuid4()}")
    run = await world.tracking.create_run(asked, SEALING)
    assert (await world.find(asked.uid)) == run


async def test_the_latest_value_of_each_metric_is_seen(world: World) -> None:
    run = await world.tracking.create_run(asked := want(), SEALING)
    await world.log_metric(run.id, "train/loss", 2.5)
    await world.log_metric(run.id, "train/loss", 1.5)
    await world.log_metric(run.id, "test/mAP50", math.nan)
    found = await world.find(asked.uid)
    assert found is not None
    assert found.metrics["train/loss"] == 1.5
    assert math.isnan(found.metrics["test/mAP50"])


@pytest.mark.parametrize("outcome", [Outcome.FINISHED, Outcome.FAILED, Outcome.KILLED])
async def test_an_outcome_is_set_and_a_run_can_be_opened_again(world: World, outcome: Outcome) -> None:
    run = await world.tracking.create_run(asked := want(), SEALING)
    for wanted in (outcome, outcome, Outcome.RUNNING):
        await world.tracking.set_outcome(run.id, wanted)
        found = await world.find(asked.uid)
        assert found is not None
        assert found.outcome is wanted


async def test_a_deleted_run_is_not_found_and_may_be_made_anew(world: World) -> None:
    run = await world.tracking.create_run(asked := want(), SEALING)
    await world.tracking.delete_run(run.id)
    assert await world.find(asked.uid) is None
    assert (await world.tracking.create_run(asked, SEALING)).id != run.id


async def test_runs_below_it_end_and_go_with_it(mlflow_uri: str) -> None:
    """Runs of single trainings, which steps create; not those of resources, even if somebody attaches those below it."""
    rest = MlflowRest(mlflow_uri)
    tracking = MlflowTracking(rest)
    run, other = await tracking.create_run(want(), SEALING), await tracking.create_run(want(), SEALING)
    experiment = (await rest.get("runs/get", run_id=run.id))["run"]["info"]["experiment_id"]
    nested = []
    for status in ("RUNNING", "FINISHED"):
        body = {"experiment_id": experiment, "start_time": 1, "tags": pairs({PARENT_TAG: run.id})}
        nested.append((await rest.post("runs/create", body))["run"]["info"]["run_id"])
        await rest.post("runs/update", {"run_id": nested[-1], "status": status})
    await rest.post("runs/set-tag", {"run_id": other.id, "key": PARENT_TAG, "value": run.id})

    async def stand() -> list[str]:
        infos = [(await rest.get("runs/get", run_id=each))["run"]["info"] for each in (*nested, other.id)]
        return [info["status"] if info["lifecycle_stage"] == "active" else "gone" for info in infos]

    await tracking.set_outcome(run.id, Outcome.KILLED)
    assert await stand() == ["KILLED", "FINISHED", "RUNNING"]
    await tracking.delete_run(run.id)
    assert await stand() == ["gone", "gone", "RUNNING"]
    await rest.close()


async def test_changes_to_a_run_that_is_gone_have_no_effect(world: World) -> None:
    run = await world.tracking.create_run(want(), SEALING)
    for identity in (run.id, "0123456789abcdef0123456789abcdef"):
        await world.tracking.delete_run(identity)
        await world.tracking.delete_run(identity)
        await world.tracking.set_outcome(identity, Outcome.KILLED)

    assert await world.find(run.tags[UID_TAG]) is None


async def test_two_creators_agree_on_the_oldest_run(mlflow_uri: str) -> None:
    """Two operators, or one that was restarted while its request was in progress."""
    rests = [MlflowRest(mlflow_uri) for _ in range(3)]
    creators = [MlflowTracking(rest) for rest in rests]
    asked = want()
    await asyncio.gather(*(creator.create_run(asked, SEALING) for creator in creators))
    answer = await rests[0].post("experiments/search", {"max_results": 1000})
    ids = [experiment["experiment_id"] for experiment in answer["experiments"]]
    search = {"experiment_ids": ids, "filter": f"tags.`{UID_TAG}` = '{asked.uid}'"}
    runs = (await rests[0].post("runs/search", search))["runs"]
    assert len(runs) == 1
    found = await find_run(creators[0], asked.uid)
    assert found is not None
    assert found.id == runs[0]["info"]["run_id"]
    for rest in rests:
        await rest.close()


async def test_a_deleted_experiment_comes_back_with_its_runs(mlflow_uri: str) -> None:
    rest = MlflowRest(mlflow_uri)
    tracking = MlflowTracking(rest)
    first, second = want(experiment="brought back"), want(experiment="brought back")
    run = await tracking.create_run(first, SEALING)
    experiment = (await rest.get("experiments/get-by-name", experiment_name="brought back"))["experiment"]
    await rest.post("experiments/delete", {"experiment_id": experiment["experiment_id"]})
    assert await find_run(tracking, first.uid) is None
    assert (await tracking.create_run(first, SEALING)).id == run.id
    await rest.post("experiments/delete", {"experiment_id": experiment["experiment_id"]})
    assert (await tracking.create_run(second, SEALING)).experiment == "brought back"
    await rest.close()


async def test_links_lead_to_the_public_address(mlflow_uri: str) -> None:
    rest = MlflowRest(mlflow_uri)
    run = await MlflowTracking(rest, "https://mlflow.example/").create_run(want(experiment="links"), SEALING)
    experiment = (await rest.get("experiments/get-by-name", experiment_name="links"))["experiment"]["experiment_id"]
    assert run.url == f"https://mlflow.example/#/experiments/{experiment}/runs/{run.id}"
    await rest.close()


async def test_a_run_is_known_by_its_id(world: World) -> None:
    run = await world.tracking.create_run(want(), SEALING)
    assert await world.tracking.get_run(run.id) == run
    await world.tracking.delete_run(run.id)
    assert await world.tracking.get_run(run.id) is None
    assert await world.tracking.get_run("0123456789abcdef0123456789abcdef") is None


async def test_a_run_is_sealed_when_it_is_made(world: World) -> None:
    run = await world.tracking.create_run(want(), SEALING)
    assert run.tags[SEAL_TAG] == SEALING.seal(run.id)
    assert SEALING.owns(run)


async def test_a_strangers_older_run_is_neither_adopted_nor_deleted(world: World) -> None:
    """With our uid, our tags, and a seal that was copied from one of our runs."""
    asked = want()
    genuine = await world.tracking.create_run(asked, SEALING)
    planted = await world.plant(genuine.tags)
    assert (await world.tracking.find_runs(asked.uid))[0].id == planted
    assert (await world.tracking.create_run(asked, SEALING)).id == genuine.id
    await world.tracking.delete_run(genuine.id)
    anew = await world.tracking.create_run(asked, SEALING)
    assert anew.id not in {planted, genuine.id}
    assert {run.id for run in await world.tracking.find_runs(asked.uid)} == {planted, anew.id}


async def test_a_run_whose_reply_was_lost_before_it_was_sealed_is_finished(world: World) -> None:
    asked = want()
    begun = await world.plant({**asked.tags, UID_TAG: asked.uid, INTENT_TAG: SEALING.intent})
    assert (await world.tracking.create_run(asked, SEALING)).id == begun
    (only,) = await world.tracking.find_runs(asked.uid)
    assert SEALING.owns(only)


async def test_a_run_that_was_meant_for_something_else_is_not_finished(world: World) -> None:
    asked = want()
    other = sealing_of("another")
    planted = await world.plant({**asked.tags, UID_TAG: asked.uid, INTENT_TAG: other.intent})
    assert (await world.tracking.create_run(asked, SEALING)).id != planted


async def test_all_runs_with_a_uid_are_listed_with_their_time(world: World) -> None:
    made = [await world.tracking.create_run(want(experiment=name), SEALING) for name in ("plankton", "fish")]

    found = {run.id: run for run in await world.tracking.owned()}

    for run in made:
        assert found[run.id].tags[UID_TAG] == run.tags[UID_TAG]
        assert found[run.id].started_at == run.started_at
