"""What a decision may ask for. Each is one call of one port, idempotent by the name it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pelagos.api.kinds import Kind
from pelagos.ports import pipelines, registry, serving, tracking
from pelagos.ports.cluster import Key


@dataclass(frozen=True)
class SubmitRun:
    """Make a pipeline run exist.

    ``aside``: the condition that says why it was refused, where that is in the way of nothing else; empty: the pass fails.
    """

    request: pipelines.RunRequest
    aside: str = ""


@dataclass(frozen=True)
class CancelRun:
    """End a pipeline run."""

    name: pipelines.RunName


@dataclass(frozen=True)
class CreateTrackedRun:
    """Make the tracked run exist."""

    want: tracking.DesiredTrackedRun


@dataclass(frozen=True)
class SealTrackedRun:
    """Set our seal on the tracked run anew: somebody altered it, or it is one of an earlier key."""

    run_id: str
    seal: str


@dataclass(frozen=True)
class SetOutcome:
    """Say in the tracking server how the run stands."""

    run_id: str
    outcome: tracking.Outcome


@dataclass(frozen=True)
class RegisterModel:
    """Make the model version exist."""

    want: registry.DesiredModelVersion


@dataclass(frozen=True)
class KeepRecord:
    """Keep what was made where a later life of the resource finds it."""

    path: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class ApplyService:
    """Make the endpoint exist as wanted."""

    want: serving.DesiredService


@dataclass(frozen=True)
class RestartService:
    """Kill a server that answers wrong."""

    uid: str


@dataclass(frozen=True)
class StopService:
    """Serve nothing until it is applied again."""

    uid: str


@dataclass(frozen=True)
class RetireService:
    """Remove what the engine that was set before made for it."""

    uid: str


@dataclass(frozen=True)
class DeleteResource:
    """Have the API server delete the resource itself, as its owner asked for; what goes with it follows from deletionPolicy."""

    key: Key
    uid: str
    why: str
    """For the event."""


@dataclass(frozen=True)
class CreateOwned:
    """Make a resource that goes with another one, by whose ``key`` and ``uid`` it is owned."""

    key: Key
    uid: str
    kind: Kind
    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class RemoveOwned:
    """Have such a resource deleted; one of its name that is not owned stays."""

    key: Key
    uid: str
    kind: Kind
    name: str


@dataclass(frozen=True)
class IssueToken:
    """Put a token into a Secret of this name, which goes with the resource."""

    key: Key
    uid: str
    name: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class RevokeToken:
    """Delete such a Secret."""

    key: Key
    uid: str
    name: str


@dataclass(frozen=True)
class PostEvent:
    """Say about a resource what its conditions do not say. After a crash it may be said twice."""

    key: Key
    uid: str
    reason: str
    message: str
    warns: bool = False


Effect = (
    SubmitRun
    | CancelRun
    | CreateTrackedRun
    | SealTrackedRun
    | SetOutcome
    | RegisterModel
    | KeepRecord
    | ApplyService
    | RestartService
    | StopService
    | RetireService
    | DeleteResource
    | CreateOwned
    | RemoveOwned
    | IssueToken
    | RevokeToken
    | PostEvent
)
