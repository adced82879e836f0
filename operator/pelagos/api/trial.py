"""Trial: for some minutes, one person may send images to a model. Immutable, and short-lived."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from pelagos.api.meta import BaseStatus, Column, Name, Rule, RuledSpec
from pelagos.api.model_service import RegistryRef
from pelagos_contract import durations
from pelagos_contract.base import Strict

SHORTEST, LONGEST = "1m", "60m"
USUAL_DURATION = "10m"
"""Default duration of a Trial, unless the platform sets a shorter one."""
DURATION = r"^([0-9]{1,4}(s|m|h))+$"
"""Pattern of durations, in units that CEL also knows."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Entitlement = Annotated[str, Field(pattern=r"^[!-~]+$", max_length=512)]
Phase = Literal["Pending", "Starting", "Open", "Expired", "Refused", "Stopped"]
ENDED = frozenset({"Expired", "Refused", "Stopped"})
"""Final phases."""
_LONGEST_NAME = 46
"""Most characters of a Trial's name that are used in names of other objects."""


class ModelServiceRef(Strict):
    """A ModelService in the same namespace."""

    name: Annotated[Name, Field(description="Name of the ModelService.")]


def _is_within_bounds(duration: str | None) -> bool:
    shortest, longest = durations.parse(SHORTEST), durations.parse(LONGEST)
    return duration is None or shortest <= durations.parse(duration) <= longest


class TrialSpec(RuledSpec):
    """Lets one person send images to a model for some minutes, with a token. Immutable: create another one for anything else."""

    # No field has a default in the definition, so that the API server stores exactly what the hub signed.
    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.modelServiceRef) != has(self.registry)",
            message="spec.modelServiceRef and spec.registry: set exactly one of them",
            field="spec.modelServiceRef",
            holds=lambda spec: (spec.model_service_ref is None) != (spec.registry is None),
        ),
        Rule(
            cel="!has(self.registry) || (has(self.registry.alias) != has(self.registry.version))",
            message="spec.registry: set exactly one of alias and version",
            field="spec.registry",
            holds=lambda spec: (
                spec.registry is None or (spec.registry.alias is None) != (spec.registry.version is None)
            ),
        ),
        Rule(
            cel="!has(self.isolation) || self.isolation != 'Shared' || has(self.modelServiceRef)",
            message="spec.isolation: Shared goes with spec.modelServiceRef, which says whose server is shared; a model of the "
            "registry gets a server of its own (Dedicated)",
            field="spec.isolation",
            holds=lambda spec: spec.isolation != "Shared" or spec.model_service_ref is not None,
        ),
        Rule(
            cel=f"!has(self.duration) || (duration(self.duration) >= duration('{SHORTEST}') && "
            f"duration(self.duration) <= duration('{LONGEST}'))",
            message=f"spec.duration must be from {SHORTEST} to {LONGEST}",
            field="spec.duration",
            holds=lambda spec: _is_within_bounds(spec.duration),
        ),
    )

    model_service_ref: Annotated[
        ModelServiceRef | None, Field(description="A ModelService whose model is tried; this or registry.")
    ] = None
    registry: Annotated[
        RegistryRef | None,
        Field(description="A registered model, which gets a server of its own for that time; this or modelServiceRef."),
    ] = None
    user: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._@:+/ ]*[A-Za-z0-9])?$",
            max_length=128,
            description="Who tries it, as a pseudonym, by which the limit per user is counted. Used only if the hub "
            "created the Trial (status.attested); in other Trials it is an unverified claim, and only the "
            "limit of the namespace applies.",
        ),
    ] = None
    display_name: Annotated[
        str | None,
        Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=200, description="The same person's name, for display."),
    ] = None
    duration: Annotated[
        str | None,
        Field(
            pattern=DURATION,
            max_length=16,
            examples=["10m", "1h"],
            description=f"How long it is open, from the moment when it opens: {SHORTEST} to {LONGEST}, and no longer than "
            f"the platform allows (trialsLongest). Default: {USUAL_DURATION}, or what the platform allows if "
            "that is less.",
        ),
    ] = None
    isolation: Annotated[
        Literal["Shared", "Dedicated"] | None,
        Field(
            description="Shared: on the server of modelServiceRef, at once. Dedicated: on a server of its own, which is started "
            "for it and removed after it. Default: Shared with modelServiceRef, Dedicated with registry."
        ),
    ] = None
    token_sha256: Annotated[
        Sha256 | None,
        Field(
            description="SHA-256 of the token that opens it, if the creator of the Trial keeps a token of their own. "
            "Without it the operator creates a token, and a Secret that holds it (status.tokenSecretRef)."
        ),
    ] = None
    entitlements: Annotated[
        list[Entitlement] | None,
        Field(
            max_length=16,
            description="Which of the entitlements that the namespace asks for (trialsEntitlements) the hub attests for "
            "the user. Used only if the hub created the Trial.",
        ),
    ] = None

    @property
    def is_dedicated(self) -> bool:
        """Whether it gets its own server."""
        return self.registry is not None if self.isolation is None else self.isolation == "Dedicated"

    def lasting(self, longest: str) -> str:
        """Its duration. The default is at most ``longest``, the platform's limit; a requested duration may exceed it."""
        return self.duration or min(USUAL_DURATION, longest, key=durations.parse)


class TrialEndpoints(Strict):
    """Addresses at the gateway, which asks for the token."""

    http: Annotated[str | None, Field(description="URL of the KServe v2 HTTP endpoint: `/v2/...` follows.")] = None
    grpc: Annotated[str | None, Field(description="host:port of the KServe v2 gRPC endpoint.")] = None


class TokenSecretRef(Strict):
    """A key of a Secret in the same namespace."""

    name: Annotated[str, Field(description="Name of the Secret.")]
    key: Annotated[str, Field(description="Its key.")]


class TriedService(Strict):
    """The ModelService that the token opens; it opens nothing else."""

    name: Annotated[str, Field(description="Name of the ModelService.")]
    namespace: Annotated[str, Field(description="Its namespace: that of the Trial.")]


class TrialStatus(BaseStatus):
    """Whether it is open, until when, and where."""

    phase: Annotated[
        Phase | None,
        Field(
            description="Pending: not decided yet. Starting: accepted, and its server is being started. Open: the token is "
            "valid until expiresAt. Expired, Refused, Stopped: over for good."
        ),
    ] = None
    model: Annotated[str | None, Field(description="What is tried: a ModelService, or a registered model.")] = None
    url: Annotated[str | None, Field(description="Where images are sent over HTTP, with the token.")] = None
    endpoints: Annotated[TrialEndpoints | None, Field(description="All addresses.")] = None
    token_sha256: Annotated[str | None, Field(description="SHA-256 of the token that opens it.")] = None
    token_secret_ref: Annotated[
        TokenSecretRef | None,
        Field(
            description="Where the token is that the operator created; absent if the creator of the Trial has the token, "
            "and once the Trial is over."
        ),
    ] = None
    attested: Annotated[
        bool | None,
        Field(description="Whether the hub created the Trial: only then spec.user and spec.entitlements are used."),
    ] = None
    duration: Annotated[
        str | None,
        Field(description="How long it is open; the shorter of this and the time left until expiresAt applies."),
    ] = None
    accepted_at: Annotated[
        str | None, Field(description="When it was accepted.", json_schema_extra={"format": "date-time"})
    ] = None
    expires_at: Annotated[
        str | None,
        Field(
            description="Until when it is open: the moment when it opened, plus its duration.",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None
    ended_at: Annotated[
        str | None,
        Field(
            description="When it ended or was refused. The object is deleted some time later (trialsKeep).",
            json_schema_extra={"format": "date-time"},
        ),
    ] = None
    service: Annotated[
        TriedService | None, Field(description="The ModelService that the token opens; it opens nothing else.")
    ] = None
    onnx_sha256: Annotated[str | None, Field(description="Digest of the ONNX graph that answers.")] = None
    spec_digest: Annotated[
        str | None,
        Field(description="Digest of the spec that was accepted or refused: a different one ends the Trial."),
    ] = None


def service_name(name: str) -> str:
    """Name of the ModelService that is created for a Trial with this name; short enough for all names derived from it."""
    if len(name) <= _LONGEST_NAME:
        return f"trial-{name}"
    return f"trial-{name[: _LONGEST_NAME - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def service_of(name: str, spec: Mapping[str, Any]) -> str:
    """Name of the ModelService whose state the Trial ``name`` follows; its spec may be malformed."""
    reference = spec.get("modelServiceRef")
    named = reference.get("name") if isinstance(reference, dict) else None
    return named if isinstance(named, str) and spec.get("isolation") != "Dedicated" else service_name(name)


def token_secret(name: str, token_sha256: str) -> str:
    """Name of the Secret with a token that the operator created. It contains the token's digest, so that no other Secret has it.

    The operator creates and deletes Secrets that it cannot read. Somebody who may only create Trials must not be able to make it
    adopt or delete another Secret by the choice of a Trial's name.
    """
    return f"{name[:_LONGEST_NAME].rstrip('-.')}-token-{token_sha256[:12]}"


COLUMNS = (
    Column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    Column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
    Column("Model", ".status.model"),
    Column("User", ".spec.user"),
    # Not of type date: kubectl shows the age of dates, and this one is in the future.
    Column("Expires", ".status.expiresAt"),
    Column("Person", ".spec.displayName", priority=1),
    Column("URL", ".status.url", priority=1),
    Column("Message", ".status.conditions[?(@.type=='Ready')].message", priority=1),
    Column("Age", ".metadata.creationTimestamp", "date"),
)

FROZEN = (
    "modelServiceRef",
    "registry",
    "user",
    "displayName",
    "duration",
    "isolation",
    "tokenSha256",
    "entitlements",
)
"""Every field of spec, because a Trial is immutable."""
