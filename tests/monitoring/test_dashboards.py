"""Dashboards that Grafana can load. Grafana itself is not run; test_incidents runs all queries."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from generators.monitoring.dashboards import DASHBOARDS
from generators.monitoring.panels import Panel, Query, Row, as_json
from monitoring_tools import MANIFESTS, ROOT

FILES = sorted((ROOT / "manifests" / "dashboards").glob("*.json"))
UNITS = {"short", "none", "percentunit", "s", "ops", "reqps", "bytes"}
"""Ids of units in Grafana's list (packages/grafana-data, valueFormats)."""
TYPES = {"row", "timeseries", "stat", "bargauge", "table"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return parsed


def drawn(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Panels, without the headings of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_there_are_four_with_a_picture_each() -> None:
    assert [file.stem for file in FILES] == sorted(f"pelagos-{board.name}" for board in DASHBOARDS)
    assert len(FILES) == 4
    for board in DASHBOARDS:
        assert (ROOT / "docs" / "images" / "dashboards" / f"{board.name}.png").is_file()


def test_it_has_what_grafana_needs(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"].startswith("pelagos-")
    assert len(dashboard["uid"]) <= 40
    assert dashboard["schemaVersion"] == 38
    assert dashboard["title"].startswith("Pelagos / ")
    assert "id" not in dashboard, "an id is given by the Grafana that imports it"
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))


def test_data_source_and_namespace_are_chosen_by_the_user(dashboard: dict[str, Any]) -> None:
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}

    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["namespace"]["datasource"] == DATASOURCE
    assert variables["namespace"]["allValue"] == ".*"
    for panel in drawn(dashboard):
        assert panel["datasource"] == DATASOURCE
        assert {str(target["datasource"]) for target in panel["targets"]} == {str(DATASOURCE)}


def test_panels_stay_on_the_page_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
        assert min(place["w"], place["h"]) >= 1
    for one, other in itertools.combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_every_panel_is_described_and_has_a_known_form_and_unit(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in drawn(dashboard)]
    assert all(titles)
    for panel in drawn(dashboard):
        assert panel["type"] in TYPES
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        steps = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert steps[0] is None
        assert steps[1:] == sorted(steps[1:])
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


def test_time_series_ask_over_time_and_the_others_for_now(dashboard: dict[str, Any]) -> None:
    for panel in drawn(dashboard):
        over_time = panel["type"] == "timeseries"
        for target in panel["targets"]:
            assert (target["range"], target["instant"]) == (over_time, not over_time)
            assert target["format"] == ("table" if panel["type"] == "table" else "time_series")


def test_only_variables_that_exist_are_used(dashboard: dict[str, Any]) -> None:
    for panel in drawn(dashboard):
        for target in panel["targets"]:
            rest = target["expr"].replace("$__rate_interval", "").replace("$namespace", "")
            assert "$" not in rest, target["expr"]


def test_grafanas_sidecar_finds_them(dashboard: dict[str, Any]) -> None:
    objects = yaml.safe_load_all((MANIFESTS / "dashboards.yaml").read_text(encoding="utf-8"))
    (found,) = [entry for entry in objects if entry["metadata"]["name"] == dashboard["uid"]]

    assert found["kind"] == "ConfigMap"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(found["data"][f"{dashboard['uid']}.json"]) == dashboard


def test_a_row_that_is_too_wide_is_refused() -> None:
    panel = Panel("p", "d.", (Query("up"),), width=13)
    (first, *_) = DASHBOARDS

    with pytest.raises(ValueError, match="Wide is wider than 24"):
        as_json(type(first)("n", "t", "d", (Row("Wide", (panel, panel)),), "up"))


def test_pictures_are_pngs_of_a_readable_size() -> None:
    for file in Path(ROOT / "docs" / "images" / "dashboards").glob("*.png"):
        head = file.read_bytes()[:24]
        assert head.startswith(b"\x89PNG\r\n")
        width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
        assert width >= 1200
        assert height >= 600
        assert file.stat().st_size < 600_000
