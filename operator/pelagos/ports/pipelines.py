"""Pipelines: launches compiled flows and reports their state."""

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
"""Environment of every step with every engine: libraries must not fetch, install or execute anything that users supply."""


def is_valid_name(name: str) -> bool:
    """Whether every engine accepts this name for a run."""
    return _NAME.fullmatch(name) is not None


def log_command(labels: Mapping[str, str]) -> str:
    """The command that shows the log of a run with these labels; empty when they do not say whose it is."""
    kind, _, rest = labels.get(RESOURCE_TAG, "").partition("/")
    namespace, _, name = rest.partition("/")
    return f"pelagos logs {name} -n {namespace} --kind {kind}" if name else ""


def require_valid_name(system: str, name: str) -> None:
    """Raises RejectedError for a name that not every engine accepts."""
    if not is_valid_name(name):
        message = f"run name {name!r} must be 1 to 200 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise RejectedError(system, message)


class RunState(Enum):
    """The state of a pipeline run."""

    PENDING = "Pending"
    """Accepted, waiting for capacity."""
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    """A step ended with an error."""
    INTERRUPTED = "Interrupted"
    """The run's process ended without an outcome: it was killed, or the machine restarted. The run can be started again."""
    CANCELED = "Canceled"


FINISHED = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.INTERRUPTED, RunState.CANCELED})


@dataclass(frozen=True)
class RunResources:
    """Resources of the run's heavy steps."""

    cpu: int = 2
    placement: Placement = Placement()
    time_limit: int = 0
    """Seconds after which the cluster ends the run, in case the operator is down; 0: never."""
    priority: str = ""
    """The Kueue WorkloadPriorityClass; empty: none. Ignored on one machine."""


@dataclass(frozen=True)
class SourceSecret:
    """A Secret in the resource's namespace with a step's credentials. It must have all keys of one of the sets in ``keys``."""

    name: str
    keys: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class RunRequest:
    """A run that should exist. ``name`` identifies it permanently: same name, same inputs.

    A request with a higher ``attempt`` starts a finished run again, even a successful one, whose result may have been lost. Any
    other request for a known name adopts the run as it is. ``retry_key`` changes when a person, or something that the run depends
    on, is a reason to try again. It is kept with the run, and ``attempts_with_key`` counts from its last change. It is the only
    thing in a run's parameters that may change.
    """

    name: RunName
    flow: Flow
    parameters: Mapping[str, str]
    attempt: int = 1
    retry_key: str = ""
    resources: RunResources = RunResources()
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    """The resource's namespace, in which the cluster runs its steps."""
    tenant: Tenant = Tenant()
    secret: SourceSecret | None = None
    """The Secret for its steps, whose content is kept nowhere else. If an engine can see that it is missing, ``submit`` raises
    RejectedError."""

    @property
    def steps(self) -> tuple[StepDescription, ...]:
        """The steps of the flow with these resources. Raises RejectedError when there is no such flow."""
        return self._description.steps(gpus=self.resources.placement.gpus > 0)

    @property
    def compiled(self) -> str:
        """The file with these steps, in the folder of compiled flows. Raises as ``steps``."""
        return f"{self._description.file(gpus=self.resources.placement.gpus > 0)}.yaml"

    @property
    def _description(self) -> FlowDescription:
        try:
            return FLOWS.named(self.flow)
        except UnknownNameError as error:
            raise RejectedError("pipelines", str(error)) from None


@dataclass(frozen=True)
class Queueing:
    """A run's place in the queue ``name``: since when it has been there, and when it was admitted, None while it waits.

    ``position`` is 1 for the next run, None when it is not known; ``reason`` is why it waits, in the queue's words.
    """

    name: str
    since: datetime | None
    admitted_at: datetime | None
    position: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class PipelineRun:
    """A run as the engine knows it. ``url`` is for people: a page, or the path of the log."""

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
    """How long it has run, or had run when it ended, by a monotonic clock. None: only times of day are known."""
    reason: Reason | None = None
    """Why a pending run does not begin, or what interrupted it. None: not known."""
    priority: str | None = None
    """The priority with which it waits in a queue, "" for none. None: the engine does not queue by priority."""
    queue: Queueing | None = None
    """The queue in which it waits, or waited. None: nothing queues, or it is not known."""
    is_explained: bool = True
    """Whether the engine knows why the run failed. It may no longer know when it is asked later."""


class Pipelines(Protocol):
    """Every method may raise OutageError; ``submit`` also RejectedError."""

    async def find(self, name: RunName) -> PipelineRun | None:
        """The run of this name; None when it was never submitted, or has been deleted."""

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """All runs with ``uid`` in their label ``pelagos.dev/uid``, including finished ones: a clean-up removes them all."""

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All runs of ours, for any resource, in ``namespaces`` and wherever else the engine searches."""

    @mutating
    async def submit(self, request: RunRequest) -> PipelineRun:
        """Start the run, exactly once per name and attempt. Returns without waiting for its end."""

    @mutating
    async def cancel(self, name: RunName) -> None:
        """End the run with all its processes, and keep its files. No effect on finished or unknown runs.

        Raises UnfinishedError when its processes need longer to end than a pass may take.
        """

    @mutating
    async def delete(self, name: RunName) -> None:
        """Cancel the run, and remove the engine's record and logs of it. No effect on unknown runs. Raises as ``cancel``."""
