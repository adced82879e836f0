"""Everything that decisions about a Trial are based on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pelagos.api.trial import ENDED, TrialSpec, TrialStatus
from pelagos.decisions import durations
from pelagos.ports.gateway import Gateway
from pelagos.ports.tenants import Tenant


@dataclass(frozen=True)
class Service:
    """A ModelService, as its status describes it."""

    name: str
    is_ready: bool
    is_coming: bool
    """It is not Ready yet, but on its way, and waits for nobody."""
    is_stalled: bool
    """A person must change something."""
    lacks_room: bool
    """It waits for room on the cluster."""
    message: str
    """The message of its Ready condition."""
    onnx_sha256: str | None
    spec: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False
    """Whether it was made for this Trial."""
    is_leaving: bool = False
    """It is being deleted."""
    has_grpc: bool = True
    """Whether its servers can be reached by gRPC."""
    is_behind_gateway: bool = True
    """Whether the gateway can reach its servers. It counts once it is Ready."""


@dataclass(frozen=True)
class Other:
    """Another Trial of the namespace that has a place."""

    name: str
    user: str | None
    """The user, if the hub attested it; else None."""
    left: timedelta | None
    """The time until it is over, by our clock. None: it is not open yet."""


@dataclass(frozen=True)
class Observed:
    """All observations of a Trial, read once by reconcilers/trials.gather."""

    spec: TrialSpec
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    spec_digest: str
    """Digest of the spec as it is now."""
    attested: bool
    """Whether it carries the hub's signature."""
    told: TrialStatus
    """From status: the decision, which is never made again, and when it opened, which nothing else knows."""
    tenant: Tenant
    gateway: Gateway
    """From settings."""
    others: tuple[Other, ...]
    """From the API server, in this Trial's turn. Read only while it is undecided."""
    token_is_of: str
    """The Trial of the namespace that had spec.tokenSha256 first; empty if it is this one. Read only while it is undecided."""
    named: Service | None
    """The ModelService that spec.modelServiceRef names. None: it names none, or there is no such ModelService."""
    child: Service | None
    """The ModelService with the name of the Trial's own server. None: there is none."""
    new_token: str
    """The token that the operator would issue; empty if it issues none."""
    now: datetime
    """The time of day, for people."""
    left: timedelta | None = None
    """The time until it is over, by our clock. None: it is not open."""
    waited: timedelta = timedelta()
    """The time since it was created."""
    starting_for: timedelta = timedelta()
    """The time since it was accepted."""
    over_for: timedelta = timedelta()
    """The time since it ended."""

    @property
    def is_decided(self) -> bool:
        """Whether it was accepted or refused."""
        return self.told.accepted_at is not None or self.is_over

    @property
    def is_over(self) -> bool:
        """Whether it has ended: it was refused, expired or was stopped."""
        return self.told.phase in ENDED

    @property
    def duration(self) -> str:
        """How long it is open: as decided, else as spec asks."""
        return self.told.duration or self.spec.lasting(self.tenant.trials_longest)

    @property
    def service(self) -> Service | None:
        """The ModelService that the token gives access to."""
        return self.child if self.spec.is_dedicated else self.named

    @property
    def own_token(self) -> bool:
        """Whether the operator issues the token."""
        return self.spec.token_sha256 is None

    @property
    def model(self) -> str:
        """The model that is tried, for messages."""
        if self.spec.model_service_ref is not None:
            return self.spec.model_service_ref.name
        assert self.spec.registry is not None
        chosen = self.spec.registry
        return f"{chosen.model}@{chosen.alias}" if chosen.alias is not None else f"{chosen.model}/{chosen.version}"


def is_longer(one: str, other: str) -> bool:
    """Whether one duration is longer than another."""
    return durations.parse(one) > durations.parse(other)
