"""Resources are counted when Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pelagos.api import kinds
from pelagos.observability import resources as resource_metrics
from pelagos.observability.resources import Probe, ResourceCollector
from pelagos.ports.cluster import Resource
from pelagos_contract.progress import OF_DATASETS, OF_TRAININGS

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


@pytest.mark.parametrize("state", ["Stalled", "Waiting"])
def test_those_that_wait_are_counted_for_every_kind_and_zero_is_reported(resource: Make, state: str) -> None:
    found = registry([resource(kinds.DATASET, conditions={"Ready": "False", state: "True"})])

    for kind, want in (("Dataset", 1), ("TrainingRun", 0), ("ModelService", 0)):
        assert found.get_sample_value(f"pelagos_resources_{state.lower()}", {"kind": kind}) == want


def test_what_removals_freed_and_kept_is_summed(resource: Make) -> None:
    told = [{"keptBytes": 10, "freedBytes": 3}, {"message": "1 version stays"}, {"keptBytes": 5, "freedBytes": 4}]
    found = registry([resource(kinds.DATASET, f"{number}", removals=each) for number, each in enumerate(told)])

    assert found.get_sample_value("pelagos_datasets_kept_bytes", {}) == 15
    assert found.get_sample_value("pelagos_datasets_freed_bytes", {}) == 7


def test_a_removal_is_named_with_since_when_while_it_goes_on(resource: Make) -> None:
    since = {"since": "2026-01-01T00:01:00Z"}
    told = [
        resource(kinds.DATASET, "stuck", removals={"removing": [{"version": "a"}], **since}),
        resource(kinds.DATASET, "done", removals={"runs": 1}),
        replace(
            resource(kinds.DATASET, "rests", removals={"removing": [{"version": "a"}], **since}), spec={"suspend": True}
        ),
    ]

    found = values(registry(told), "pelagos_dataset_removing_timestamp_seconds")

    assert found == {("default", "stuck"): 1767225660}


def test_a_version_that_does_not_keep_its_gates_is_named_with_what_comes_of_it(resource: Make) -> None:
    at = {"lastTransitionTime": "2026-01-01T00:01:00Z"}
    failed = {"type": "QualityPassed", "status": "False", "reason": "QualityFailed", **at}
    stalled = {"type": "Stalled", "status": "True", "reason": "QualityFailed", **at}
    fine = {"type": "QualityPassed", "status": "True", "reason": "QualityPassed", **at}
    conditions = {"blocked": [failed, stalled], "warned": [failed], "fine": [fine]}
    told = [replace(resource(kinds.DATASET, name), status={"conditions": those}) for name, those in conditions.items()]

    found = values(registry(told), "pelagos_dataset_quality_failed_timestamp_seconds")

    assert found == {("default", name, name): 1767225660 for name in ("blocked", "warned")}


def test_what_was_fetched_and_what_was_not_is_told_by_source(resource: Make) -> None:
    def dataset(name: str, place: str, reason: str = "", size: int = 0) -> Resource:
        made = resource(kinds.DATASET, name, source={"bytes": size})
        status = dict(made.status)
        if reason:
            status["conditions"] = [{"type": "Prepared", "status": "False", "reason": reason}]
        return replace(made, spec={"source": {place: {}}}, status=status)

    found = registry(
        [
            dataset("one", "cvat", size=10),
            dataset("two", "cvat", "SourceAccessDenied", size=5),
            dataset("three", "cvat", "SourceAccessDenied"),
            dataset("four", "biigle", "PipelineFailed"),
            dataset("five", "biigle", "TaskMismatch"),
            dataset("six", "volume", "SourceEmpty", size=9),
        ]
    )

    assert found.get_sample_value("pelagos_datasets_fetched_bytes", {"source": "cvat"}) == 15
    assert found.get_sample_value("pelagos_datasets_fetched_bytes", {"source": "s3"}) == 0
    assert found.get_sample_value("pelagos_datasets_fetched_bytes", {"source": "volume"}) is None
    assert {
        (sample.labels["source"], sample.labels["reason"]): sample.value
        for metric in found.collect()
        for sample in metric.samples
        if sample.name == "pelagos_datasets_unfetched"
    } == {("cvat", "SourceAccessDenied"): 2, ("biigle", "PipelineFailed"): 1}


def test_what_people_made_of_suggestions_is_summed(resource: Make) -> None:
    told = {"model": "pelagos/a@1", "images": 3, "predicted": 6, "accepted": 2, "moved": 1}
    found = registry(
        [
            resource(kinds.DATASET, "one", corrections=[{**told, "relabelled": 1, "removed": 2, "added": 4}, told]),
            resource(kinds.DATASET, "two", corrections=None),
        ]
    )

    want = {"accepted": 4, "moved": 2, "relabelled": 1, "removed": 2, "added": 4}
    assert {name: found.get_sample_value("pelagos_suggestions", {"outcome": name}) for name in want} == want


def test_trials_of_searches_are_counted_by_state(resource: Make) -> None:
    states = ("Completed", "Completed", "Failed", "Running")
    found = registry(
        [
            resource(kinds.TRAINING_RUN, "one", search={"history": [{"state": state} for state in states]}),
            resource(kinds.TRAINING_RUN, "two", search={"history": [{"state": "Pruned"}]}),
            resource(kinds.TRAINING_RUN, "three"),
        ]
    )

    want = {"Running": 1, "Completed": 2, "Pruned": 1, "Failed": 1}
    assert {name: found.get_sample_value("pelagos_training_trials", {"state": name}) for name in want} == want


def test_trials_are_counted_by_phase_and_those_that_nobody_has_ended(resource: Make) -> None:
    def open_until(name: str, second: int) -> Resource:
        return resource(kinds.TRIAL, name, phase="Open", expiresAt=f"2026-01-01T00:00:{second:02}Z")

    trials = [open_until("over", 9), open_until("just-over", 20), open_until("open", 59)]
    trials += [resource(kinds.TRIAL, "new"), resource(kinds.TRIAL, "no", phase="Refused")]
    made = CollectorRegistry()
    made.register(ResourceCollector(lambda: trials, now=lambda: 1767225600.0 + 25))

    counted = values(made, "pelagos_trials")
    assert {phase: number for (phase,), number in counted.items() if number} == {"Open": 3, "Pending": 1, "Refused": 1}
    assert ("Expired",) in counted
    assert values(made, "pelagos_trials_overdue") == {(): 1}


def test_publications_are_counted_and_those_that_are_stuck_named_since_when(resource: Make) -> None:
    def dataset(name: str, status: str, reason: str, **publication: Any) -> Resource:
        made = resource(kinds.DATASET, name, publication=publication)
        condition = {
            "type": "Published",
            "status": status,
            "reason": reason,
            "lastTransitionTime": "2026-03-01T12:00:00Z",
        }
        return replace(made, spec={"publish": {}}, status={**made.status, "conditions": [condition]})

    found = registry(
        [
            dataset("out", "True", "Published"),
            dataset("draft", "False", "DraftMade"),
            dataset("refused", "False", "RepositoryAccessDenied", stuckSince="1970-01-01T00:01:00Z"),
            dataset("tried again", "Unknown", "Running", stuckSince="1970-01-01T00:02:00Z"),
            dataset("no Secret", "Unknown", "RepositorySecretIncomplete"),
            dataset("runs", "Unknown", "Running"),
            dataset("not fair enough", "False", "FairScoreTooLow"),
            resource(kinds.DATASET, "asks for nothing"),
        ]
    )

    counts = {
        state: found.get_sample_value("pelagos_publications", {"state": state})
        for state in ("published", "draft", "stuck", "pending")
    }
    assert counts == {"published": 1, "draft": 1, "stuck": 3, "pending": 2}
    name = "pelagos_publication_stuck_timestamp_seconds"
    for which, reason, since in (("refused", "RepositoryAccessDenied", 60), ("tried again", "Running", 120)):
        labels = {"namespace": "default", "name": which, "reason": reason}
        assert found.get_sample_value(name, labels) == since


def test_the_progress_of_trainings_in_progress_is_a_ratio(resource: Make) -> None:
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


def values(found: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for metric in found.collect()
        for sample in metric.samples
        if sample.name == name
    }


def test_reasons_are_counted_by_kind(resource: Make) -> None:
    conditions = [{"type": "Ready", "status": "Unknown", "reason": "Queued"}]
    waits = [replace(resource(kinds.DATASET, name), status={"conditions": conditions}) for name in "ab"]

    found = values(registry([*waits, resource(kinds.MODEL_SERVICE, "new")]), "pelagos_resource_reasons")

    assert found == {("Dataset", "Queued"): 2, ("ModelService", "None"): 1}


@pytest.mark.parametrize("state", ["Stalled", "Waiting"])
def test_a_resource_that_waits_is_named_with_since_when(resource: Make, state: str) -> None:
    stalled = {
        "type": state,
        "status": "True",
        "reason": "SourceEmpty",
        "lastTransitionTime": "2026-01-01T00:01:00Z",
    }
    waits = replace(resource(kinds.DATASET, "empty"), status={"conditions": [stalled]})

    metric = f"pelagos_resource_{state.lower()}_timestamp_seconds"
    found = values(registry([waits, resource(kinds.DATASET, "fine")]), metric)

    assert found == {("Dataset", "default", "empty", "SourceEmpty"): 1767225660}


def test_a_time_that_cannot_be_read_ends_no_scrape(resource: Make) -> None:
    waits = resource(kinds.DATASET, "odd", conditions={"Stalled": "True"})

    found = values(registry([waits]), "pelagos_resource_stalled_timestamp_seconds")

    assert found == {("Dataset", "default", "odd", "None"): 0}


class Training:
    """A TrainingRun that is observed while it runs."""

    started = "2026-01-01T00:00:00Z"
    began = 1767225600.0

    def __init__(self, resource: Make) -> None:
        self._resource = resource
        self._found: list[Resource] = []
        self._time = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(ResourceCollector(lambda: self._found, now=lambda: self.began + self._time))

    def seen(self, at: float, ready: str = "Unknown", **status: Any) -> float | None:
        """The time of its last progress, in seconds after its start."""
        self._time = at
        made = {"startedAt": self.started, **status}
        self._found[:] = [self._resource(kinds.TRAINING_RUN, "run", conditions={"Ready": ready}, **made)]
        labels = {"namespace": "default", "name": "run"}
        found = self._registry.get_sample_value("pelagos_training_last_progress_timestamp_seconds", labels)
        return None if found is None else found - self.began


def test_progress_is_counted_from_the_start_and_from_every_epoch(resource: Make) -> None:
    training = Training(resource)

    assert training.seen(50) == 0
    assert training.seen(100, progress={"epoch": 1, "percent": 10}) == 100
    assert training.seen(150, progress={"epoch": 1, "percent": 10}) == 100
    assert training.seen(200, progress={"epoch": 2, "percent": 20}) == 200


def test_a_training_first_seen_in_its_middle_counts_from_then(resource: Make) -> None:
    assert Training(resource).seen(5000, progress={"epoch": 7, "percent": 70}) == 5000


def test_a_tracking_server_that_is_away_is_no_progress(resource: Make) -> None:
    training = Training(resource)
    training.seen(100, progress={"epoch": 1, "percent": 10})

    assert training.seen(200) == 100
    assert training.seen(300, progress={"epoch": 1, "percent": 10}) == 100


def test_a_training_that_has_ended_or_has_not_begun_tells_nothing(resource: Make) -> None:
    training = Training(resource)

    assert training.seen(100, ready="True") is None
    assert training.seen(100, finishedAt="2026-01-01T00:00:09Z") is None
    assert training.seen(100, startedAt=None) is None


def test_failed_gates_are_named_and_all_are_counted(resource: Make) -> None:
    gates = [{"metric": "a", "passed": False}, {"metric": "b", "passed": True}, {"metric": "c", "passed": False}]
    found = registry(
        [
            resource(kinds.TRAINING_RUN, "poor", gates=gates),
            resource(kinds.TRAINING_RUN, "good", gates=[{"metric": "a", "passed": True}]),
        ]
    )

    assert values(found, "pelagos_training_failed_gates") == {("default", "poor"): 2}
    assert values(found, "pelagos_training_gates") == {("passed",): 2, ("failed",): 2}


def test_a_service_tells_whether_it_is_ready_and_of_its_last_probe(resource: Make) -> None:
    services = [
        resource(kinds.MODEL_SERVICE, "good", conditions={"Ready": "True"}),
        resource(kinds.MODEL_SERVICE, "new", conditions={"Ready": "Unknown"}),
        replace(resource(kinds.MODEL_SERVICE, "asleep"), spec={"suspend": True}),
    ]
    probes = {"uid-good": Probe(True, 0.02, 100.0), "uid-asleep": Probe(False, None, 90.0)}
    found = CollectorRegistry()
    found.register(ResourceCollector(lambda: services, probes))

    assert values(found, "pelagos_service_ready") == {("default", "good"): 1, ("default", "new"): 0}
    assert values(found, "pelagos_service_probe_correct") == {("default", "good"): 1}
    assert values(found, "pelagos_service_probe_duration_seconds") == {("default", "good"): 0.02}
    assert values(found, "pelagos_service_probe_timestamp_seconds") == {("default", "good"): 100}


def test_a_probe_that_never_was_answered_right_has_no_latency(resource: Make) -> None:
    services = [resource(kinds.MODEL_SERVICE, "bad", conditions={"Ready": "False"})]
    found = CollectorRegistry()
    found.register(ResourceCollector(lambda: services, {"uid-bad": Probe(False, None, 100.0)}))

    assert values(found, "pelagos_service_probe_correct") == {("default", "bad"): 0}
    assert values(found, "pelagos_service_probe_duration_seconds") == {}


def test_metrics_name_a_bounded_number_of_resources_and_count_the_rest(resource: Make) -> None:
    number = resource_metrics.MOST_NAMED + 3
    services = [resource(kinds.MODEL_SERVICE, f"s{n:04}", conditions={"Ready": "True"}) for n in range(number)]

    found = registry(services)

    assert len(values(found, "pelagos_service_ready")) == resource_metrics.MOST_NAMED
    assert values(found, "pelagos_resources_unnamed") == {(): 3}
    assert values(found, "pelagos_resources") == {("ModelService", "True"): number}


def test_what_is_told_is_what_is_declared(resource: Make) -> None:
    told = [metric.name for metric in ResourceCollector(lambda: ()).collect()]

    assert told == [family.name for family in resource_metrics.FAMILIES]


def test_resources_are_counted_by_the_stage_that_their_run_is_in(resource: Make) -> None:
    found = registry(
        [
            resource(kinds.TRAINING_RUN, "a", progress={"stage": "Export"}),
            resource(kinds.TRAINING_RUN, "b", progress={"stage": "Export"}),
            resource(kinds.TRAINING_RUN, "c", progress={"percent": 100}),
            resource(kinds.DATASET, "d", progress={"stage": "Mining"}),
        ]
    )

    counted = {
        (sample.labels["kind"], sample.labels["stage"]): sample.value
        for metric in found.collect()
        for sample in metric.samples
        if sample.name == "pelagos_resource_stages"
    }
    assert counted["TrainingRun", "Export"] == 2
    assert sum(counted.values()) == 2
    assert len(counted) == len(OF_DATASETS) + len(OF_TRAININGS), "a stage that nobody knows has no series of its own"


def test_a_stage_that_gets_further_is_progress(resource: Make) -> None:
    training = Training(resource)
    epochs = {"epoch": 10, "percent": 100}
    training.seen(100, progress=epochs | {"stage": "Training"})

    assert training.seen(200, progress=epochs | {"stage": "Evaluation"}) == 200
    assert training.seen(300, progress=epochs | {"stage": "Evaluation", "stagePercent": 40}) == 300
    assert training.seen(400, progress=epochs | {"stage": "Evaluation", "stagePercent": 40}) == 300
    assert training.seen(500, progress={"stage": "Evaluation", "stagePercent": 40}) == 300


def test_of_runs_that_wait_in_a_queue_is_told_since_when_and_at_which_place(resource: Make) -> None:
    waits = {"name": "runs", "since": "2026-01-01T00:00:00Z"}
    found = registry(
        [
            resource(kinds.TRAINING_RUN, "waits", conditions={"Ready": "Unknown"}, queue={**waits, "position": 3}),
            resource(kinds.DATASET, "unseen", conditions={"Ready": "Unknown"}, queue=waits),
            resource(
                kinds.TRAINING_RUN,
                "runs",
                conditions={"Ready": "Unknown"},
                queue={**waits, "admittedAt": "2026-01-01T01:00:00Z"},
            ),
            resource(kinds.TRAINING_RUN, "new", conditions={"Ready": "Unknown"}),
        ]
    )

    samples = {
        (sample.name, sample.labels["kind"], sample.labels["name"], sample.labels["queue"]): sample.value
        for metric in found.collect()
        for sample in metric.samples
        if "queue" in sample.labels
    }
    assert samples == {
        ("pelagos_resource_queued_timestamp_seconds", "TrainingRun", "waits", "runs"): 1767225600,
        ("pelagos_resource_queued_timestamp_seconds", "Dataset", "unseen", "runs"): 1767225600,
        ("pelagos_resource_queue_position", "TrainingRun", "waits", "runs"): 3,
    }


def test_what_trainings_took_is_added_up_as_far_as_it_is_known(resource: Make) -> None:
    known = {"energy": "about 0.5 kWh", "co2": "about 240 g", "cpuHours": "about 2.0", "gpuHours": "0"}
    killed = known | {"energy": "at least 0.1 kWh", "missing": ["what attempt 1 took"]}
    unknown = known | {"energy": "unknown", "co2": "unknown", "gpuHours": "unknown"}
    found = registry(
        [
            *(
                resource(kinds.TRAINING_RUN, str(number), cost=cost)
                for number, cost in enumerate((known, killed, unknown))
            ),
            resource(kinds.TRAINING_RUN, "waiting"),
        ]
    )

    assert found.get_sample_value("pelagos_trainings_energy_joules") == pytest.approx(0.6 * 3.6e6)
    assert found.get_sample_value("pelagos_trainings_carbon_dioxide_grams") == 480
    assert found.get_sample_value("pelagos_trainings_cpu_seconds") == 6 * 3600
    assert found.get_sample_value("pelagos_trainings_gpu_seconds") == 0
    assert found.get_sample_value("pelagos_trainings_cost_unknown") == 2
