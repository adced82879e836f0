"""Everything that decisions about a Dataset are based on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pelagos.api.dataset import DatasetSpec, DatasetVersion, Progress, Publication, Removals
from pelagos.decisions.dataset import identity
from pelagos.decisions.dataset.identity import Earlier, Inputs
from pelagos.decisions.reports import Recording, Report
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tenants import Tenant
from pelagos.ports.volumes import Fingerprint
from pelagos_contract.progress import Progress as Told


@dataclass(frozen=True)
class Publishing:
    """The observations about the publication of versions."""

    run: PipelineRun | None = None
    """From Pipelines, by a name derived from the uid, the same for all versions. None: never started, or not requested."""
    report: Report = field(default_factory=Report)
    """From Objects: the report that ``run`` left, with the retry key that it was made under."""
    folder: str = ""
    """Where ``run`` leaves its report."""
    known: Publication | None = None
    """From status or, when that was lost, from the newest record: the last publication. None: nothing was published."""
    owners: tuple[str, ...] = ()
    """From the newest record: uids of the resource and of those that had its name before."""
    now: datetime | None = None
    """The time by the clock that the times of ``run`` are from. None: there is nothing to observe."""


@dataclass(frozen=True)
class Observed:
    """All observations of a Dataset, read once by reconcilers/datasets.gather."""

    spec: DatasetSpec
    """From the resource, its defaults filled in."""
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    retry: str
    """From the retry annotation; empty without one."""
    fingerprint: Fingerprint | None
    """From Volumes, or from spec for a source elsewhere: identifies the source's present content. None: the source is missing,
    or ``source_error`` is set."""
    source_error: str | None
    """From Volumes: why the source may not be read. None: it may be read, or is missing."""
    run: PipelineRun | None
    """From Pipelines, by a name derived from recipe and fingerprint, or from status when the engine has forgotten it. None: never
    started, or there is no fingerprint."""
    report: Report
    """From Objects: the report that ``run`` left, or the one on record for the same inputs. Empty: neither result nor failure."""
    superseded: tuple[PipelineRun, ...]
    """From Pipelines: unfinished runs for an earlier recipe or content."""
    history: tuple[DatasetVersion, ...]
    """From status or, when that was lost, from the newest record: the versions until now, newest first."""
    data_root: str
    """From the tenant settings: the folder that paths in spec.source are relative to."""
    store: str
    """The folder for versions: that of earlier ones, by status, report or record, else the namespace's folder for this uid."""
    report_folder: str
    """Where ``run`` leaves its report; empty without a fingerprint."""
    now: datetime
    """The time by the clock that the times of ``run`` are from."""
    tenant: Tenant = Tenant()
    """From Tenants, with the storage prefix that the Dataset began with."""
    storage_seal: str = ""
    """From Authority: the seal that goes into status beside the storage prefix."""
    record: Recording = field(default_factory=Recording)
    """From Objects and status: where the result goes on record, and whether it is there. Empty without a fingerprint."""
    removals: Removals = field(default_factory=Removals)
    """From status: versions that are being removed, and totals of earlier removals."""
    removal_run: PipelineRun | None = None
    """From Pipelines, by a name derived from these versions. None: nothing is being removed, or its run has yet to begin."""
    removal_report: Report = field(default_factory=Report)
    """From Objects: the report that ``removal_run`` left."""
    removal_folder: str = ""
    """Where ``removal_run`` leaves its report."""
    publishing: Publishing = field(default_factory=Publishing)
    """From Pipelines, Objects and status."""
    users: Mapping[str, str] | None = field(default_factory=dict)
    """From the cache: by version that is or may be removed, a description of its users. None: not all resources are known."""
    is_gone: bool = False
    """From Objects: the version that ``run`` made was removed since. It is needed again when the source has that content back."""
    generation: int = 1
    """From the resource's metadata."""
    earlier: Earlier | None = None
    """From status or, in a resource without any, from the newest record: the inputs of the last run. None: there was none."""
    keyed: Inputs | None = None
    """The inputs that the name of ``run`` is derived from. None: not computed yet, or there is no fingerprint."""
    metadata_digest: str | None = None
    """From status: the digest of the metadata on record with the newest version. None: there is none."""
    time_of_day: datetime | None = None
    """From the clock, for times that people read. None: use ``now``."""

    @property
    def content(self) -> Fingerprint:
        """The source's fingerprint. For checks after source.missing."""
        assert self.fingerprint is not None
        return self.fingerprint

    told: Told | None = None
    """From Objects: the progress that the steps of ``run`` report, for people only. None: there is none that can be trusted, or
    ``stated`` has the final one."""
    stated: Progress | None = None
    """From status: the progress as it was last published. None: nothing yet."""

    @cached_property
    def now_inputs(self) -> Inputs:
        """The inputs that a version would be made from now. For checks after source.missing."""
        return identity.inputs(self.spec, self.content)

    @cached_property
    def inputs(self) -> Inputs:
        """The inputs of ``run``. For checks after source.missing."""
        return self.keyed or identity.keyed(self.spec, self.content, self.generation, self.earlier)

    @property
    def result(self) -> Mapping[str, Any]:
        """The preparation's result. For checks after preparation.without_result."""
        assert self.report.result is not None
        return self.report.result
