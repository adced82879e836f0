"""``pelagos search``: the trials of a TrainingRun, the best one first, or one clear line why there are none."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

FOUND: dict[str, Any] = {
    "metric": "validation/F1",
    "trials": 5,
    "finished": 4,
    "pruned": 1,
    "failed": 1,
    "best": {"number": 1, "value": "0.7500", "parameters": {"learningRate": "0.01", "batchSize": "8"}},
    "history": [
        {
            "number": number,
            "state": state,
            "epochs": epochs,
            "parameters": {"learningRate": rate, "batchSize": "8"},
            **more,
        }
        for number, state, epochs, rate, more in (
            (0, "Completed", 3, "0.02", {"value": "0.5000"}),
            (1, "Completed", 3, "0.01", {"value": "0.7500"}),
            (2, "Pruned", 1, "0.1", {"value": "0.9000"}),
            (3, "Failed", 0, "1", {"reason": "TrainingDiverged", "message": "the loss became nan\u202e"}),
            (4, "Running", 2, "0.015", {}),
        )
    ],
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["search", *arguments])


def test_trials_are_listed_the_best_first_and_failed_ones_with_their_reason(api: ApiServer) -> None:
    api.add("fish", {"search": FOUND})
    done = run("fish")

    assert done.exit_code == 0, done.output
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["Trial", "State", "validation/F1", "Epochs", "learningRate", "batchSize"],
        ["1", "Completed", "0.7500", "3", "0.01", "8"],
        ["0", "Completed", "0.5000", "3", "0.02", "8"],
        ["2", "Pruned", "0.9000", "1", "0.1", "8"],
        ["3", "Failed", "0", "1", "8"],
        ["4", "Running", "2", "0.015", "8"],
    ]
    assert (
        "4 of 5 trials have ended, 1 of them early, and 1 failed; the best is trial 1 with validation/F1 0.7500: "
        in done.stderr
    )
    assert "trial 3: TrainingDiverged: the loss became nan\\u202e" in done.stderr


def test_programs_get_all_of_it(api: ApiServer) -> None:
    api.add("fish", {"search": FOUND})

    assert json.loads(run("fish", "-o", "json").stdout) == {"trainingRun": "default/fish", "search": FOUND}


def test_of_equals_the_smallest_loss_stands_first(api: ApiServer) -> None:
    api.add("fish", {"search": FOUND | {"metric": "validation/loss"}})

    assert [line.split()[0] for line in run("fish").stdout.splitlines()[1:3]] == ["0", "1"]


def test_where_there_is_no_search_one_line_says_so(api: ApiServer) -> None:
    api.add("plain", {})
    api.add("begun", {}, spec={"search": {"method": "Random"}})

    for name, why in (
        ("plain", "TrainingRun default/plain has no search: spec.search is not set"),
        ("begun", "no trial of TrainingRun default/begun has started yet; see kubectl describe trainingrun"),
    ):
        done = run(name, "-o", "json")
        assert (done.exit_code, json.loads(done.stdout)["error"]) == (1, why)
