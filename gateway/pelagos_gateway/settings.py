"""Settings of the gateway, read from the environment (prefix PELAGOS_GATEWAY_). Written by the embedded mode or a Deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Everything that differs between installations."""

    model_config = SettingsConfigDict(env_prefix="PELAGOS_GATEWAY_", extra="ignore")

    kubeconfig: Path | None = Field(None, validation_alias="PELAGOS_KUBECONFIG")
    """How to reach the API server; None: the service account of the pod."""
    folder: Path = Path("/run/pelagos/envoy")
    """Where Envoy reads what it is told: bootstrap.json, listeners.json, clusters.json."""
    sockets: Path = Path("/run/pelagos/sockets")
    """Folder of Unix sockets between Envoy and this program; its path must be short."""
    envoy: Path | None = None
    """The program of Envoy, which this one then starts and ends; None: somebody else does."""
    address: str = "127.0.0.1"
    """Where Envoy listens for clients."""
    http_port: int = Field(8000, ge=1, le=65535)
    """Port for HTTP."""
    grpc_port: int = Field(8001, ge=1, le=65535)
    """Port for gRPC."""
    metrics_address: str = "127.0.0.1"
    """Where this program listens for /metrics, /healthz and /readyz."""
    metrics_port: int = Field(8002, ge=0, le=65535)
    """Its port."""
    hosts: str = Field("", pattern=r"^[A-Za-z0-9.,:\[\]-]*$")
    """Names, separated by commas, that clients may ask for beside those of loopback; empty, where it listens elsewhere: any."""

    namespace: str = ""
    """Follow this namespace alone; empty: all."""
    operator_namespace: str = ""
    """Where the ConfigMaps pelagos-tenant-<namespace> are, which say who may call; empty: nowhere, and `access` holds for all."""
    open: bool = False
    """Whether callers without any credentials may call all services; only where Envoy listens on loopback."""
    access: Literal["Nobody", "Authenticated", "Entitled"] = "Nobody"
    """Who may call services of a namespace whose tenant settings say nothing (gatewayAccess), beside whoever has a trial."""
    entitlements: str = ""
    """For `Entitled`: one of these is needed, separated by commas or spaces (gatewayEntitlements)."""
    requests_per_minute: int = Field(600, ge=1, le=1_000_000)
    """Most requests of one caller."""
    at_once: int = Field(8, ge=1, le=10_000)
    """Most requests of one caller that are in progress."""
    uploads_at_once: int = Field(3, ge=1, le=1000)
    """Most requests of one caller that are in progress with more than a mebibyte, or of a length that is not said, over HTTP."""
    json_mebibytes: int = Field(24, ge=1, le=64)
    """Most MiB of a request in JSON alone, with its images in base64."""
    upload_seconds: int = Field(120, ge=1, le=3600)
    """Time within which a whole request must arrive; for a stream, each of its messages has `streaming.IDLE_SECONDS`."""

    services_ca_file: Path = Path("/etc/ssl/certs/ca-certificates.crt")
    """Certificate authorities of services whose address is https, where this program and Envoy see them."""

    oidc_issuer: str = Field("", pattern=r"^(https?://[^\s?#]+)?$")
    """Whose tokens are good beside those of trials, for example https://aai.egi.eu/auth/realms/egi; empty: nobody's."""
    oidc_audience: str = ""
    """For whom a token must be made (claim aud), separated by commas. Needed with an issuer."""
    oidc_entitlements: str = "eduperson_entitlement,entitlements"
    """Claims with what a caller is entitled to, separated by commas; a dot leads into an object (realm_access.roles)."""
    oidc_opaque: bool = False
    """Whether tokens that are no JWT are asked about at UserInfo. They do not say for whom they are made: any other client of the
    issuer could pass on those of its users."""
    oidc_ca_file: Path | None = None
    """Certificate authorities of the issuer; None: the system's."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.open and self.address not in LOOPBACK:
            raise ValueError(
                f"PELAGOS_GATEWAY_OPEN is true and PELAGOS_GATEWAY_ADDRESS is {self.address!r}: callers without credentials are "
                "only admitted on loopback. Listen on 127.0.0.1, or leave it out"
            )
        if self.oidc_issuer and not self.audiences:
            raise ValueError(
                "PELAGOS_GATEWAY_OIDC_AUDIENCE is empty: with PELAGOS_GATEWAY_OIDC_ISSUER, state the audience of tokens, as the "
                "issuer writes it into the claim aud"
            )
        return self

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences in `oidc_audience`."""
        return _listed(self.oidc_audience)

    @property
    def entitlement_claims(self) -> tuple[str, ...]:
        """The names of claims in `oidc_entitlements`."""
        return _listed(self.oidc_entitlements)

    @property
    def entitled(self) -> tuple[str, ...]:
        """The entitlements in `entitlements`, one of which is required."""
        return _listed(self.entitlements)

    @property
    def own_grpc(self) -> str:
        """``host:port`` at which this program, like any client, reaches Envoy by gRPC."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address, self.address)  # noqa: S104 - compared, not listened on
        return f"[{host}]:{self.grpc_port}" if ":" in host else f"{host}:{self.grpc_port}"

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Host names that Envoy accepts from clients; empty: any."""
        given = _listed(self.hosts)
        return ("127.0.0.1", "localhost", "[::1]", *given) if given or self.address in LOOPBACK else ()


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.replace(",", " ").split() if part)
