"""Every alert fires when it should, with the right words, and not otherwise: promtool's unit tests of the shipped rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from alert_cases import CASES, Case
from monitoring_tools import Promtool


def unit_test(case: Case, rule: dict[str, Any], rules_file: Path) -> dict[str, Any]:
    """The case in promtool's form."""
    expected = []
    if case.says is not None:
        annotations = {
            "summary": filled(rule["annotations"]["summary"], case),
            "description": case.says,
            "runbook_url": rule["annotations"]["runbook_url"],
        }
        expected = [{"exp_labels": {**rule["labels"], **case.labels}, "exp_annotations": annotations}]
    asked = {"eval_time": f"{case.at}m", "alertname": case.alert, "exp_alerts": expected}
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    test = {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}
    # With a step of one minute, a whole day takes promtool as long as all other cases.
    interval = "1m" if case.at < 24 * 60 else "10m"
    return {"rule_files": [str(rules_file)], "evaluation_interval": interval, "tests": [test]}


def filled(template: str, case: Case) -> str:
    """A summary with the labels of the case; a missing one is an error in the rule."""
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: case.labels[found[1]], template)


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.alert}: {case.title}") for case in CASES])
def test_an_alert_fires_when_it_should(
    case: Case, rules: list[dict[str, Any]], rules_file: Path, promtool: Promtool, tmp_path: Path
) -> None:
    severity = case.labels.get("severity")
    rule = next(
        rule for rule in rules if rule.get("alert") == case.alert and severity in (None, rule["labels"]["severity"])
    )
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(unit_test(case, rule, rules_file)))

    assert "SUCCESS" in promtool("test", "rules", tmp_path / "case.yaml")


def test_every_alert_is_seen_to_fire_and_not_to_fire(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        if "alert" in rule:
            own = [case for case in CASES if case.alert == rule["alert"]]
            severity = rule["labels"]["severity"]
            assert any(case.says and case.labels.get("severity", severity) == severity for case in own), rule["alert"]
            assert any(case.says is None for case in own), rule["alert"]


def test_a_case_that_expects_what_does_not_happen_fails(
    rules: list[dict[str, Any]], rules_file: Path, promtool: Promtool, tmp_path: Path
) -> None:
    case = Case("nobody waits", "PelagosQueueBacklog", {"pelagos_queue_depth": "1x30"}, 20, "300 resources wait.")
    rule = next(rule for rule in rules if rule.get("alert") == case.alert)
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(unit_test(case, rule, rules_file)))

    with pytest.raises(pytest.fail.Exception, match="FAILED"):
        promtool("test", "rules", tmp_path / "case.yaml")
