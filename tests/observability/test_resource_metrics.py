"""Resources are counted when Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry

from pelagos.api import kinds
from pelagos.observability.metrics import ResourceCollector
from pelagos.ports.cluster import Resource

Make = Callable[..., Resource]


def registry(resources: Iterable[Resource]) -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(ResourceCollector(lambda: resources))
    return made


def test_they_are_counted_by_kind_and_ready(resource: Make) -> None:
    found = registry(
        [
            resource(kinds.DATASET, "a", conditions={"Ready": "True"}),
            resource(kinds.DATASET, "b", conditions={"Ready": "True"}),
            resource(kinds.DATASET, "c", conditions={"Ready": "False", "Stalled": "True"}),
            resource(kinds.TRAINING_RUN, "d"),
        ]
    )

    counts = {
        (sample.labels["kind"], sample.labels["ready"]): sample.value
        for metric in found.collect()
        for sample in metric.samples
        if sample.name == "pelagos_resources"
    }
    assert counts == {("Dataset", "True"): 2, ("Dataset", "False"): 1, ("TrainingRun", "Unknown"): 1}


def test_stalled_ones_are_counted_for_every_kind_and_zero_is_told(resource: Make) -> None:
    found = registry([resource(kinds.DATASET, conditions={"Ready": "False", "Stalled": "True"})])

    for kind, want in (("Dataset", 1), ("TrainingRun", 0), ("ModelService", 0)):
        assert found.get_sample_value("pelagos_resources_stalled", {"kind": kind}) == want


def test_the_progress_of_trainings_under_way_is_a_ratio(resource: Make) -> None:
    found = registry(
        [
            resource(kinds.TRAINING_RUN, "runs", conditions={"Ready": "Unknown"}, progress={"percent": 40}),
            resource(kinds.TRAINING_RUN, "done", conditions={"Ready": "True"}, progress={"percent": 100}),
            resource(kinds.TRAINING_RUN, "waits", conditions={"Ready": "Unknown"}),
        ]
    )

    samples = [
        (sample.labels, sample.value)
        for metric in found.collect()
        for sample in metric.samples
        if sample.name == "pelagos_training_progress_ratio"
    ]
    assert samples == [({"namespace": "default", "name": "runs"}, 0.4)]


def test_what_is_asked_later_is_counted_then() -> None:
    resources: list[Resource] = []
    found = registry(resources)
    assert found.get_sample_value("pelagos_resources", {"kind": "Dataset", "ready": "Unknown"}) is None

    resources.append(Resource(kinds.DATASET, "default", "new", "uid", 1, "1", deleting=False))

    assert found.get_sample_value("pelagos_resources", {"kind": "Dataset", "ready": "Unknown"}) == 1
