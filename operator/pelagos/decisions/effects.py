"""The effects that a decision may ask for. Each is one call of one port, idempotent by the name in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pelagos.api.kinds import Kind
from pelagos.api.service_logins import ServiceLogin
from pelagos.ports import pipelines, registry, serving, tracking
from pelagos.ports.cluster import Key


@dataclass(frozen=True)
class SubmitRun:
    """Make a pipeline run exist.

    ``aside``: the condition in which to report a refusal, if nothing else depends on the run. Empty: a refusal fails the pass.
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
    """Replace the seal on the tracked run, because somebody altered it or it was made with an earlier key."""

    run_id: str
    seal: str


@dataclass(frozen=True)
class SetOutcome:
    """Write the outcome of a tracked run to the tracking server."""

    run_id: str
    outcome: tracking.Outcome


@dataclass(frozen=True)
class RegisterModel:
    """Make the model version exist."""

    want: registry.DesiredModelVersion


@dataclass(frozen=True)
class KeepRecord:
    """Put a result on record, where a later life of the resource finds it."""

    path: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class ApplyService:
    """Make the endpoint exist as desired."""

    want: serving.DesiredService


@dataclass(frozen=True)
class RestartService:
    """Restart a server that hangs or answers wrong."""

    uid: str


@dataclass(frozen=True)
class StopService:
    """Stop the endpoint's servers until it is applied again."""

    uid: str


@dataclass(frozen=True)
class RetireService:
    """Remove the objects that the previously configured serving engine made for the service."""

    uid: str


@dataclass(frozen=True)
class DeleteResource:
    """Have the API server delete the resource itself, as its owner asked. What else is removed follows from deletionPolicy."""

    key: Key
    uid: str
    why: str
    """The cause, for the message of the event."""


@dataclass(frozen=True)
class CreateOwned:
    """Create a resource that is owned by the one with ``key`` and ``uid``, and deleted with it."""

    key: Key
    uid: str
    kind: Kind
    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class RemoveOwned:
    """Delete such a resource. One of the same name with another owner stays."""

    key: Key
    uid: str
    kind: Kind
    name: str


@dataclass(frozen=True)
class IssueToken:
    """Put a token into a Secret of this name, which the resource owns."""

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
class PublishLogin:
    """Give the gateway the login for the servers of the resource."""

    key: Key
    uid: str
    login: ServiceLogin


@dataclass(frozen=True)
class PostEvent:
    """Post an event about something that the conditions do not say. After a crash it may be posted twice."""

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
    | PublishLogin
    | PostEvent
)
