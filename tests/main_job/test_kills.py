"""kill -9 of every part in the middle of training and serving: it recovers by itself, and nothing is done twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from installations import Installation, dataset, service, training

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(1200)]
IN_ORDER = True
"""The tests of this module build on each other."""

EPOCHS = 40
CROPS = "samples/phytoplankton-crops"
NAMES = ("dataset/crops", "trainingrun/classifier", "modelservice/classifier")


@pytest.fixture(scope="module")
def training_site(site: Installation) -> Installation:
    """A training that has finished its first epochs."""
    site.apply(
        dataset("crops", CROPS, "Classification"),
        training("classifier", "crops", "mobilenet_v3_small", EPOCHS, register={"model": "classifier"}),
        service("classifier", {"registry": {"model": "classifier", "version": "1"}}),
    )
    site.wait("the first epochs are done", lambda: epoch(site) >= 2, seconds=300)
    return site


def status(site: Installation) -> dict[str, Any]:
    return dict(site.get("trainingrun", "classifier").get("status", {}))


def epoch(site: Installation) -> int:
    return int((status(site).get("progress") or {}).get("epoch", 0))


def moves_on(site: Installation) -> None:
    """Wait until the training makes progress that its status shows."""
    before = epoch(site)
    site.wait(f"an epoch after {before}", lambda: epoch(site) > before or status(site).get("finishedAt"))


def test_a_killed_pipeline_starts_again_in_the_same_run(training_site: Installation) -> None:
    name = status(training_site)["pipelineRun"]["id"]
    before = training_site.processes("kfp.dsl.executor_main")

    for process in training_site.processes("local_runner") + before:
        training_site.kill(process)

    training_site.wait(
        "another process trains", lambda: set(training_site.processes("kfp.dsl.executor_main")) - set(before)
    )
    moves_on(training_site)
    assert status(training_site)["pipelineRun"]["id"] == name


@pytest.mark.parametrize("part", ["operator", "mlflow", "apiserver", "etcd"])
def test_a_killed_part_is_restarted_and_the_training_goes_on(training_site: Installation, part: str) -> None:
    before = training_site.running(part)

    training_site.kill(before)

    training_site.wait(f"a new {part}", lambda: training_site.part(part) not in (0, before))
    training_site.wait(
        "the API server answers", lambda: "classifier" in training_site.kubectl("get", "trun", check=False)
    )
    moves_on(training_site)


def test_after_all_that_every_epoch_was_trained_once(training_site: Installation) -> None:
    body = training_site.wait_ready("trainingrun", "classifier", 900)

    workspace = training_site.home / "objects" / "workspaces" / body["status"]["pipelineRun"]["id"]
    history = json.loads((workspace / "history.json").read_text(encoding="utf-8"))
    assert [row["number"] for row in history] == list(range(1, EPOCHS + 1))
    times = [row["at"] for row in history]
    assert times == sorted(times), "no epoch was trained again after a later one"


def test_there_is_one_pipeline_run_and_one_tracked_run(training_site: Installation) -> None:
    uid = training_site.get("trainingrun", "classifier")["metadata"]["uid"]

    runs = [run for run in (training_site.home / "runs").iterdir() if uid in run.name]
    tracked = [
        run for run in training_site.tracked_runs() if {"key": "pelagos.dev/uid", "value": uid} in run["data"]["tags"]
    ]

    assert len(runs) == 1
    assert len(tracked) == 1
    assert tracked[0]["info"]["status"] == "FINISHED"


def test_a_killed_model_server_answers_right_again(training_site: Installation) -> None:
    training_site.wait_ready("modelservice", "classifier", 60)
    (server,) = training_site.processes("tritonserver ")

    training_site.kill(server)

    restarted = training_site.wait(
        "the service is Ready after one restart",
        lambda: training_site.get("modelservice", "classifier")["status"].get("restarts") == 1,
    )
    assert restarted
    training_site.wait_ready("modelservice", "classifier", 60)


def test_deletion_after_all_that_leaves_no_process(training_site: Installation) -> None:
    training_site.kubectl("delete", *NAMES, "--timeout=60s")

    assert training_site.processes("tritonserver") == []
    assert training_site.processes("local_runner") == []
