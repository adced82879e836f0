"""Alerts and recording rules as shipped: valid, complete, and about metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring_tools import MANIFESTS, Promtool, shortened
from pelagos.observability import metrics, resources
from pelagos_gateway import metrics as gateway
from pelagos_hub.observing import Metrics

TRITON = {
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
}
"""Metrics that test_incidents finds in the scrape of a real Triton."""
MODELS = {"pelagos_refused_images_total", "pelagos_cut_answers_total"}
"""Metrics of the serving code beside them; see tests/serving."""


def alerts(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [rule for rule in rules if "alert" in rule]


def of_our_programs() -> set[str]:
    """All names of samples that the operator, the gateway and the hub expose."""
    names = {family.name for family in resources.FAMILIES}
    others = (*gateway.METRICS.registry.collect(), *Metrics().registry.collect())
    for metric in (*metrics.REGISTRY.collect(), *others):
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric.type, ("",))
        names |= {f"{metric.name}{suffix}" for suffix in suffixes}
    return names


def test_promtool_finds_no_fault(promtool: Promtool, rules_file: Path, rules: list[dict[str, Any]]) -> None:
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", rules_file)

    assert f"SUCCESS: {len(rules)} rules found" in said


def test_every_alert_says_how_bad_what_and_what_to_do(rules: list[dict[str, Any]]) -> None:
    for alert in alerts(rules):
        assert re.fullmatch(r"Pelagos[A-Z]\w+", alert["alert"])
        assert re.fullmatch(r"\d+[mh]", alert["for"]), alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning", "info")
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert not alert["annotations"]["summary"].endswith(".")
        assert alert["annotations"]["description"].endswith(".")


def test_every_alert_has_a_runbook_and_every_runbook_an_alert(rules: list[dict[str, Any]], runbooks: Path) -> None:
    urls = {alert["alert"]: alert["annotations"]["runbook_url"] for alert in alerts(rules)}
    pages = {page.stem for page in runbooks.glob("Pelagos*.md")}

    assert pages == urls.keys()
    for name, url in urls.items():
        assert url.endswith(f"/docs/runbooks/{name}.md")


def test_runbooks_say_what_it_means_how_to_look_and_what_to_do(runbooks: Path) -> None:
    index = (runbooks / "README.md").read_text(encoding="utf-8")
    for page in runbooks.glob("Pelagos*.md"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"^#+ .*", text, re.MULTILINE)[:1] == [f"# {page.stem}"]
        assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "Fix"]
        assert "kubectl" in text.partition("## Diagnosis")[2].partition("## Fix")[0]
        assert f"({page.name})" in index


def test_rules_speak_of_metrics_that_exist(rules: list[dict[str, Any]]) -> None:
    known = of_our_programs() | TRITON | MODELS | {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        used = set(re.findall(r"\b(?:pelagos[_:][\w:]+|nv_\w+)", rule["expr"]))
        assert used, rule
        assert used <= known, used - known


def test_what_is_recorded_is_used_or_shown(rules: list[dict[str, Any]]) -> None:
    shown = (MANIFESTS / "dashboards.yaml").read_text(encoding="utf-8") + str([rule["expr"] for rule in rules])
    # For queries by hand; listed in docs/monitoring.md.
    by_hand = {"pelagos:reconcile_duration_seconds:p99_rate5m", "pelagos:probe_duration_seconds:p95_rate5m"}

    assert {rule["record"] for rule in rules if "record" in rule and rule["record"] not in shown} == by_hand


def test_the_object_for_the_cluster_holds_the_same_rules(rules_file: Path) -> None:
    made = yaml.safe_load((MANIFESTS / "prometheusrule.yaml").read_text(encoding="utf-8"))

    assert made["spec"] == yaml.safe_load(rules_file.read_text(encoding="utf-8"))
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")


def test_shortened_rules_are_the_same_rules_sooner(promtool: Promtool, rules_file: Path, tmp_path: Path) -> None:
    shipped = yaml.safe_load(rules_file.read_text(encoding="utf-8"))

    made = shortened(shipped, 100)

    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(made))
    promtool("check", "rules", tmp_path / "rules.yaml")
    one = next(rule for group in made["groups"] for rule in group["rules"] if rule.get("alert") == "PelagosWatchStale")
    assert "> 5 * 0.6" in one["expr"]
    assert one["for"] == "3000ms"
    left = [
        rule["expr"] for group in made["groups"] for rule in group["rules"] if re.search(r"\[\d+[smhd]\]", rule["expr"])
    ]
    assert left == []


@pytest.mark.parametrize("kind", ["critical", "warning"])
def test_burn_alerts_look_through_a_long_and_a_short_window(rules: list[dict[str, Any]], kind: str) -> None:
    windows = {"critical": {"1h", "5m"}, "warning": {"6h", "30m"}}[kind]
    factor = {"critical": "14.4", "warning": "6"}[kind]
    burning = [rule for rule in alerts(rules) if "Burn" in rule["alert"] and rule["labels"]["severity"] == kind]

    assert len(burning) == 2
    for rule in burning:
        assert set(re.findall(r"ratio_rate(\w+)", rule["expr"])) == windows
        assert rule["expr"].count(f"> {factor} *") == 2
