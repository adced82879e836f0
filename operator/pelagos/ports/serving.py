"""Serving: keeps one endpoint per ModelService and proves that it answers correctly."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Literal, Protocol

from pelagos.ports.marks import mutating
from pelagos.ports.owned import Owned
from pelagos.ports.placement import Placement
from pelagos.ports.tenants import Tenant
from pelagos_contract.training import MAX_DETECTIONS

USUAL_CONFIDENCE = 0.25
"""The default confidence, which detections have to exceed."""
CPU_TARGET = 80
"""The default target for replicas, in percent of the requested processor time."""


@dataclass(frozen=True)
class Scaling:
    """A number of replicas between ``minimum`` and ``maximum``; on one machine there is always one.

    Targets are ``concurrency``, in concurrent requests per replica, and ``cpu``, in percent of the requested processor time. 0:
    not a target.
    """

    mode: Literal["Standard", "Knative"] = "Standard"
    minimum: int = 1
    maximum: int = 1
    concurrency: int = 0
    cpu: int = 0
    old_first: bool = False
    """Whether an old server ends before the new one that replaces it starts, so that no room for both is needed."""


def spec_digest(pods: str, scaling: Scaling) -> str:
    """Digest of a whole DesiredService: of its pods, and of its scaling unless that is the default.

    It is the same for scaling of the same effect: a target that is left out is the default one, and one that the mode ignores
    does not count.
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
    """An endpoint that should exist. Filled by decisions/model_service/endpoint.wanted."""

    uid: str
    """The ModelService's uid, which identifies the endpoint."""
    namespace: str
    name: str
    """Namespace and name of the ModelService."""
    model_name: str
    """The name of the model in requests of clients."""
    package_uri: str
    """The folder of the model package."""
    onnx_sha256: str
    """Digest of the package's ONNX graph."""
    manifest_sha256: str
    """Digest of the package's manifest, which pins all of it: nothing else is served, even if ``package_uri`` changes."""
    max_batch_size: int
    """Most images in one batch."""
    max_queue_delay: int
    """Most microseconds that a request waits for its batch to fill."""
    instances: int
    """Copies of the model in one server."""
    confidence: str
    iou: str
    """Decimal strings in [0, 1]."""
    cpu: int
    """Processor cores of one server."""
    digest: str
    """Digest of all fields."""
    placement: Placement = Placement()
    """Where servers may run, and with how much memory and how many GPUs; by default anywhere."""
    scaling: Scaling = Scaling()
    """How many servers; by default one."""
    tenant: Tenant = Tenant()
    """Tenant settings of the namespace."""
    pods_digest: str = ""
    """Digest of the settings of servers: all but the numbers of ``scaling``, whose change replaces none. Empty: ``digest``."""
    max_detections: int = MAX_DETECTIONS
    """Most detections in one image."""
    per_class: bool | None = None
    """Whether to use the confidences that the package has for each class. None: only if ``confidence`` is the default."""

    @property
    def heeds_classes(self) -> bool:
        """Whether to use the confidences that the package has for each class."""
        return float(self.confidence) == USUAL_CONFIDENCE if self.per_class is None else self.per_class

    @property
    def pod_template_digest(self) -> str:
        """The digest that servers carry, to show from which settings they were made."""
        return self.pods_digest or self.digest


class ServiceState(Enum):
    """The state of an endpoint."""

    STARTING = "Starting"
    LOADED = "Loaded"
    """The server reports that the model is ready. Only a probe proves it."""
    LOAD_FAILED = "LoadFailed"
    """The server runs and refuses the model."""
    FETCH_FAILED = "FetchFailed"
    """The package could not be fetched for the server. The cluster retries; ``message`` says what is missing."""
    DEAD = "Dead"
    """The server's process died."""
    ENDED = "Ended"
    """The server was ended in order, as when its machine is shut down, and has to be started again."""
    WAITING = "Waiting"
    """The cluster cannot place it yet: the image is missing, no node fits, or a quota is used up. ``message`` says which."""
    IDLE = "Idle"
    """Scaled to zero; the next request starts it."""


@dataclass(frozen=True)
class ObservedService:
    """What runs for a ModelService. Filled by the serving engine."""

    digest: str
    """The digest of the DesiredService that was applied last; empty: somebody has altered the endpoint since."""
    state: ServiceState
    """The endpoint's state."""
    message: str
    """The cause of the state, in the words of the server or the cluster; may be empty."""
    grpc_url: str
    http_url: str
    metrics_url: str
    """Addresses; empty until they are known, and for protocols by which the servers cannot be reached."""
    onnx_sha256: str
    """Digest of the ONNX graph that is loaded or being loaded."""
    restarts: int
    """How often a server died since the DesiredService last changed."""
    changed_at: datetime
    """When it entered ``state``, by the clock of the system that noted it."""
    replicas: int = 1
    """Number of ready replicas."""
    pods_digest: str = ""
    """The pod_template_digest of the DesiredService that the servers were made for; empty: unknown."""
    predecessor: str = ""
    """What the engine that was configured before made for the resource, and still serves, for messages; empty: nothing."""
    predecessor_held: str = ""
    """What keeps the predecessor from being removed since that began, for messages; empty: nothing does."""
    lacks_room: bool = False
    """Whether it waits for room: no node fits, or a quota is used up."""
    pod_selector: str = ""
    """Labels of the servers' pods, in the form for ``kubectl get -l``; empty: they are not pods."""
    is_alone: bool = False
    """Whether the engine runs one server, regardless of the desired number."""
    is_stopped: bool = False
    """Whether it was stopped, but its parts are kept, so that ``apply`` starts it again."""
    authorization: str = field(default="", repr=False)
    """The header Authorization that servers at ``http_url`` ask for; empty: none. A secret, for the gateway alone."""


@dataclass(frozen=True)
class ProbeResult:
    """Outcome of one real inference with a known answer; ``latency`` in seconds."""

    correct: bool
    message: str
    latency: float


class Serving(Protocol):
    """Every method may raise OutageError; ``apply`` also RejectedError (package missing or altered)."""

    async def observe(self, uid: str) -> ObservedService | None:
        """The endpoint as it is now; None when there is none."""

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All endpoints of ours, for any resource, in ``namespaces`` and wherever else the engine searches."""

    @mutating
    async def apply(self, want: DesiredService) -> None:
        """Start the endpoint, change it to match ``want``, or start a dead one again. Returns without waiting for the model."""

    async def probe(self, uid: str) -> ProbeResult:
        """Send the package's probe image, and compare the answer with that of the training framework."""

    @mutating
    async def restart(self, uid: str) -> None:
        """Kill a server that hangs or answers wrong, so that ``apply`` starts it again. No effect when there is none."""

    @mutating
    async def retire(self, uid: str) -> None:
        """Remove what ``observe`` reports as ``predecessor``. Never called for an engine that reports none."""

    @mutating
    async def stop(self, uid: str) -> None:
        """Stop the servers until ``apply``. The engine may keep other parts, and report ``is_stopped``, or remove everything.

        No effect when there is none. Raises as ``remove``.
        """

    @mutating
    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Stop the endpoint with all its processes, and remove its files unless ``keep_files``. No effect when there is none.

        Raises UnfinishedError while servers are still ending.
        """
