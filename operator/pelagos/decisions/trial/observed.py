"""All that decisions about a Trial go by."""

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
    """A ModelService as its status tells."""

    name: str
    is_ready: bool
    is_coming: bool
    """It is not Ready yet, and on its way."""
    is_stalled: bool
    """A person must change something."""
    lacks_room: bool
    """It waits for room on the cluster."""
    message: str
    """Of Ready."""
    onnx_sha256: str | None
    spec: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False
    """Whether it was made for this Trial."""
    is_leaving: bool = False
    """It is being deleted."""


@dataclass(frozen=True)
class Other:
    """Another Trial of the namespace that has a place; ``left`` is until it is over, by our clock, None: it is not open yet."""

    name: str
    user: str | None
    """Whose it is, where the hub attested that."""
    left: timedelta | None


@dataclass(frozen=True)
class Observed:
    """All that is known about a Trial, read once by reconcilers/trials.gather."""

    spec: TrialSpec
    namespace: str
    name: str
    uid: str
    """From the resource's metadata."""
    spec_digest: str
    """Of the spec as it is now."""
    attested: bool
    """Whether it bears the hub's signature."""
    told: TrialStatus
    """From status: what was decided is never decided again, and nobody else knows when it opened."""
    tenant: Tenant
    gateway: Gateway
    """From settings."""
    others: tuple[Other, ...]
    """From the API server, in the turn of this Trial; read while it is not decided on."""
    token_is_of: str
    """The Trial of the namespace that spec.tokenSha256 was first of; empty: it is ours. Likewise."""
    named: Service | None
    """What spec.modelServiceRef names; None: nothing, or there is no such ModelService."""
    child: Service | None
    """What has the name of the server of its own; None: nothing."""
    new_token: str
    """For when the operator makes one; empty: it does not."""
    now: datetime
    """The time of day, for people."""
    left: timedelta | None = None
    """Until it is over, by our clock; None: it is not open."""
    waited: timedelta = timedelta()
    """Since it was made."""
    starting_for: timedelta = timedelta()
    """Since it was accepted."""
    over_for: timedelta = timedelta()
    """Since it was over."""

    @property
    def is_decided(self) -> bool:
        """Whether it was accepted or refused."""
        return self.told.accepted_at is not None or self.is_over

    @property
    def is_over(self) -> bool:
        """Whether nothing can become of it any more."""
        return self.told.phase in ENDED

    @property
    def duration(self) -> str:
        """How long it is open: as was decided."""
        return self.told.duration or self.spec.lasting(self.tenant.trials_longest)

    @property
    def service(self) -> Service | None:
        """What the token opens."""
        return self.child if self.spec.is_dedicated else self.named

    @property
    def own_token(self) -> bool:
        """Whether the operator makes the token."""
        return self.spec.token_sha256 is None

    @property
    def model(self) -> str:
        """What is tried, in words."""
        if self.spec.model_service_ref is not None:
            return self.spec.model_service_ref.name
        assert self.spec.registry is not None
        chosen = self.spec.registry
        return f"{chosen.model}@{chosen.alias}" if chosen.alias is not None else f"{chosen.model}/{chosen.version}"


def is_longer(one: str, other: str) -> bool:
    """Whether one duration is longer than another."""
    return durations.parse(one) > durations.parse(other)
