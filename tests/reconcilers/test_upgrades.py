"""An operator of a later release, with other versions of algorithms, takes over what an earlier one created."""

from __future__ import annotations

import pytest

from pelagos.api import meta
from pelagos_contract import algorithms
from simulation import DETECTOR, FRAMES, Simulation, status

WHY = "made again because splitting has version 2 (it had 1)"


def upgrade(world: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start an operator that splits and exports in another way."""
    world.stop()
    monkeypatch.setattr(algorithms, "SPLITTING", 2)
    monkeypatch.setattr(algorithms, "EXPORT", 2)
    world.start()


def test_an_upgrade_makes_nothing_again_and_writes_nothing(ready: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    before, made = ready.versions(), ready.pipelines.attempts_begun

    upgrade(ready, monkeypatch)
    ready.run(120)

    assert ready.versions() == before
    assert ready.pipelines.attempts_begun == made
    assert status(ready, FRAMES)["madeFrom"]["algorithms"]["splitting"] == 1
    assert status(ready, DETECTOR)["algorithms"]["export"] == 1


def test_a_cluster_that_is_rebuilt_with_a_later_release_makes_nothing_again(
    ready: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ready.pipelines.attempts_begun, ready.tracking.created, ready.registry.created

    ready.stop()
    ready.cluster.rebuild(keeps_status=False)
    ready.pipelines.runs.clear()
    ready.serving.clear()
    upgrade(ready, monkeypatch)
    ready.run_until(ready.all_current)

    assert (ready.pipelines.attempts_begun, ready.tracking.created, ready.registry.created) == made
    assert status(ready, FRAMES)["madeFrom"]["algorithms"]["splitting"] == 1


def test_what_is_retried_is_made_by_the_later_release_and_says_why(
    ready: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(ready, monkeypatch)
    before = status(ready, FRAMES)["inputsDigest"]
    ready.data_plane.classes = ["copepod", "krill"]
    ready.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "2")
    ready.volumes.put("samples/frames/0.png", "another image")
    ready.run_until(lambda: status(ready, FRAMES)["inputsDigest"] != before)
    ready.run_until(ready.all_current)

    assert status(ready, FRAMES)["madeFrom"]["algorithms"]["splitting"] == 2
    assert "splitting has version 2 (it had 1)" in status(ready, FRAMES)["versions"][0]["reason"]


def test_the_reason_is_told_in_an_event(ready: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade(ready, monkeypatch)
    ready.cluster.annotate(FRAMES, meta.RETRY_ANNOTATION, "2")
    ready.run_until(lambda: status(ready, FRAMES)["madeFrom"].get("reason") == WHY)
    ready.run_until(ready.all_current)

    told = [event.message for event in ready.cluster.events if event.reason == "MadeAgain" and event.key == FRAMES]
    assert told == [WHY]
