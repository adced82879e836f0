"""All that decisions about a TrainingRun go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pelagos.api.training_run import TrainingRunSpec
from pelagos.decisions.reports import Recording, Report
from pelagos.decisions.training_run.identity import DatasetVersion, Frozen
from pelagos.ports import registry, tracking
from pelagos.ports.pipelines import PipelineRun
from pelagos.ports.tenants import Tenant


@dataclass(frozen=True)
class ObservedDataset:
    """The referenced Dataset now. ``candidate`` is the version that spec asks for, when it is there to be used."""

    exists: bool
    ready: bool
    message: str
    candidate: DatasetVersion | None
    known_versions: tuple[str, ...] = ()
    empty_splits: tuple[str, ...] = ()
    """Of the candidate, as far as the Dataset's status tells."""


@dataclass(frozen=True)
class Observed:
    """All that is known about a TrainingRun, read once.

    ``frozen`` comes from status or, when status was lost, from the sealed run's tags; None before the first freeze. ``tracked``
    is the run under our seal; None when there is none, or when ``tracking_outage`` says that it cannot be determined. ``run`` and
    ``report`` belong to the frozen inputs. ``tenant`` has the storage prefix that the run began with.
    """

    spec: TrainingRunSpec
    namespace: str
    name: str
    uid: str
    retry_key: str
    dataset: ObservedDataset
    frozen: Frozen | None
    tracked: tracking.TrackedRun | None
    tracking_outage: str | None
    tracking_uri: str
    run: PipelineRun | None
    report: Report
    version: registry.ModelVersion | None
    registry_outage: str | None
    paths: Mapping[str, str]
    now: datetime
    """By the clock that noted the run's own times."""
    published: Mapping[str, Any] = field(default_factory=dict)
    """The model as status has it: a record for when the registry does not answer."""
    tenant: Tenant = Tenant()
    model_owners: frozenset[str] = frozenset()
    """Namespaces that the model to register in belongs to; empty when it is nobody's."""
    outside: str = ""
    """Why the dataset version may not be read: it lies outside of the namespace's part of the store."""
    weights_missing: bool = False
    """Whether spec.model.weights names a file that is not there."""
    tracked_seal: str = ""
    """Of ``tracked``, under the present key."""
    storage_seal: str = ""
    record: Recording = field(default_factory=Recording)
    recorded_run: str | None = None
    """Of a result that a former life put on record, the tracked run; empty when it named none. None: the result is our own."""
    time_of_day: datetime | None = None
    """For people; None: ``now``."""
