"""All that decisions about a TrainingRun go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pelagos.api.search import SearchStatus
from pelagos.api.training_run import (
    FrozenDataset,
    LeaveOneOutStatus,
    ModelStatus,
    Progress,
    SeedStatus,
    TrainingRunSpec,
    TrainingRunStatus,
)
from pelagos.decisions.reports import Recording, Report
from pelagos.decisions.training_run import identity
from pelagos.decisions.training_run.identity import DatasetVersion, Frozen
from pelagos.ports import registry, tracking
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tenants import Tenant
from pelagos_contract import algorithms
from pelagos_contract.metadata import Metadata
from pelagos_contract.progress import Progress as Told


@dataclass(frozen=True)
class ObservedDataset:
    """The referenced Dataset now, by the watch."""

    exists: bool
    """Whether there is one of that name in the namespace that is not being deleted."""
    ready: bool
    """Whether its Ready is True, and of its present generation."""
    message: str
    """That of its Ready condition; empty when it does not exist."""
    candidate: DatasetVersion | None
    """From its status.versions, the version that spec asks for; None when it is not there to be used."""
    known_versions: tuple[str, ...] = ()
    """All of its status.versions, the newest first."""
    empty_splits: tuple[str, ...] = ()
    """Splits of the candidate without images, by its status.splits; empty also when that is of another version."""
    classes: tuple[str, ...] | None = None
    """Those of the candidate, by its status.classes; None also when that is of another version, or cut short."""
    captured: tuple[str, ...] | None = None
    """Fields of capture that are known of some of its images, by its status.capture; None: the status does not say."""
    blocked: str = ""
    """Why no training may start on the candidate, by its status.versions; empty when one may."""
    metadata: Metadata | None = None
    """From spec.metadata. None: it says nothing, or nothing that is valid now."""
    dois: Mapping[str, str] = field(default_factory=dict)
    """From its status.versions: by version the DOI under which it is published."""


@dataclass(frozen=True)
class Champion:
    """A registered version that a gate compares with."""

    version: str
    """Its number."""
    is_own: bool = False
    """Whether this resource, or a former life of it, registered it."""
    evidence_uri: str = ""
    evidence_sha256: str = ""
    """From its tags, under our seal, or as a gate states it: what it did with each image of the test split."""
    package: str | None = None
    """Where a gate states it: the SHA-256 of the package of which it must be."""
    doubt: str = ""
    """In words, why nothing can be compared with it; empty: as far as is known now, it can."""


@dataclass(frozen=True)
class Observed:
    """All that is known about a TrainingRun, read once by reconcilers/training_runs.gather."""

    spec: TrainingRunSpec
    """From the resource, its defaults filled in."""
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    retry_key: str
    """From the retry annotation, spec.resources and the fingerprint of spec.model.weights: another
    one is a reason to try again."""
    dataset: ObservedDataset
    """From the watch's cache."""
    frozen: Frozen | None
    """From status or, when that was lost, from the tags of the tracked run; None before the first freeze."""
    tracked: tracking.TrackedRun | None
    """From Tracking: the run under our seal. None: there is none, or ``tracking_outage`` says that it cannot be determined."""
    tracking_outage: str | None
    """Why Tracking could not be asked; None: it answered."""
    tracking_uri: str
    """From Tracking: where steps reach it."""
    run: PipelineRun | None
    """From Pipelines, by the name that the inputs give, or from status when the engine has forgotten it. None: never started, or
    nothing to train on is known yet."""
    report: Report
    """From Objects: what ``run`` left, or what is on record for the same inputs. Empty: neither result nor failure."""
    version: registry.ModelVersion | None
    """From Registry: the version that this resource, or a former life of it, registered. None: there is none, spec asks for none,
    or it was not asked: not while a run goes on, nor when ``registry_outage`` says that it could not be."""
    registry_outage: str | None
    """Why Registry could not be asked; None: it answered, or was not asked."""
    paths: Mapping[str, str]
    """From the tenant settings and the run's name: folders that the steps are given. Empty: there is no name yet."""
    now: datetime
    """From the clock that noted the run's own times."""
    made_by: algorithms.Versions | None = None
    """From status: versions of the algorithms of the last attempt. None: not stated, and those of the inputs."""
    published: ModelStatus | None = None
    """From status: the model as status had it last. None: never. For when Registry does not answer."""
    tenant: Tenant = Tenant()
    """From Tenants, with the storage prefix that the run began with."""
    model_owners: frozenset[str] = frozenset()
    """From Registry and the status of other TrainingRuns: namespaces that the model to register in belongs to.
    Empty: nobody's."""
    outside: str = ""
    """From Objects' roots: why the dataset version may not be read. Empty: it lies in the namespace's part of the store."""
    weights_missing: bool = False
    """From Volumes: whether spec.model.weights names a file that is not there."""
    tracked_seal: str = ""
    """From Authority: the seal that ``tracked`` has under the present key. Empty: there is no ``tracked``."""
    storage_seal: str = ""
    """From Authority: goes into status beside the storage prefix."""
    record: Recording = field(default_factory=Recording)
    """From Objects and status: where the result is put on record, and whether it is. Empty: nothing to train on is known yet."""
    recorded_run: str | None = None
    """Of a result that a former life put on record, the tracked run; empty when it named none. None: the result is our own."""
    served_by: frozenset[str] = frozenset()
    """From the watch's cache: ModelServices, as namespace/name, that refer to it or serve its model. Empty without a TTL."""
    champions: Mapping[str, Champion | None] = field(default_factory=dict)
    """From Registry, by the names that gates lead to. None: there is no such version. Empty: it was not asked, or is away."""
    time_of_day: datetime | None = None
    """From the clock, for people. None: ``now``."""
    told: Told | None = None
    """From Objects: how far the steps of ``run`` say that it is, for show alone. None: they say nothing that can be believed, or
    ``stated`` has the last that they will ever say."""
    stated: Progress | None = None
    """From status: the last that was said of it. None: nothing yet."""
    stated_seeds: tuple[SeedStatus, ...] = ()
    """From status: likewise of each of several trainings."""
    stated_search: SearchStatus | None = None
    """From status: likewise of the search. None: nothing yet."""
    stated_left_out: LeaveOneOutStatus | None = None
    """From status: likewise of models without one group each. None: nothing yet."""

    @cached_property
    def keyed(self) -> Frozen:
        """The inputs, as they were or are being frozen. For checks after those of the dataset, which see to it."""
        if self.frozen is not None:
            return self.frozen
        assert self.dataset.candidate is not None
        return identity.freeze(self.spec, self.dataset.candidate)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Those of the version to train on; None: not known before it is read."""
        candidate = self.dataset.candidate
        is_that = candidate is not None and (self.frozen is None or self.frozen.dataset.version == candidate.version)
        return self.dataset.classes if is_that else None

    @property
    def upgrade(self) -> str:
        """In words, by which other algorithms an attempt would be made now than the last one. Empty: by the same."""
        before = self.keyed.made_by if self.made_by is None else self.made_by
        return algorithms.differences(before, self.keyed.made_by_now)

    @property
    def result(self) -> Mapping[str, Any]:
        """What the training reported. For checks after pipeline.without_result."""
        assert self.report.result is not None
        return self.report.result

    def inputs_status(self, inputs: Frozen) -> TrainingRunStatus:
        """What status says of them: the record by which later passes know what was frozen."""
        dataset = inputs.dataset
        return TrainingRunStatus(
            inputs_digest=inputs.digest,
            inputs=dict(inputs.inputs),
            dataset=FrozenDataset(name=dataset.name, version=dataset.version, uri=dataset.uri, task=dataset.task),
            storage_prefix=self.tenant.storage_prefix,
            storage_seal=self.storage_seal,
        )

    def frozen_status(self) -> TrainingRunStatus | None:
        """The same of what is frozen already; None before."""
        return self.inputs_status(self.frozen) if self.frozen is not None else None
