"""Pipelines: launches compiled flows and reports what became of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, NewType, Protocol

from pelagos.ports.errors import RejectedError
from pelagos.ports.marks import mutating
from pelagos.ports.owned import Owned
from pelagos.ports.placement import Placement
from pelagos.ports.tenants import Tenant
from pelagos_contract.flows import FLOWS, Flow
from pelagos_contract.registry import UnknownNameError
from pelagos_contract.tags import RESOURCE_TAG

if TYPE_CHECKING:
    from collections.abc import Collection

    from pelagos.api.reasons import Reason
    from pelagos_contract.flows import FlowDescription, StepDescription

RunName = NewType("RunName", str)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
STEP_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLBACKEND": "Agg",
        "PYTHONUNBUFFERED": "1",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
    }
)
"""What every engine gives every step: libraries neither fetch nor install nor execute what users hand in."""


def is_valid_name(name: str) -> bool:
    """Whether a run can have this name with every engine."""
    return _NAME.fullmatch(name) is not None


def log_command(labels: Mapping[str, str]) -> str:
    """What a person types to read the log of a run with these labels; "" when they do not say whose it is."""
    kind, _, rest = labels.get(RESOURCE_TAG, "").partition("/")
    namespace, _, name = rest.partition("/")
    return f"pelagos logs {name} -n {namespace} --kind {kind}" if name else ""


def require_valid_name(system: str, name: str) -> None:
    """Raises RejectedError for a name that no run can have."""
    if not is_valid_name(name):
        message = f"run name {name!r} must be 1 to 200 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise RejectedError(system, message)


class RunState(Enum):
    """Where a pipeline run is."""

    PENDING = "Pending"
    """Accepted, waiting for capacity."""
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    """A step ended with an error."""
    INTERRUPTED = "Interrupted"
    """The run's process is gone without an outcome: killed, machine restarted. It can be started again."""
    CANCELED = "Canceled"


FINISHED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.INTERRUPTED, RunState.CANCELED})


@dataclass(frozen=True)
class RunResources:
    """What the heavy steps of a run ask for."""

    cpu: int = 2
    placement: Placement = Placement()
    time_limit: int = 0
    """Seconds after which a cluster ends the run by itself, should the operator be away; 0: never."""
    priority: str = ""
    """Kueue WorkloadPriorityClass; empty: none. Ignored on one machine."""


@dataclass(frozen=True)
class SourceSecret:
    """The Secret of the resource's namespace by which a step asks a source, and its keys: all of one of these sets."""

    name: str
    keys: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class RunRequest:
    """A run to be. ``name`` identifies it permanently: same name, same inputs.

    A finished run is started again by a request with a higher ``attempt`` (a successful one too: its result may have been
    lost); any other request for a known name adopts the run as it is. ``retry_key`` changes when a person, or what a run depends
    on, gives reason to try again; it is kept with the run, and ``attempts_with_key`` counts from its change. It alone may
    change in the parameters of a run.
    """

    name: RunName
    flow: Flow
    parameters: Mapping[str, str]
    attempt: int = 1
    retry_key: str = ""
    resources: RunResources = RunResources()
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    """Of the resource that it is for: where a cluster runs its steps."""
    tenant: Tenant = Tenant()
    secret: SourceSecret | None = None
    """Handed to its steps, and kept nowhere else. Submitting a run without it raises RejectedError where that can be seen."""

    @property
    def steps(self) -> tuple[StepDescription, ...]:
        """Those that it has with these resources."""
        return self._description.steps(gpus=self.resources.placement.gpus > 0)

    @property
    def compiled(self) -> str:
        """The file with these steps, in the folder of compiled flows. Raises RejectedError when there is no such flow."""
        return f"{self._description.file(gpus=self.resources.placement.gpus > 0)}.yaml"

    @property
    def _description(self) -> FlowDescription:
        try:
            return FLOWS.named(self.flow)
        except UnknownNameError as error:
            raise RejectedError("pipelines", str(error)) from None


@dataclass(frozen=True)
class Queueing:
    """How a run stands in the queue ``name``: since when, and when it was admitted, None while it waits.

    ``position`` is 1 for who is next, None where nobody says; ``reason`` why it waits, in the queue's words.
    """

    name: str
    since: datetime | None
    admitted_at: datetime | None
    position: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class PipelineRun:
    """What the engine knows of a run. ``url`` is where a person can look: a page, or the path of the log."""

    name: RunName
    state: RunState
    attempt: int
    retry_key: str
    attempts_with_key: int
    message: str
    url: str
    started_at: datetime | None
    finished_at: datetime | None
    ran: timedelta | None = None
    """How long it has run, or had run when it ended, by a monotonic clock; None where only times of day are known."""
    reason: Reason | None = None
    """Why a pending run does not begin, or what interrupted one; None when nobody says."""
    priority: str | None = None
    """That with which it waits in a queue, "" for none; None where nothing queues by priority."""
    queue: Queueing | None = None
    """Where it waits, or waited; None where nothing queues, or nobody says."""
    is_explained: bool = True
    """Whether the engine knows why a run failed: what told that may be gone when it is asked for again."""


class Pipelines(Protocol):
    """Every method may raise OutageError; ``submit`` also RejectedError."""

    async def find(self, name: RunName) -> PipelineRun | None:
        """What became of a run; None when it was never submitted or has been deleted."""

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """All runs whose label ``pelagos.dev/uid`` is ``uid``, finished ones too: what must go when their resource goes."""

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All runs of ours, for any resource; ``namespaces``: where to look, besides where the engine looks anyway."""

    @mutating
    async def submit(self, request: RunRequest) -> PipelineRun:
        """Make the run exist, exactly once per name and attempt; returns without waiting for it."""

    @mutating
    async def cancel(self, name: RunName) -> None:
        """End the run with all its processes, keep what it wrote. No effect on finished or unknown runs.

        Raises UnfinishedError when the processes need longer to go than a pass may take.
        """

    @mutating
    async def delete(self, name: RunName) -> None:
        """Cancel, and remove the engine's record and logs. No effect on unknown runs. Raises as ``cancel``."""
