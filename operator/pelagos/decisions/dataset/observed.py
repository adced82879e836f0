"""All that decisions about a Dataset go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pelagos.api.dataset import DatasetSpec
from pelagos.decisions.reports import Recording, Report
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tenants import Tenant
from pelagos.ports.volumes import Fingerprint


@dataclass(frozen=True)
class Observed:
    """All that is known about a Dataset, read once.

    ``fingerprint`` is None when the source is missing; ``source_error`` says why it may not be read. ``run`` and ``report``
    belong to the inputs seen now; ``superseded`` are runs for earlier inputs that go on. ``history`` holds the versions
    published so far. ``tenant`` has the storage prefix that the Dataset began with.
    """

    spec: DatasetSpec
    namespace: str
    name: str
    uid: str
    retry: str
    fingerprint: Fingerprint | None
    source_error: str | None
    run: PipelineRun | None
    report: Report
    superseded: tuple[PipelineRun, ...]
    history: tuple[Mapping[str, Any], ...]
    data_root: str
    store: str
    report_folder: str
    now: datetime
    """By the clock that noted the run's own times."""
    tenant: Tenant = Tenant()
    storage_seal: str = ""
    record: Recording = field(default_factory=Recording)
    time_of_day: datetime | None = None
    """For people; None: ``now``."""
