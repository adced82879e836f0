"""What the operator reports about itself: who leads, when the watch was last heard, how probes went."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from pelagos.api import kinds
from pelagos.observability import metrics
from pelagos.ports.cluster import Resource


@pytest.fixture
def uid() -> Iterator[str]:
    yield "probed-uid"
    metrics.forget_probe("probed-uid")


@pytest.fixture
def lease() -> Iterator[str]:
    metrics.competes("east")
    yield "east"
    metrics.competes("")


def told(uid: str, name: str) -> float | None:
    """A value reported for the ModelService with this uid."""
    service = Resource(kinds.MODEL_SERVICE, "default", "one", uid, 1, "1", deleting=False)
    registry = CollectorRegistry()
    registry.register(metrics.resource_collector(lambda: (service,)))
    return registry.get_sample_value(name, {"namespace": "default", "name": "one"})


def test_leading_is_one_and_waiting_is_zero(lease: str) -> None:
    assert metrics.REGISTRY.get_sample_value("pelagos_leader", {"lease": lease}) == 0
    for leading, want in ((True, 1), (False, 0)):
        metrics.leads(leading=leading)
        assert metrics.REGISTRY.get_sample_value("pelagos_leader", {"lease": "east"}) == want


def test_only_one_lease_is_told_of(lease: str) -> None:
    metrics.leads(leading=True)
    metrics.competes("west")

    (metric,) = [metric for metric in metrics.REGISTRY.collect() if metric.name == "pelagos_leader"]
    assert [(sample.labels, sample.value) for sample in metric.samples] == [({"lease": "west"}, 0)]
    assert lease == "east"


def test_the_watch_of_a_kind_is_stamped_with_the_time() -> None:
    before = time.time()

    metrics.watch_seen("Dataset")

    seen = metrics.REGISTRY.get_sample_value("pelagos_watch_last_event_timestamp_seconds", {"kind": "Dataset"})
    assert seen is not None
    assert before <= seen <= time.time()


def test_a_wrong_answer_keeps_the_latency_of_the_last_right_one(uid: str) -> None:
    metrics.probed(uid, correct=True, latency=0.25)
    metrics.probed(uid, correct=False, latency=9.0)

    assert told(uid, "pelagos_service_probe_correct") == 0
    assert told(uid, "pelagos_service_probe_duration_seconds") == 0.25


@pytest.mark.parametrize("outcome", ["correct", "wrong"])
def test_outcomes_are_told_before_they_happen(outcome: str) -> None:
    assert metrics.REGISTRY.get_sample_value("pelagos_model_probes_total", {"outcome": outcome}) is not None


def test_a_service_that_is_gone_is_forgotten(uid: str) -> None:
    metrics.probed(uid, correct=True, latency=0.25)
    metrics.forget_probe(uid)

    assert told(uid, "pelagos_service_probe_correct") is None


def test_the_version_is_reported() -> None:
    (metric,) = [metric for metric in metrics.REGISTRY.collect() if metric.name == "pelagos_build_info"]

    ((sample),) = metric.samples
    assert sample.value == 1
    assert sample.labels["version"][0].isdigit()
