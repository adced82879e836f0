"""Generated files are up to date; kustomize accepts the folder; monitors select labelled objects."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from generators.monitoring import documents, generate
from installations import BIN
from monitoring_tools import MANIFESTS, ROOT
from pelagos.engines.model_server import marks, pod_template
from pelagos.ports.serving import DesiredService


@pytest.fixture(scope="module")
def built() -> list[dict[str, Any]]:
    """The output of `kubectl kustomize` for the folder."""
    command = [str(BIN / "kubectl"), "kustomize", str(MANIFESTS)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return list(yaml.safe_load_all(done.stdout))


def test_files_are_as_their_sources_give_them() -> None:
    for name, text in generate.rendered(ROOT).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, f"{name}: run make generate"


def test_the_page_must_have_its_blocks() -> None:
    with pytest.raises(ValueError, match='no block "operator metrics"'):
        documents.with_tables("# Empty", {"groups": []}, {"spec": {"resources": []}})


def test_kustomize_builds_all_objects(built: list[dict[str, Any]]) -> None:
    assert sorted(f"{entry['kind']}/{entry['metadata']['name']}" for entry in built) == [
        "ClusterRole/pelagos-kube-state-metrics",
        "ConfigMap/pelagos-data",
        "ConfigMap/pelagos-fleet",
        "ConfigMap/pelagos-kube-state-metrics",
        "ConfigMap/pelagos-serving",
        "ConfigMap/pelagos-training",
        "PodMonitor/pelagos-model-servers",
        "PrometheusRule/pelagos",
        "ServiceMonitor/pelagos-operator",
    ]


def test_no_namespace_is_named_and_all_belong_to_pelagos(built: list[dict[str, Any]]) -> None:
    for entry in built:
        assert "namespace" not in entry["metadata"]
        assert entry["metadata"]["labels"]["app.kubernetes.io/part-of"] == "pelagos"


def test_configmaps_fit_into_etcd(built: list[dict[str, Any]]) -> None:
    for entry in built:
        if entry["kind"] == "ConfigMap":
            assert sum(map(len, entry["data"].values())) < 500_000


def test_monitors_scrape_the_port_that_is_named_metrics(built: list[dict[str, Any]]) -> None:
    kinds = {entry["kind"]: entry["spec"] for entry in built if "Monitor" in entry["kind"]}
    (operator,) = kinds["ServiceMonitor"]["endpoints"]
    (servers,) = kinds["PodMonitor"]["podMetricsEndpoints"]

    assert operator["port"] == servers["port"] == "metrics"
    assert operator["honorLabels"] is True
    assert kinds["PodMonitor"]["namespaceSelector"] == {"any": True}


def test_monitors_select_what_is_labelled_and_its_port_exists(built: list[dict[str, Any]]) -> None:
    selectors = {
        entry["kind"]: entry["spec"]["selector"]["matchLabels"] for entry in built if "Monitor" in entry["kind"]
    }
    service = yaml.safe_load((ROOT / "manifests" / "base" / "service.yaml").read_text(encoding="utf-8"))
    want = DesiredService("u", "n", "s", "m", "p", "o", "f", 1, 0, 1, "0.2", "0.7", 1, "d")

    assert selectors["ServiceMonitor"].items() <= service["metadata"]["labels"].items()
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]
    assert selectors["PodMonitor"].items() <= marks.labels(want, "s").items()
    assert "metrics" in [name for name, _ in pod_template.PORTS]


def test_kube_state_metrics_may_read_exactly_our_kinds(built: list[dict[str, Any]]) -> None:
    (role,) = [entry for entry in built if entry["kind"] == "ClusterRole"]

    assert role["rules"] == [
        {
            "apiGroups": ["pelagos.dev"],
            "resources": ["datasets", "modelservices", "trainingruns", "trials"],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]},
    ]


def test_links_of_the_page_lead_somewhere() -> None:
    docs = ROOT / "docs"
    for page in (docs / "monitoring.md", *(docs / "runbooks").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
