"""All that decisions about a Dataset go by."""

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
    """What is known of the publication of versions."""

    run: PipelineRun | None = None
    """From Pipelines, by the name that the uid gives: of all versions the same. None: never started, or not asked for."""
    report: Report = field(default_factory=Report)
    """From Objects: what ``run`` left, with the retry key that it answers."""
    folder: str = ""
    """Where it leaves that."""
    known: Publication | None = None
    """From status or, when that was lost, from the record that was kept last: what was published last. None: nothing."""
    owners: tuple[str, ...] = ()
    """Uids of the resource and of those that had its name before, by the record that was kept last."""
    now: datetime | None = None
    """From the clock that noted the times of ``run``."""


@dataclass(frozen=True)
class Observed:
    """All that is known about a Dataset, read once by reconcilers/datasets.gather."""

    spec: DatasetSpec
    """From the resource, its defaults filled in."""
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    retry: str
    """From the retry annotation; empty without one."""
    fingerprint: Fingerprint | None
    """From Volumes, or from spec for what is elsewhere: what tells the source's present content from another. None: the source
    is missing, or ``source_error``."""
    source_error: str | None
    """From Volumes: why the source may not be read. None: it may, or is missing."""
    run: PipelineRun | None
    """From Pipelines, by the name that recipe and fingerprint give, or from status when the engine has forgotten it. None: never
    started, or there is no fingerprint."""
    report: Report
    """From Objects: what ``run`` left, or what is on record for the same inputs. Empty: neither result nor failure."""
    superseded: tuple[PipelineRun, ...]
    """From Pipelines: runs for an earlier recipe or content that go on."""
    history: tuple[DatasetVersion, ...]
    """From status or, when that was lost, from the record that was kept last: the versions published so far, the newest first."""
    data_root: str
    """From the tenant settings: the folder that a path in spec.source is below."""
    store: str
    """Where versions are put: where those before are, by status, report or record; else the namespace's folder for this uid."""
    report_folder: str
    """Where the run leaves its report; empty without a fingerprint."""
    now: datetime
    """From the clock that noted the run's own times."""
    tenant: Tenant = Tenant()
    """From Tenants, with the storage prefix that the Dataset began with."""
    storage_seal: str = ""
    """From Authority: goes into status beside the storage prefix."""
    record: Recording = field(default_factory=Recording)
    """From Objects and status: where the result is put on record, and whether it is. Empty without a fingerprint."""
    removals: Removals = field(default_factory=Removals)
    """From status: versions that are being removed, and what was removed so far."""
    removal_run: PipelineRun | None = None
    """From Pipelines, by the name that these versions give. None: nothing is being removed, or its run has yet to begin."""
    removal_report: Report = field(default_factory=Report)
    """From Objects: what ``removal_run`` left."""
    removal_folder: str = ""
    """Where it leaves that."""
    publishing: Publishing = field(default_factory=Publishing)
    """From Pipelines, Objects and status."""
    users: Mapping[str, str] | None = field(default_factory=dict)
    """From the cache: what names a version that is being removed or may be, by the version. None: not all resources are known."""
    is_gone: bool = False
    """From Objects: the version that the run made was removed since, because content came back that had been replaced."""
    generation: int = 1
    """From the resource's metadata."""
    earlier: Earlier | None = None
    """From status or, in a resource without any, from the record that was kept last: what the last run was made from. None: there
    was none."""
    keyed: Inputs | None = None
    """What ``inputs`` are, as the name of ``run`` follows from them. None: not found out yet, or there is no fingerprint."""
    metadata_digest: str | None = None
    """From status: of the metadata that is on record with the newest version. None: there is none."""
    time_of_day: datetime | None = None
    """From the clock, for people. None: ``now``."""

    @property
    def content(self) -> Fingerprint:
        """The source's fingerprint. For checks after source.missing."""
        assert self.fingerprint is not None
        return self.fingerprint

    told: Told | None = None
    """From Objects: how far the steps of ``run`` say that it is, for show alone. None: they say nothing that can be believed, or
    ``stated`` has the last that they will ever say."""
    stated: Progress | None = None
    """From status: the last that was said of it. None: nothing yet."""

    @cached_property
    def now_inputs(self) -> Inputs:
        """What a version would be made from now. For checks after source.missing."""
        return identity.inputs(self.spec, self.content)

    @cached_property
    def inputs(self) -> Inputs:
        """What ``run`` is made from. For checks after source.missing."""
        return self.keyed or identity.keyed(self.spec, self.content, self.generation, self.earlier)

    @property
    def result(self) -> Mapping[str, Any]:
        """What the preparation reported. For checks after preparation.without_result."""
        assert self.report.result is not None
        return self.report.result
