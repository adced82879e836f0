"""Everything that decisions about a TrainingRun are based on."""

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
    """The referenced Dataset, as the cache has it."""

    exists: bool
    """Whether there is one of that name in the namespace, and it is not being deleted."""
    ready: bool
    """Whether its Ready condition is True for its present generation."""
    message: str
    """The message of its Ready condition; empty when it does not exist."""
    candidate: DatasetVersion | None
    """From its status.versions: the version that spec asks for. None: there is none that can be used."""
    known_versions: tuple[str, ...] = ()
    """From its status.versions: all versions, newest first."""
    empty_splits: tuple[str, ...] = ()
    """From its status.splits: splits of the candidate without images. Empty also if that is about another version."""
    classes: tuple[str, ...] | None = None
    """From its status.classes: names of the candidate's classes. None: that is about another version, or not the full list."""
    captured: tuple[str, ...] | None = None
    """From its status.capture: fields that are known of some of the candidate's images. None: the status does not say."""
    blocked: str = ""
    """From its status.versions: why no training may start on the candidate. Empty: one may."""
    metadata: Metadata | None = None
    """From its spec.metadata. None: there is none, or it is not valid now."""
    dois: Mapping[str, str] = field(default_factory=dict)
    """From its status.versions: by version, the DOI that it is published under."""


@dataclass(frozen=True)
class Champion:
    """A registered version that a gate compares with."""

    version: str
    """Its number in the registry."""
    is_own: bool = False
    """Whether this resource, or a former life of it, registered it."""
    evidence_uri: str = ""
    evidence_sha256: str = ""
    """The file with its answers for each image of the test split, from its sealed tags, or as a gate states it."""
    package: str | None = None
    """The SHA-256 of the manifest of the package that stated evidence must be of. None: no gate states evidence."""
    doubt: str = ""
    """Why nothing can be compared with it, for messages. Empty: as far as is known, it can be."""


@dataclass(frozen=True)
class Observed:
    """All observations of a TrainingRun, read once by reconcilers/training_runs.gather."""

    spec: TrainingRunSpec
    """From the resource, its defaults filled in."""
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    retry_key: str
    """From the retry annotation, spec.resources and the fingerprint of spec.model.weights. When it changes, a failed run is tried
    again."""
    dataset: ObservedDataset
    """From the cache."""
    frozen: Frozen | None
    """From status or, when that was lost, from the tags of the tracked run; None before the first freeze."""
    tracked: tracking.TrackedRun | None
    """From Tracking: the run under our seal. None: there is none, or ``tracking_outage`` says that it cannot be determined."""
    tracking_outage: str | None
    """Why Tracking could not be asked; None: it answered."""
    tracking_uri: str
    """From Tracking: the address at which steps reach it."""
    run: PipelineRun | None
    """From Pipelines, by a name derived from the inputs, or from status when the engine has forgotten it. None: never started, or
    nothing to train on is known yet."""
    report: Report
    """From Objects: the report that ``run`` left, or the one on record for the same inputs. Empty: neither result nor failure."""
    version: registry.ModelVersion | None
    """From Registry: the version that this resource, or a former life of it, registered. None: there is none, spec asks for none,
    or Registry was not asked, as while a run is in progress, or could not be (``registry_outage``)."""
    registry_outage: str | None
    """Why Registry could not be asked; None: it answered, or was not asked."""
    paths: Mapping[str, str]
    """From the tenant settings and the run's name: the folders for its steps. Empty: there is no name yet."""
    now: datetime
    """The time by the clock that the times of ``run`` are from."""
    made_by: algorithms.Versions | None = None
    """From status: versions of the algorithms of the last attempt. None: not stated, so those of the inputs."""
    published: ModelStatus | None = None
    """From status: the model as last published, in case Registry does not answer. None: it never was."""
    tenant: Tenant = Tenant()
    """From Tenants, with the storage prefix that the run began with."""
    model_owners: frozenset[str] = frozenset()
    """From Registry and the status of other TrainingRuns: namespaces that own the model to register in. Empty: it is nobody's."""
    outside: str = ""
    """From Objects: why the dataset version may not be read. Empty: it is in the namespace's part of the store."""
    weights_missing: bool = False
    """From Volumes: whether spec.model.weights names a file that does not exist."""
    tracked_seal: str = ""
    """From Authority: the seal that ``tracked`` has under the present key. Empty: there is no ``tracked``."""
    storage_seal: str = ""
    """From Authority: the seal that goes into status beside the storage prefix."""
    record: Recording = field(default_factory=Recording)
    """From Objects and status: where the result goes on record, and whether it is there. Empty: nothing to train on is known."""
    recorded_run: str | None = None
    """The tracked run of a result that a former life put on record; empty when that named none. None: the result is our own."""
    served_by: frozenset[str] = frozenset()
    """From the cache: ModelServices, as namespace/name, that refer to it or serve its model. Empty without a TTL."""
    champions: Mapping[str, Champion | None] = field(default_factory=dict)
    """From Registry, by the name of each reference in gates. None: there is no such version. Empty: Registry was not asked, or
    does not answer."""
    time_of_day: datetime | None = None
    """From the clock, for times that people read. None: use ``now``."""
    told: Told | None = None
    """From Objects: the progress that the steps of ``run`` report, for people only. None: there is none that can be trusted, or
    ``stated`` has the final one."""
    stated: Progress | None = None
    """From status: the progress as it was last published. None: nothing yet."""
    stated_seeds: tuple[SeedStatus, ...] = ()
    """From status: the progress of each of several trainings, as last published."""
    stated_search: SearchStatus | None = None
    """From status: the progress of the search, as last published. None: nothing yet."""
    stated_left_out: LeaveOneOutStatus | None = None
    """From status: the progress of the models that are each trained without one group, as last published. None: nothing yet."""

    @cached_property
    def keyed(self) -> Frozen:
        """The inputs, frozen before or now. For checks after those of the dataset, which guarantee that there are some."""
        if self.frozen is not None:
            return self.frozen
        assert self.dataset.candidate is not None
        return identity.freeze(self.spec, self.dataset.candidate)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes of the version to train on; None when they are not known before it is read."""
        candidate = self.dataset.candidate
        is_that = candidate is not None and (self.frozen is None or self.frozen.dataset.version == candidate.version)
        return self.dataset.classes if is_that else None

    @property
    def upgrade(self) -> str:
        """A description of how the algorithms of an attempt made now would differ from those of the last one; empty if not."""
        before = self.keyed.made_by if self.made_by is None else self.made_by
        return algorithms.differences(before, self.keyed.made_by_now)

    @property
    def result(self) -> Mapping[str, Any]:
        """The training's result. For checks after pipeline.without_result."""
        assert self.report.result is not None
        return self.report.result

    def inputs_status(self, inputs: Frozen) -> TrainingRunStatus:
        """Status fields about the inputs, by which later passes know the frozen inputs."""
        dataset = inputs.dataset
        return TrainingRunStatus(
            inputs_digest=inputs.digest,
            inputs=dict(inputs.inputs),
            dataset=FrozenDataset(name=dataset.name, version=dataset.version, uri=dataset.uri, task=dataset.task),
            storage_prefix=self.tenant.storage_prefix,
            storage_seal=self.storage_seal,
        )

    def frozen_status(self) -> TrainingRunStatus | None:
        """The same for inputs that are frozen already; None before that."""
        return self.inputs_status(self.frozen) if self.frozen is not None else None
