"""Names of metrics: one prefix, base units, and no label that grows with the number of resources unless it is bounded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric

from pelagos.observability import metrics, resources
from pelagos_gateway import metrics as gateway
from pelagos_hub.observing import Metrics as HubMetrics

BOUNDED = {
    "kind": "the three kinds",
    "result": "states of a summary, and error, gone, deleted",
    "ready": "True, False, Unknown",
    "system": "the systems behind ports",
    "operation": "methods of ports",
    "cause": "of lines that cannot be kept: four",
    "outcome": "correct, wrong; passed, failed; accepted, moved, relabelled, removed, added",
    "reason": "the reasons of conditions, all documented",
    "source": "the places of sources that are fetched",
    "state": "published, draft, stuck, pending; of trials four",
    "phase": "of trials six",
    "stage": "the stages of pipeline runs, all in one enumeration",
    "version": "one",
    "queue": "at most MOST_QUEUES, or one for each resource that is named",
    "lease": "one",
    "le": "buckets",
}
GROWING = {"namespace", "name"}
"""Only in metrics of the collector, which names at most MOST_NAMED resources in each."""
TYPES_WITH_UNIT = {
    "histogram": ("_seconds",),
    "counter": ("",),
    "gauge": (
        *("_depth", "_resources", "_stalled", "_waiting", "_unnamed", "_reasons", "_gates", "_stages"),
        *("_ratio", "_seconds", "_bytes", "_info"),
        *("_leader", "_ready", "_correct", "_served", "_position"),
        *("_unfetched", "_suggestions", "_publications", "_trials", "_overdue"),
        *("_joules", "_grams", "_unknown"),
    ),
}


def collected() -> list[Metric]:
    own = [found for found in metrics.REGISTRY.collect() if not found.name.startswith("process_")]
    return own + list(resources.ResourceCollector(lambda: ()).describe())


REGISTRIES = {"gateway": gateway.METRICS.registry, "hub": HubMetrics().registry}
BESIDE = [pytest.param(metric, id=metric.name) for registry in REGISTRIES.values() for metric in registry.collect()]
"""Of the programs beside the operator. Those of the gateway name services, of which there are as many as it serves."""
METRICS = [pytest.param(metric, id=metric.name) for metric in collected()]


def labels(metric: Metric) -> set[str]:
    """Label names of a metric, even of one that has no sample yet."""
    names = {name for sample in metric.samples for name in sample.labels}
    declared = next((item for item in vars(metrics).values() if getattr(item, "_name", None) == metric.name), None)
    family = next((family for family in resources.FAMILIES if family.name == metric.name), None)
    return names | set(getattr(declared, "_labelnames", ())) | set(family.labels if family else ())


def test_there_are_metrics() -> None:
    assert len(METRICS) >= 10


@pytest.mark.parametrize("metric", METRICS + BESIDE)
def test_the_prefix_is_ours_and_the_words_are_in_snake_case(metric: Metric) -> None:
    assert re.fullmatch(r"pelagos(_[a-z]+)+", metric.name)


@pytest.mark.parametrize("metric", METRICS)
def test_units_are_base_units_at_the_end(metric: Metric) -> None:
    assert metric.name.endswith(TYPES_WITH_UNIT[metric.type])
    for unit in ("milliseconds", "minutes", "hours", "percent", "bytes_", "_ms", "_kb"):
        assert unit not in metric.name


@pytest.mark.parametrize("metric", METRICS + BESIDE)
def test_it_is_described(metric: Metric) -> None:
    assert metric.documentation.endswith(".")


@pytest.mark.parametrize("metric", METRICS)
def test_labels_are_bounded(metric: Metric) -> None:
    named = {family.name for family in resources.FAMILIES if "name" in family.labels}

    assert labels(metric) <= BOUNDED.keys() | (GROWING if metric.name in named else set())


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_no_label_beside_the_operator_tells_of_people(registry: CollectorRegistry) -> None:
    labels = {label for family in registry._collector_to_names for label in getattr(family, "_labelnames", ())}

    assert labels <= BOUNDED.keys() | {"namespace", "service", "access", "protocol", "code", "status", "what", "route"}


@pytest.mark.parametrize("metric", BESIDE)
def test_it_stands_in_the_documentation(metric: Metric) -> None:
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    page = Path(__file__).parents[2] / "docs" / "monitoring.md"

    assert f"| `{name}` | {metric.type} |" in page.read_text(encoding="utf-8")


def test_names_are_distinct() -> None:
    names = [metric.name for metric in collected()]
    names += [metric.name for registry in REGISTRIES.values() for metric in registry.collect()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "name", [name for name, item in vars(metrics).items() if name.isupper() and getattr(item, "_name", None)]
)
def test_every_metric_is_fed(name: str) -> None:
    """A dashboard would stay empty with a metric that nothing sets."""
    import pelagos

    sources = [path.read_text(encoding="utf-8") for path in Path(pelagos.__file__).parent.rglob("*.py")]

    assert any(re.search(rf"\b{name}\b\s*\.", source) for source in sources)
