"""Metrics about the resources themselves, counted at each scrape and not in every pass. Registered by wiring.

Few metrics name resources: only where an alert must name them, only while the condition holds, and at most ``MOST_NAMED``
resources each. Everything else about single resources comes from kube-state-metrics (manifests/monitoring).
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from pelagos.api import kinds, reasons
from pelagos.api.trial import Phase
from pelagos.decisions.training_run import costs
from pelagos.ports.cluster import Resource
from pelagos_contract import failures
from pelagos_contract.cost import JOULES_PER_KWH, SECONDS_PER_HOUR, UNKNOWN
from pelagos_contract.progress import OF_DATASETS, OF_TRAININGS
from pelagos_contract.search import TrialState
from pelagos_contract.sources import SOURCES

MOST_NAMED = 500
"""Most resources that one metric names; pelagos_resources_unnamed counts the others."""


@dataclass(frozen=True)
class Family:
    """The declaration of a metric, which its documentation is generated from."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()
    type: str = "gauge"


NAMED = ("namespace", "name")
READY = Family("pelagos_resources", "Resources by kind and state of Ready.", ("kind", "ready"))
REASONS = Family("pelagos_resource_reasons", "Resources by kind and reason of Ready.", ("kind", "reason"))
STALLED = Family("pelagos_resources_stalled", "Resources that wait for a person.", ("kind",))
WAITING = Family("pelagos_resources_waiting", "Resources that wait for something that does not exist yet.", ("kind",))
WAITING_SINCE = Family(
    "pelagos_resource_waiting_timestamp_seconds",
    "Since when a resource has been waiting for something that does not exist yet; only for those that wait.",
    ("kind", *NAMED, "reason"),
)
STALLED_SINCE = Family(
    "pelagos_resource_stalled_timestamp_seconds",
    "Since when a resource has been waiting for a person; only for those that wait.",
    ("kind", *NAMED, "reason"),
)
QUEUED_SINCE = Family(
    "pelagos_resource_queued_timestamp_seconds",
    "Since when the pipeline run of a resource has been waiting in its queue; only for those that wait there.",
    ("kind", *NAMED, "queue"),
)
POSITION = Family(
    "pelagos_resource_queue_position",
    "Place of a resource's pipeline run among all that wait for the same ClusterQueue, the next one 1; where Kueue reports it.",
    ("kind", *NAMED, "queue"),
)
STAGES = Family(
    "pelagos_resource_stages",
    "Resources whose pipeline run is currently in a stage, by kind and stage.",
    ("kind", "stage"),
)
PROGRESS = Family("pelagos_training_progress_ratio", "Share of the epochs done, of trainings in progress.", NAMED)
LAST_PROGRESS = Family(
    "pelagos_training_last_progress_timestamp_seconds",
    "When a running training started, or last ended an epoch or advanced in its stage.",
    NAMED,
)
GATES = Family("pelagos_training_gates", "Gates that were judged, by outcome, of all TrainingRuns.", ("outcome",))
FAILED_GATES = Family(
    "pelagos_training_failed_gates", "Gates that a trained model does not pass; only if there are any.", NAMED
)
ENERGY = Family(
    "pelagos_trainings_energy_joules",
    "Energy that the existing trainings used, as far as known; see docs/cost.md.",
)
CO2 = Family("pelagos_trainings_carbon_dioxide_grams", "CO2 equivalent of that energy.")
CPU_SECONDS = Family(
    "pelagos_trainings_cpu_seconds", "Processor time that the existing trainings used, as far as known."
)
GPU_SECONDS = Family("pelagos_trainings_gpu_seconds", "GPU time that the existing trainings used, as far as known.")
COST_UNKNOWN = Family(
    "pelagos_trainings_cost_unknown",
    "Ended trainings of which a part of the cost is not known.",
)
TRIALS = Family(
    "pelagos_training_trials", "Trials of searches for hyperparameters, by state, of all TrainingRuns.", ("state",)
)
SERVICE_READY = Family(
    "pelagos_service_ready", "Whether a ModelService is Ready (1) or not (0); not for suspended ones.", NAMED
)
PROBE_CORRECT = Family(
    "pelagos_service_probe_correct",
    "Whether the last synthetic inference was answered correctly (1) or not (0).",
    NAMED,
)
PROBE_SECONDS = Family(
    "pelagos_service_probe_duration_seconds",
    "Latency of the last synthetic inference that was answered correctly.",
    NAMED,
)
PROBE_TIME = Family("pelagos_service_probe_timestamp_seconds", "When the last synthetic inference was made.", NAMED)
KEPT_BYTES = Family(
    "pelagos_datasets_kept_bytes",
    "Bytes of images in the stores of Datasets from which versions were removed, as it was after the last removal of each.",
)
FREED_BYTES = Family(
    "pelagos_datasets_freed_bytes", "Bytes that the removal of versions has freed, for the Datasets that exist."
)
REMOVING_SINCE = Family(
    "pelagos_dataset_removing_timestamp_seconds",
    "Since when the removal of versions of a Dataset has been in progress; only while one is.",
    NAMED,
)
QUALITY_FAILED_SINCE = Family(
    "pelagos_dataset_quality_failed_timestamp_seconds",
    "Since when the newest version of a Dataset has not passed spec.quality; outcome: blocked, or warned where onFail is Warn.",
    (*NAMED, "outcome"),
)
FETCHED_BYTES = Family(
    "pelagos_datasets_fetched_bytes",
    "Bytes that were fetched for the newest versions of Datasets, by source; without what the store already had.",
    ("source",),
)
UNFETCHED = Family(
    "pelagos_datasets_unfetched",
    "Datasets whose source could not be fetched at the last check, by source and reason.",
    ("source", "reason"),
)
CORRECTIONS = Family(
    "pelagos_suggestions",
    "What people did with suggestions of models, in the newest versions of all Datasets, by outcome; added: what a model missed.",
    ("outcome",),
)
PUBLICATION_STUCK = Family(
    "pelagos_publication_stuck_timestamp_seconds",
    "Since when a Dataset has not been published as spec.publish asks because it waits for a person or a system; only for those.",
    (*NAMED, "reason"),
)
PUBLICATIONS = Family(
    "pelagos_publications",
    "Datasets with spec.publish, by state of the publication: published, draft, stuck, or pending.",
    ("state",),
)
TRIAL_PHASES = Family("pelagos_trials", "Trials by phase.", ("phase",))
TRIALS_OVERDUE = Family(
    "pelagos_trials_overdue",
    "Trials that are open although their time ended more than ten seconds ago, by the wall clock.",
)
UNNAMED = Family(
    "pelagos_resources_unnamed", "Resources that metrics should name but do not, because there are too many."
)
FAMILIES = (
    READY,
    REASONS,
    STALLED,
    STALLED_SINCE,
    WAITING,
    WAITING_SINCE,
    QUEUED_SINCE,
    POSITION,
    STAGES,
    PROGRESS,
    LAST_PROGRESS,
    GATES,
    FAILED_GATES,
    ENERGY,
    CO2,
    CPU_SECONDS,
    GPU_SECONDS,
    COST_UNKNOWN,
    TRIALS,
    SERVICE_READY,
    PROBE_CORRECT,
    PROBE_SECONDS,
    PROBE_TIME,
    KEPT_BYTES,
    FREED_BYTES,
    REMOVING_SINCE,
    QUALITY_FAILED_SINCE,
    FETCHED_BYTES,
    UNFETCHED,
    CORRECTIONS,
    PUBLICATION_STUCK,
    PUBLICATIONS,
    TRIAL_PHASES,
    TRIALS_OVERDUE,
    UNNAMED,
)
OVERDUE_SECONDS = 10.0
OUTCOMES = ("accepted", "moved", "relabelled", "removed", "added")
_OF_FETCHING = frozenset({reasons.PIPELINE_FAILED, *(each for each in failures.Reason if each.startswith("Source"))})
"""Reasons of preparations that may have failed while fetching their source."""


@dataclass(frozen=True)
class Probe:
    """The last probe of an endpoint. ``latency``, of the last correct answer, is in seconds, and ``at`` is Unix time."""

    correct: bool
    latency: float | None
    at: float


@dataclass(frozen=True)
class _Epoch:
    started: str
    epoch: int | None
    stage: tuple[str | None, int | None]
    since: float


class ResourceCollector(Collector):
    """Collects metrics about what ``resources`` returns. ``probes`` has the last probe by uid; ``now`` returns Unix time."""

    def __init__(
        self,
        resources: Callable[[], Iterable[Resource]],
        probes: Mapping[str, Probe] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._resources = resources
        self._probes: Mapping[str, Probe] = {} if probes is None else probes
        self._now = now
        self._epochs: dict[str, _Epoch] = {}

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The metrics without samples."""
        yield from (_Samples(family).gauge for family in FAMILIES)

    @override
    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All metrics, computed from all resources as they are now."""
        resources = sorted(self._resources(), key=lambda resource: (resource.namespace, resource.name))
        samples = {family: _Samples(family) for family in FAMILIES}
        _count(resources, samples)
        running: dict[str, _Epoch] = {}
        for resource in resources:
            _since(resource, "Stalled", samples[STALLED_SINCE])
            _since(resource, "Waiting", samples[WAITING_SINCE])
            _queued(resource, samples)
            if resource.kind is kinds.TRAINING_RUN:
                self._training(resource, samples, running)
            elif resource.kind is kinds.MODEL_SERVICE:
                self._service(resource, samples)
            elif resource.kind is kinds.DATASET:
                _dataset(resource, samples)
        self._epochs = running
        removals = [resource.status.get("removals") or {} for resource in resources if resource.kind is kinds.DATASET]
        samples[KEPT_BYTES].add((), sum(told.get("keptBytes") or 0 for told in removals))
        samples[FREED_BYTES].add((), sum(told.get("freedBytes") or 0 for told in removals))
        _fetched([resource for resource in resources if resource.kind is kinds.DATASET], samples)
        _publications([resource for resource in resources if resource.kind is kinds.DATASET], samples)
        _costs([resource for resource in resources if resource.kind is kinds.TRAINING_RUN], samples)
        self._trials([resource for resource in resources if resource.kind is kinds.TRIAL], samples)
        samples[UNNAMED].add((), max(sample.left_out for sample in samples.values()))
        yield from (sample.gauge for sample in samples.values())

    def _training(self, resource: Resource, samples: Mapping[Family, _Samples], running: dict[str, _Epoch]) -> None:
        name = (resource.namespace, resource.name)
        progress = resource.status.get("progress") or {}
        in_progress = _condition(resource, "Ready").get("status") == "Unknown"
        if in_progress and progress.get("percent") is not None:
            samples[PROGRESS].add(name, progress["percent"] / 100)
        failed = sum(1 for gate in resource.status.get("gates") or () if not gate.get("passed"))
        if failed:
            samples[FAILED_GATES].add(name, failed)
        started = resource.status.get("startedAt")
        if in_progress and started and not resource.status.get("finishedAt"):
            number, known = progress.get("epoch"), self._epochs.get(resource.uid)
            stage = (progress.get("stage"), progress.get("stagePercent"))
            if known is None or known.started != started:
                # If it is first seen in mid-training, it counts from now, since nobody knows when its epoch began.
                epoch = _Epoch(started, number, stage, _unix(started) if number is None else self._now())
            elif number in {None, known.epoch} and stage == known.stage:
                epoch = known  # An epoch of None, as during an outage of the tracking server, is not progress.
            else:
                epoch = _Epoch(started, known.epoch if number is None else number, stage, self._now())
            running[resource.uid] = epoch
            samples[LAST_PROGRESS].add(name, epoch.since)

    def _trials(self, trials: Sequence[Resource], samples: Mapping[Family, _Samples]) -> None:
        phases = Tally(str(trial.status.get("phase") or "Pending") for trial in trials)
        for phase in get_args(Phase):
            samples[TRIAL_PHASES].add((phase,), phases[phase])
        due = (trial.status.get("expiresAt") for trial in trials if trial.status.get("phase") == "Open")
        samples[TRIALS_OVERDUE].add((), sum(self._now() - _unix(str(at)) > OVERDUE_SECONDS for at in due))

    def _service(self, resource: Resource, samples: Mapping[Family, _Samples]) -> None:
        if resource.spec.get("suspend"):
            return
        name = (resource.namespace, resource.name)
        samples[SERVICE_READY].add(name, _condition(resource, "Ready").get("status") == "True")
        probe = self._probes.get(resource.uid)
        if probe is None:
            return
        samples[PROBE_CORRECT].add(name, probe.correct)
        samples[PROBE_TIME].add(name, probe.at)
        if probe.latency is not None:
            samples[PROBE_SECONDS].add(name, probe.latency)


class _Samples:
    """The samples of one metric; if it names resources, MOST_NAMED at most."""

    def __init__(self, family: Family) -> None:
        self.gauge = GaugeMetricFamily(family.name, family.documentation, labels=family.labels)
        self.left_out = 0
        self._bounded = "name" in family.labels

    def add(self, labels: tuple[str, ...], value: float) -> None:
        if self._bounded and len(self.gauge.samples) >= MOST_NAMED:
            self.left_out += 1
        else:
            self.gauge.add_metric(labels, value)


def _count(resources: Iterable[Resource], samples: Mapping[Family, _Samples]) -> None:
    states: Tally[tuple[str, str]] = Tally()
    reasons: Tally[tuple[str, str]] = Tally()
    stalled: Tally[str] = Tally()
    waiting: Tally[str] = Tally()
    gates: Tally[str] = Tally()
    trials: Tally[str] = Tally()
    stages: Tally[tuple[str, str]] = Tally()
    for resource in resources:
        kind, ready = resource.kind.kind, _condition(resource, "Ready")
        states[kind, str(ready.get("status", "Unknown"))] += 1
        reasons[kind, str(ready.get("reason", "None"))] += 1
        stalled[kind] += _condition(resource, "Stalled").get("status") == "True"
        waiting[kind] += _condition(resource, "Waiting").get("status") == "True"
        stages[kind, str((resource.status.get("progress") or {}).get("stage"))] += 1
        trials.update(str(trial.get("state")) for trial in (resource.status.get("search") or {}).get("history") or ())
        gates.update("passed" if gate.get("passed") else "failed" for gate in resource.status.get("gates") or ())
    for labels, number in sorted(states.items()):
        samples[READY].add(labels, number)
    for labels, number in sorted(reasons.items()):
        samples[REASONS].add(labels, number)
    for known in kinds.KINDS:
        samples[STALLED].add((known.kind,), stalled[known.kind])
        samples[WAITING].add((known.kind,), waiting[known.kind])
    for known, named in ((kinds.DATASET, OF_DATASETS), (kinds.TRAINING_RUN, OF_TRAININGS)):
        for stage in named:
            samples[STAGES].add((known.kind, stage.value), stages[known.kind, stage.value])
    for state in TrialState:
        samples[TRIALS].add((state.value,), trials[state.value])
    for outcome in ("passed", "failed"):
        samples[GATES].add((outcome,), gates[outcome])


_COSTS = (
    (ENERGY, "energy", JOULES_PER_KWH),
    (CO2, "co2", 1.0),
    (CPU_SECONDS, "cpuHours", SECONDS_PER_HOUR),
    (GPU_SECONDS, "gpuHours", SECONDS_PER_HOUR),
)
"""Metrics of costs: the field in status.cost for each, and the factor from its unit to that of the metric."""


def _costs(trainings: Iterable[Resource], samples: Mapping[Family, _Samples]) -> None:
    told = [training.status["cost"] for training in trainings if training.status.get("cost")]
    for family, field, unit in _COSTS:
        samples[family].add((), unit * sum(costs.amount(one.get(field)) or 0.0 for one in told))
    unknown = sum(bool(one.get("missing")) or UNKNOWN in one.values() for one in told)
    samples[COST_UNKNOWN].add((), unknown)


def _fetched(datasets: Iterable[Resource], samples: Mapping[Family, _Samples]) -> None:
    """Adds the bytes fetched for Datasets, the fetches that failed, and the corrections by annotators."""
    places = [name for name in SOURCES.names if SOURCES.named(name).path is None]
    bytes_of: Tally[str] = Tally()
    failed: Tally[tuple[str, str]] = Tally()
    outcomes: Tally[str] = Tally(dict.fromkeys(OUTCOMES, 0))
    for dataset in datasets:
        for told in dataset.status.get("corrections") or ():
            outcomes.update({outcome: told.get(outcome) or 0 for outcome in OUTCOMES})
        source = next((name for name in places if name in (dataset.spec.get("source") or {})), None)
        if source is None:
            continue
        bytes_of[source] += (dataset.status.get("source") or {}).get("bytes") or 0
        prepared = _condition(dataset, "Prepared")
        if prepared.get("status") == "False" and prepared.get("reason") in _OF_FETCHING:
            failed[source, str(prepared["reason"])] += 1
    for source in places:
        samples[FETCHED_BYTES].add((source,), bytes_of[source])
    for labels, number in sorted(failed.items()):
        samples[UNFETCHED].add(labels, number)
    for outcome in OUTCOMES:
        samples[CORRECTIONS].add((outcome,), outcomes[outcome])


def _since(resource: Resource, state: str, samples: _Samples) -> None:
    condition = _condition(resource, state)
    if condition.get("status") == "True":
        labels = (resource.kind.kind, resource.namespace, resource.name, str(condition.get("reason", "None")))
        samples.add(labels, _unix(str(condition.get("lastTransitionTime", ""))))


def _dataset(resource: Resource, samples: Mapping[Family, _Samples]) -> None:
    name = (resource.namespace, resource.name)
    removals = resource.status.get("removals") or {}
    if removals.get("removing") and removals.get("since") and not resource.spec.get("suspend"):
        samples[REMOVING_SINCE].add(name, _unix(str(removals["since"])))
    judged = _condition(resource, "QualityPassed")
    if judged.get("status") == "False":
        stalled = _condition(resource, "Stalled")
        is_blocked = stalled.get("status") == "True" and stalled.get("reason") == judged.get("reason")
        outcome = "blocked" if is_blocked else "warned"
        samples[QUALITY_FAILED_SINCE].add((*name, outcome), _unix(str(judged.get("lastTransitionTime", ""))))


def _queued(resource: Resource, samples: Mapping[Family, _Samples]) -> None:
    queue = resource.status.get("queue") or {}
    if not queue or queue.get("admittedAt") or _condition(resource, "Ready").get("status") == "True":
        return
    labels = (resource.kind.kind, resource.namespace, resource.name, str(queue.get("name", "")))
    if queue.get("since"):
        samples[QUEUED_SINCE].add(labels, _unix(str(queue["since"])))
    if queue.get("position"):
        samples[POSITION].add(labels, queue["position"])


def _publications(datasets: Iterable[Resource], samples: Mapping[Family, _Samples]) -> None:
    counted = dict.fromkeys(("published", "draft", "stuck", "pending"), 0)
    for resource in datasets:
        if resource.spec.get("publish") is None:
            continue
        condition, told = _condition(resource, "Published"), resource.status.get("publication") or {}
        reason = reasons.named(str(condition.get("reason", "None")))
        # On one machine, the engine reports a missing Secret before there is a run, and status then has no stuckSince.
        waits = condition.get("status") != "True" and reason.state in {"waiting", "action required"}
        since = told.get("stuckSince") or (condition.get("lastTransitionTime") if waits else None)
        state = (
            "published" if condition.get("status") == "True" else "draft" if reason == reasons.DRAFT_MADE else "pending"
        )
        counted["stuck" if since else state] += 1
        if since:
            samples[PUBLICATION_STUCK].add((resource.namespace, resource.name, str(reason)), _unix(str(since)))
    for state, number in counted.items():
        samples[PUBLICATIONS].add((state,), number)


def _condition(resource: Resource, name: str) -> Mapping[str, Any]:
    for condition in resource.status.get("conditions", ()):
        if condition.get("type") == name:
            return condition  # type: ignore[no-any-return]
    return {}


def _unix(text: str) -> float:
    """The Unix time of an RFC 3339 timestamp; 0 if it is not one, since a single resource must not make a scrape fail."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0
