"""``pelagos cost``: the cost of each training, and the sum."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from pelagos.cli.main import app
from resource_servers import ApiServer, api

__all__ = ["api"]

COST: dict[str, Any] = {
    "durationSeconds": "about 41",
    "cpuHours": "about 0.023",
    "gpuHours": "0",
    "energy": "about 0.00028 kWh",
    "energyMethod": "processors estimated as 12 W for each busy core",
    "co2": "about 0.13 g",
    "intensity": "475 g/kWh",
    "attempts": 1,
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["cost", *map(str, arguments)], env={"COLUMNS": "200"})


def test_trainings_are_listed_and_added_up(api: ApiServer) -> None:
    api.add("small", {"cost": COST})
    api.add("large", {"cost": COST | {"gpuHours": "about 2.5", "energy": "about 1.2 kWh", "co2": "about 570 g"}})
    api.add("waiting", {})

    done = run()

    assert done.exit_code == 0, done.output
    assert "about 0.00028 kWh" in done.stdout
    assert "about 570 g" in done.stdout
    assert "waiting" not in done.stdout
    assert done.stderr.count("12 W for each busy core; CO2: 475 g/kWh") == 1
    assert json.loads(run("-o", "json").stdout)["total"] == {
        "cpuHours": "about 0.046",
        "gpuHours": "about 2.5",
        "energy": "about 1.2 kWh",
        "co2": "about 570 g",
    }


def test_a_sum_with_something_unknown_is_the_least(api: ApiServer) -> None:
    api.add("one", {"cost": COST})
    api.add("two", {"cost": COST | {"energy": "unknown", "co2": "unknown", "missing": ["the energy of\x1b[2J GPUs"]}})

    done = run("one", "two")

    assert "at least 0.00028 kWh" in done.stdout
    assert "two: not counted: the energy of" in done.stderr
    assert "\x1b" not in done.stderr


def test_where_nothing_has_ended_it_says_so(api: ApiServer) -> None:
    api.add("waiting", {})

    done = run("-o", "json")

    assert done.exit_code == 1
    assert "no training that was asked for in the namespace default" in json.loads(done.stdout)["error"]


def test_one_that_is_not_there_is_named(api: ApiServer) -> None:
    api.add("small", {"cost": COST})

    assert "TrainingRun default/large not found; there are small" in run("large").stderr
