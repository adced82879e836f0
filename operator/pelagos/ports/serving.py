"""Serving: keeps one endpoint per ModelService and proves that it answers right."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal, Protocol

from pelagos.ports.marks import mutating
from pelagos.ports.owned import Owned
from pelagos.ports.placement import Placement
from pelagos.ports.tenants import Tenant
from pelagos_contract.training import MAX_DETECTIONS

USUAL_CONFIDENCE = 0.25
"""What detections must have more than, when nothing else is asked for."""
CPU_TARGET = 80
"""Percent of the requested processor time that replicas are kept at, when nothing else is asked for."""


@dataclass(frozen=True)
class Scaling:
    """Replicas between ``minimum`` and ``maximum``; one machine always has one.

    ``concurrency`` is requests at once per replica, ``cpu`` percent of the requested processor time; 0: not a target.
    """

    mode: Literal["Standard", "Knative"] = "Standard"
    minimum: int = 1
    maximum: int = 1
    concurrency: int = 0
    cpu: int = 0
    old_first: bool = False
    """Where servers are replaced, an old one ends before a new one starts, which then needs no further room."""


def spec_digest(pods: str, scaling: Scaling) -> str:
    """Digest of a whole want: of its pods, and of the numbers of its scaling where they are not the usual ones.

    Wants that scale alike have the same: a target that is left out is the usual one, and one that is not looked at is none.
    """
    by_cpu = scaling.mode == "Standard" or scaling.cpu > 0
    target = f"cpu {scaling.cpu or CPU_TARGET}" if by_cpu else f"concurrency {scaling.concurrency}"
    usual = f"cpu {CPU_TARGET}" if scaling.mode == "Standard" else "concurrency 0"
    numbers = (scaling.minimum, scaling.maximum, target)
    order = " old first" if scaling.old_first else ""
    if numbers == (1, 1, usual) and not order:
        return pods
    return "sha256:" + hashlib.sha256(f"{pods} {numbers}{order}".encode()).hexdigest()


@dataclass(frozen=True)
class DesiredService:
    """An endpoint to be. Filled by decisions/model_service/endpoint.wanted."""

    uid: str
    """Of the ModelService; identifies the endpoint."""
    namespace: str
    name: str
    """Of the ModelService."""
    model_name: str
    """What clients ask for."""
    package_uri: str
    """Folder of the model package."""
    onnx_sha256: str
    """Digest of its graph."""
    manifest_sha256: str
    """Digest of the package's description, which pins all of it: nothing else is served, whatever lies at ``package_uri``."""
    max_batch_size: int
    """Images in one batch."""
    max_queue_delay: int
    """Microseconds that a request waits for its batch to fill."""
    instances: int
    """Copies of the model in one server."""
    confidence: str
    iou: str
    """Decimal strings in [0, 1]."""
    cpu: int
    """Processor cores of one server."""
    digest: str
    """Names all of this want."""
    placement: Placement = Placement()
    """Where servers may run, and with how much memory and how many GPUs; by default anywhere."""
    scaling: Scaling = Scaling()
    """How many servers; by default one."""
    tenant: Tenant = Tenant()
    """Tenant settings of the namespace."""
    pods_digest: str = ""
    """Names what servers are made of: all but the numbers of ``scaling``, whose change replaces none. Empty: ``digest``."""
    max_detections: int = MAX_DETECTIONS
    """Of one image."""
    per_class: bool | None = None
    """Whether classes have the confidences that the package has for them; None: where ``confidence`` is the usual one."""

    @property
    def heeds_classes(self) -> bool:
        """As ``per_class`` says."""
        return float(self.confidence) == USUAL_CONFIDENCE if self.per_class is None else self.per_class

    @property
    def pod_template_digest(self) -> str:
        """What a server says that it serves."""
        return self.pods_digest or self.digest


class ServiceState(Enum):
    """Where an endpoint is."""

    STARTING = "Starting"
    LOADED = "Loaded"
    """The server says that the model is ready. Not yet a proof: see probe."""
    LOAD_FAILED = "LoadFailed"
    """The server runs and refuses the model."""
    FETCH_FAILED = "FetchFailed"
    """What brings the package to the server could not. The cluster tries again by itself; ``message`` says what is missing."""
    DEAD = "Dead"
    """The server's process is gone."""
    ENDED = "Ended"
    """The server was ended in order, with all else on its machine, and is to be started again."""
    WAITING = "Waiting"
    """The cluster cannot place it yet: image missing, no node fits, quota used up. ``message`` says which."""
    IDLE = "Idle"
    """Scaled to zero; the next request starts it."""


@dataclass(frozen=True)
class ObservedService:
    """What runs for a ModelService. Filled by the serving engine."""

    digest: str
    """Of the want that was applied last; empty: what is there was altered by somebody."""
    state: ServiceState
    """Where the endpoint is."""
    message: str
    """Why, in the words of the server or the cluster; empty: nothing to add."""
    grpc_url: str
    http_url: str
    metrics_url: str
    """Addresses; empty until known, and those for which there is no way to the servers."""
    onnx_sha256: str
    """Digest of the graph of the model that is, or is being, loaded."""
    restarts: int
    """Deaths since the want last changed."""
    changed_at: datetime
    """Since when it is in ``state``, by the clock of whoever noted it."""
    replicas: int = 1
    """Ready ones."""
    pods_digest: str = ""
    """Of the want that the servers were made for; empty: unknown."""
    predecessor: str = ""
    """What another engine, which was set before, made for the resource and still serves, in words; empty: nothing."""
    predecessor_held: str = ""
    """What that waits for since it was told to go, in words; empty: it was not."""
    lacks_room: bool = False
    """Whether it waits for room: no node takes it, or a quota is used up."""
    pod_selector: str = ""
    """Labels of the servers' pods, as ``kubectl get -l`` takes them; empty: they are no pods."""
    is_alone: bool = False
    """Whether there is one server here, however many are wanted."""
    is_stopped: bool = False
    """Whether it was stopped, and what it is made of is kept: `apply` starts it again."""


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of one real inference with a known answer; ``latency`` in seconds."""

    correct: bool
    message: str
    latency: float


class Serving(Protocol):
    """Every method may raise OutageError; ``apply`` also RejectedError (package missing or altered)."""

    async def observe(self, uid: str) -> ObservedService | None:
        """Look at the endpoint; None when there is none."""

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All endpoints of ours, for any resource; ``namespaces``: where to look, besides where the engine looks anyway."""

    @mutating
    async def apply(self, want: DesiredService) -> None:
        """Start the endpoint, change it to the want, or start it again when dead. Returns without waiting for the model."""

    async def probe(self, uid: str) -> ProbeResult:
        """Send the package's probe image and compare with what the training framework answered."""

    @mutating
    async def restart(self, uid: str) -> None:
        """Kill a server that runs and answers wrong, so that ``apply`` restarts it. No effect when there is none."""

    @mutating
    async def retire(self, uid: str) -> None:
        """Remove what ``observe`` tells of as ``predecessor``. Never called for an engine that tells of none."""

    @mutating
    async def stop(self, uid: str) -> None:
        """Serve nothing for a while: what can be started again may be kept, and is told as ``is_stopped``, or all is removed.

        No effect when there is none. Raises as ``remove`` does.
        """

    @mutating
    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Stop the endpoint and leave no process; remove its files unless ``keep_files``. No effect when there is none.

        Raises UnfinishedError while servers go on that were told to end.
        """
