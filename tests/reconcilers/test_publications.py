"""A version is published once, if it may be; regardless of the outcome, trainings continue, and published versions stay."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import builders
import simulation
from described_datasets import FULL
from kstatus import Kstatus
from pelagos.api import kinds, meta, reasons
from pelagos.ports.errors import RejectedError
from pelagos.ports.fakes.pipelines import FakeRun
from pelagos.ports.pipelines import RunRequest, RunState
from simulation import FRAMES, Fault, Simulation, status

ZENODO = {"url": "https://zenodo.org", "secretRef": {"name": "zenodo"}, "state": "Published"}
SAID = {name: value for name, value in FULL.items() if name != "identifier"}


def begin(world: Simulation, *, zenodo: Any = None, fault: Fault | None = None, **spec: Any) -> None:
    """Create a Dataset that is to be published."""
    world.data_plane.seconds = 0.5
    asked = {"refresh": "24h", "metadata": SAID, "publish": {"zenodo": ZENODO | (zenodo or {})}}
    world.create(kinds.DATASET, "frames", builders.changed(builders.DATASET, asked | spec))
    world.start(fault)


def told(world: Simulation) -> tuple[str, str]:
    """Status and reason of the condition."""
    found = world.condition(FRAMES, "Published")
    return found["status"], found["reason"]


def is_out(world: Simulation) -> Callable[[], bool]:
    """A check whether the newest version is published as the spec asks."""
    return lambda: world.is_current(FRAMES) and told(world) in {("True", "Published"), ("False", "DraftMade")}


def publishing(world: Simulation) -> FakeRun:
    """The run that publishes."""
    runs = [
        each for each in world.pipelines.runs.values() if "publish" in json.loads(each.request.parameters["request"])
    ]
    (found,) = runs
    return found


def show_more(world: Simulation) -> None:
    """Change the content of the source, which is seen at once."""
    world.volumes.put("samples/frames/extra.png", "more")
    world.cluster.edit(FRAMES, {"refresh": "23h"})


def events(world: Simulation) -> list[tuple[str, str]]:
    ours = {"Published", "DraftMade", "PublicationStuck"}
    return [(event.severity, event.reason) for event in world.cluster.events if event.reason in ours]


def test_a_version_is_published_and_status_says_where(world: Simulation) -> None:
    begin(world)
    world.run_until(is_out(world))

    found = status(world, FRAMES)
    published = found["publication"]
    assert published | {"run": "", "url": ""} == {
        "version": found["version"],
        "state": "Published",
        "doi": "10.5281/zenodo.101",
        "conceptDoi": "10.5281/zenodo.100",
        "url": "",
        "record": "101",
        "server": "https://zenodo.org",
        "at": "2026-03-01T12:30:00Z",
        "run": "",
    }
    assert found["versions"][0]["doi"] == "10.5281/zenodo.101"
    assert "RDA-F1-01M" not in found["fair"]["failed"]
    assert events(world) == [("Normal", "Published")]
    world.run(3600)
    assert world.data_plane.published == 1
    assert events(world) == [("Normal", "Published")]


def test_the_request_names_the_secret_and_never_holds_what_is_in_it(world: Simulation) -> None:
    begin(world, zenodo={"secretRef": {"name": "zenodo", "key": "zenodo-token"}, "community": "reefs"})
    world.run_until(is_out(world))

    request = publishing(world).request
    assert request.secret is not None
    assert (request.secret.name, request.secret.keys) == ("zenodo", (("zenodo-token",),))
    asked = json.loads(request.parameters["request"])
    assert asked["publish"] == {
        "url": "https://zenodo.org",
        "state": "Published",
        "view": "coco",
        "key": "zenodo-token",
        "community": "reefs",
        "documents": ["Ifdo", "Croissant", "DataCite", "DarwinCore", "SchemaOrg", "RoCrate"],
    }
    assert asked["metadata"]["title"] == "Fish of the bay"


def test_what_names_no_repository_and_no_state_is_a_draft_in_the_sandbox(world: Simulation) -> None:
    begin(world, publish={"zenodo": {"secretRef": {"name": "zenodo"}}})
    world.run_until(is_out(world))

    target = json.loads(publishing(world).request.parameters["request"])["publish"]
    assert (target["url"], target["state"]) == ("https://sandbox.zenodo.org", "Draft")
    assert told(world) == ("False", "DraftMade")
    assert "RDA-F1-01M" in status(world, FRAMES)["fair"]["failed"]


def test_without_spec_publish_nothing_is_begun(world: Simulation) -> None:
    begin(world, publish=None)
    world.run_until(world.all_current)

    assert told(world) == ("False", "NotAskedFor")
    assert "publication" not in status(world, FRAMES)
    assert len(world.pipelines.runs) == 1


def test_a_draft_becomes_the_record_when_spec_says_so(world: Simulation) -> None:
    begin(world, zenodo={"state": "Draft"})
    world.run_until(is_out(world))
    draft = status(world, FRAMES)["publication"]

    world.cluster.edit(FRAMES, {"publish": {"zenodo": {"state": "Published"}}})
    world.run_until(lambda: told(world) == ("True", "Published"))

    assert status(world, FRAMES)["publication"]["doi"] == draft["doi"]
    assert events(world) == [("Normal", "DraftMade"), ("Normal", "Published")]
    world.cluster.edit(FRAMES, {"metadata": {"title": "Another"}, "publish": {"zenodo": {"state": "Draft"}}})
    world.run(60)
    assert told(world) == ("True", "Published")
    assert world.data_plane.published == 2


def test_a_newer_version_is_published_under_the_same_doi_of_all(world: Simulation) -> None:
    begin(world)
    world.run_until(is_out(world))
    first = status(world, FRAMES)["publication"]

    show_more(world)
    world.run_until(lambda: status(world, FRAMES)["version"] != first["version"] and is_out(world)())

    second = status(world, FRAMES)["publication"]
    assert second["conceptDoi"] == first["conceptDoi"]
    assert [each["doi"] for each in status(world, FRAMES)["versions"]] == [second["doi"], first["doi"]]


def test_an_older_version_that_is_named_is_published_and_kept(world: Simulation) -> None:
    begin(world, publish=None, history={"keep": 1})
    world.run_until(world.all_current)
    first = status(world, FRAMES)["version"]
    world.cluster.edit(FRAMES, {"publish": {"zenodo": ZENODO, "version": first}})
    show_more(world)
    world.run_until(lambda: status(world, FRAMES)["version"] != first and is_out(world)())

    assert status(world, FRAMES)["publication"]["version"] == first
    world.run(60)
    assert first in [each["version"] for each in status(world, FRAMES)["versions"]]

    world.cluster.edit(FRAMES, {"publish": {"version": "sha256:" + "0" * 64}})
    world.run_until(lambda: told(world) == ("False", "VersionNotListed"))
    assert world.state(FRAMES) is Kstatus.CURRENT


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"fair": {"minScore": 100}, "metadata": {**SAID, "license": None}}, "FairScoreTooLow", "minScore is 100"),
        ({"metadata": {"title": "Fish"}}, "MetadataIncomplete", "not published without spec.metadata.creators"),
        ({"quality": {"minImagesPerClass": 1000}}, "QualityFailed", "spec.quality.minImagesPerClass"),
    ],
)
def test_what_does_not_pass_its_gates_is_not_published(
    world: Simulation, spec: dict[str, Any], reason: str, words: str
) -> None:
    begin(world, **spec)
    world.run(10)

    assert told(world) == ("False", reason)
    assert words in world.condition(FRAMES, "Published")["message"]
    assert world.data_plane.published == 0
    assert (world.state(FRAMES) is Kstatus.CURRENT) == (reason != "QualityFailed")


def test_a_gate_that_warns_only_lets_it_be_published(world: Simulation) -> None:
    begin(world, quality={"minImagesPerClass": 1000, "onFail": "Warn"})
    world.run_until(is_out(world))


def refuse(world: Simulation, reason: str, times: int = 1) -> None:
    """Have the next publications fail."""
    failure = {"reason": reason, "field": "publish.zenodo", "message": "no"}
    finish = world.data_plane._end

    def end(name: Any, known: FakeRun) -> None:
        if "publish" in json.loads(known.request.parameters["request"]) and times > len(world.data_plane.refused):
            world.data_plane.refused.append(name)
            world.data_plane.failures.append(failure)
        finish(name, known)

    world.data_plane._end = end  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("reason", "want", "seconds"),
    [
        ("RepositoryAccessDenied", ("False", "RepositoryAccessDenied"), 3600),
        ("RepositoryAway", ("Unknown", "RepositoryAway"), 600),
        ("RepositorySecretIncomplete", ("Unknown", "RepositorySecretIncomplete"), 60),
    ],
)
def test_a_failure_is_told_harms_nothing_and_is_tried_again(
    world: Simulation, reason: str, want: tuple[str, str], seconds: float
) -> None:
    refuse(world, reason)
    begin(world)
    world.run_until(lambda: bool(status(world, FRAMES)) and told(world) == want)

    assert world.is_current(FRAMES)
    assert world.condition(FRAMES, "Published")["message"] == "publish.zenodo: no"
    assert status(world, FRAMES)["publication"]["stuckSince"]
    assert events(world) == [("Warning", "PublicationStuck")]
    world.run(seconds - 30)
    assert told(world) == want
    world.run_until(is_out(world))
    assert "stuckSince" not in status(world, FRAMES)["publication"]
    assert events(world) == [("Warning", "PublicationStuck"), ("Normal", "Published")]


def test_a_try_that_is_in_progress_does_not_end_the_time_that_it_is_stuck(world: Simulation) -> None:
    refuse(world, "RepositoryAccessDenied", times=3)
    begin(world)
    world.run_until(lambda: bool(status(world, FRAMES)) and told(world)[1] == "RepositoryAccessDenied")
    since = status(world, FRAMES)["publication"]["stuckSince"]
    world.run(3700)
    assert publishing(world).run.attempt == 2
    assert status(world, FRAMES)["publication"]["stuckSince"] == since
    assert events(world) == [("Warning", "PublicationStuck")]

    world.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "now")
    world.run(5)
    assert publishing(world).run.attempt == 3


def test_a_step_that_crashes_is_started_three_times_and_then_told(world: Simulation) -> None:
    begin(world, publish=None)
    world.run_until(world.all_current)
    world.data_plane.interruptions = 100
    world.cluster.edit(FRAMES, {"publish": {"zenodo": ZENODO}})
    world.run_until(lambda: told(world) == ("False", "PipelineFailed"), within=600)
    assert world.is_current(FRAMES)
    world.data_plane.interruptions = 0
    world.run(3700)
    assert told(world) == ("True", "Published")


def test_a_secret_that_is_not_there_is_told_by_the_engine_and_harms_nothing(
    world: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = world.pipelines.submit

    async def refusing(request: RunRequest) -> Any:
        if request.secret is not None:
            raise RejectedError("pipelines", "the Secret zenodo", reason=reasons.SOURCE_SECRET_INCOMPLETE)
        return await submit(request)

    monkeypatch.setattr(world.pipelines, "submit", refusing)
    begin(world)
    world.run_until(lambda: world.is_current(FRAMES) and told(world)[1] == "RepositorySecretIncomplete")
    world.run(60)
    assert world.is_current(FRAMES)

    monkeypatch.setattr(world.pipelines, "submit", submit)
    world.run_until(is_out(world))


@pytest.mark.parametrize("change", [{"publish": None}, {"publish": {"zenodo": {"state": "Draft"}}}, {"suspend": True}])
def test_what_nobody_wants_to_have_published_any_more_is_ended_at_once(
    world: Simulation, change: dict[str, Any]
) -> None:
    begin(world)
    world.run_until(lambda: bool(status(world, FRAMES)) and told(world)[1] in {"Submitting", "Queued", "Running"})
    world.data_plane.halted = True
    world.run(2)

    world.cluster.edit(FRAMES, change)
    world.run(5)

    run = publishing(world).run
    assert run.state is RunState.CANCELED or run.attempt == 2
    assert world.data_plane.published == 0


@pytest.mark.parametrize("keeps_status", [False, True])
def test_a_rebuilt_cluster_publishes_nothing_again(world: Simulation, keeps_status: bool) -> None:
    begin(world)
    world.run_until(is_out(world))
    before = {**status(world, FRAMES)["publication"], "run": None}
    world.stop()
    world.cluster.rebuild(keeps_status=keeps_status)
    world.pipelines.runs.clear()
    world.start()
    world.run_until(is_out(world))

    assert {**status(world, FRAMES)["publication"], "run": None} == before
    assert world.data_plane.published == 1

    show_more(world)
    world.run_until(lambda: len(world.data_plane.records) == 2)
    assert len({each["concept"] for each in world.data_plane.records}) == 1


@pytest.mark.parametrize("policy", ["Delete", "Retain"])
@pytest.mark.parametrize("state", ["Draft", "Published"])
def test_a_deletion_discards_a_draft_where_all_is_to_go_and_never_a_record(
    world: Simulation, state: str, policy: str
) -> None:
    begin(world, zenodo={"state": state}, deletionPolicy=policy)
    world.run_until(is_out(world))

    world.cluster.delete(FRAMES, at=world.clock.now().isoformat())
    world.run_until(lambda: world.cluster.get(FRAMES) is None)

    assert bool(world.data_plane.records) == (state == "Published" or policy == "Retain")
    assert world.pipelines.runs == {}
    assert (world.objects.files == {}) == (policy == "Delete")


def test_a_draft_that_cannot_be_discarded_does_not_hold_up_the_deletion(world: Simulation) -> None:
    begin(world, zenodo={"state": "Draft"}, deletionPolicy="Delete")
    world.run_until(is_out(world))
    world.data_plane.failures.append({"reason": "RepositoryAccessDenied", "message": "no"})

    world.cluster.delete(FRAMES, at=world.clock.now().isoformat())
    world.run_until(lambda: world.cluster.get(FRAMES) is None)

    (event,) = [each for each in world.cluster.events if each.reason == "CleanUpAbandoned"]
    assert "https://zenodo.org/records/101" in event.message


def story(world: Simulation, fault: Fault | None) -> tuple[str, ...]:
    begin(world, fault=fault)
    assert world.life is not None
    calls: tuple[str, ...] = ()
    while world.life is not None and not (status(world, FRAMES) and is_out(world)()):
        if world.life.dead:
            world.restart()
        world.run_until(lambda life=world.life: life.dead or (bool(status(world, FRAMES)) and is_out(world)()))  # type: ignore[misc]
        calls = tuple(world.life.calls)
    world.run(30)
    assert world.data_plane.published == 1
    assert publishing(world).run.attempt == 1
    return calls


@pytest.mark.parametrize("crashes", [True, False])
def test_an_operator_that_dies_or_is_cut_off_at_any_call_publishes_once(crashes: bool) -> None:
    with simulation.simulation() as world:
        calls = story(world, None)
    for fault in simulation.faults(calls, crashes=crashes):
        with simulation.simulation() as world:
            story(world, fault)
