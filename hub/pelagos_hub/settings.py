"""Typed settings of the hub, read from the environment (prefix PELAGOS_HUB_). Written by the embedded mode or a Deployment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_MOST_ATTESTED, _LONGEST_ATTESTED = 16, 512
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class SettingsError(ValueError):
    """The settings contradict each other; the words name them."""


class Settings(BaseSettings):
    """Everything that differs between installations."""

    model_config = SettingsConfigDict(env_prefix="PELAGOS_HUB_", extra="ignore", populate_by_name=True)

    url: str = "http://127.0.0.1:8088"
    """Where people's browsers reach the hub: scheme, name and port, without a path. Nothing else is answered, and with https
    cookies are sent by https only."""
    listen_address: str = "127.0.0.1"
    """Address that the hub listens on."""
    port: int = Field(8088, ge=0, le=65535)
    """Port of the pages."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /metrics, /healthz and /readyz, which are not for everybody; 0: any free one."""
    kubeconfig: Path | None = Field(None, validation_alias="PELAGOS_KUBECONFIG")
    """How to reach the API server; None: the service account of the pod."""
    namespace: str = ""
    """Show this namespace only; empty: all."""
    title: str = Field("Pelagos", min_length=1, max_length=60)
    """Name of this installation, on every page."""

    oidc_issuer: str = ""
    """Issuer of the OpenID provider, for example https://aai.egi.eu/auth/realms/egi; empty: nobody logs in by one."""
    oidc_client_id: str = ""
    """What the hub is registered as there."""
    oidc_client_secret_file: Path | None = None
    """Its secret; None for a public client, which PKCE alone protects."""
    oidc_scopes: str = "openid profile voperson_id eduperson_entitlement"
    """Scopes that are asked for, separated by blanks. ``email`` is not among them: the hub has no use for it."""
    oidc_user_claim: str = "voperson_id"
    """Claim that names a person for good; ``sub`` where the provider sends none of this name."""
    oidc_entitlements_claim: str = "eduperson_entitlement"
    """Claim with entitlements or roles; dots lead into it, as in realm_access.roles."""
    oidc_name: str = Field("your institution", max_length=60)
    """What the button to log in calls the provider."""

    namespace_entitlement: str = ""
    """Entitlement that admits to what a namespace publishes for itself, with {namespace} in it, for example
    urn:mace:egi.eu:group:{namespace}:role=member#aai.egi.eu; empty: whoever has signed in is admitted."""
    objects_root: Path | None = Field(None, validation_alias="PELAGOS_OBJECTS_ROOT")
    """Folder with packages and their documents, to be read only; None: documents are offered from object storage, or not."""
    objects_uri: str = Field("", pattern=r"^(s3://.+)?$", validation_alias="PELAGOS_OBJECTS_URI")
    """Object storage with them, as s3://bucket/prefix, in place of the folder. Credentials are those of AWS_ACCESS_KEY_ID and
    AWS_SECRET_ACCESS_KEY; they need read objects only."""
    s3_endpoint: str = Field("", validation_alias="PELAGOS_S3_ENDPOINT")
    """Address of an S3-compatible service; empty: AWS_ENDPOINT_URL, or AWS itself."""
    s3_region: str = Field("us-east-1", validation_alias="PELAGOS_S3_REGION")
    """Region of the buckets."""
    s3_ca_file: Path | None = Field(None, validation_alias="PELAGOS_S3_CA_FILE")
    """Certificates of the authority that the service is trusted by; None: those of the system."""
    operator_metrics: str = Field("", pattern=r"^(https?://[!-~]+)?$")
    """Address of the operator's metrics, which tell when a model was last asked; empty: pages do not say that."""
    attested_entitlements: str = Field("", pattern=r"^[!-~ ]*$")
    """Entitlements, separated by blanks, 16 at most, that the hub attests in Trials of those who have them; nothing else about
    anybody's memberships is written to the cluster."""
    login_link_file: Path | None = None
    """Where a link that logs in once is written, for its owner only (embedded mode); None: there is none."""
    signing_key_file: Path | None = None
    """Key with which the hub signs the Trials that it makes; None: they count as handwritten ones."""

    trial_duration: str = Field("", pattern=r"^(([1-9]|[1-5][0-9]|60)m)?$")
    """For how long a trial is asked for; empty: 10 minutes, or what the tenant is allowed where that is less."""
    gateway_url: str = ""
    """How the hub itself reaches the gateway, with {namespace} where there is one in each, for example
    http://pelagos-gateway.{namespace}.svc:8080; empty: by the address that Trials tell people."""
    gateway_ca_file: Path | None = None
    """Certificate authority of it; None: the system's."""
    session_hours: int = Field(8, ge=1, le=72)
    """After which everybody logs in again."""
    sessions: int = Field(10_000, ge=10, le=1_000_000)
    """Most people that are logged in at once; the one who was idle the longest goes first."""
    uploads: int = Field(4, ge=1, le=64)
    """Most images, of up to 64 MiB each, that are in the hub's memory at once."""

    @field_validator("url", "oidc_issuer", "gateway_url")
    @classmethod
    def _is_address(cls, told: str) -> str:
        parts = urlsplit(told)
        if told and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
            raise ValueError(f"{told!r} is not an address; use one like https://models.example.org")
        return told

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        parts = urlsplit(self.url)
        if parts.path not in {"", "/"} or parts.username:
            raise SettingsError(f"PELAGOS_HUB_URL is {self.url!r}; allowed: scheme, name and port, without a path")
        if bool(self.oidc_issuer) != bool(self.oidc_client_id):
            raise SettingsError(
                "PELAGOS_HUB_OIDC_ISSUER and PELAGOS_HUB_OIDC_CLIENT_ID go together; one of them is empty"
            )
        if len(self.attested) > _MOST_ATTESTED or any(len(each) > _LONGEST_ATTESTED for each in self.attested):
            raise SettingsError(
                f"PELAGOS_HUB_ATTESTED_ENTITLEMENTS has {len(self.attested)} entitlements; allowed: {_MOST_ATTESTED}, of "
                f"{_LONGEST_ATTESTED} characters each, as in a Trial"
            )
        if self.oidc_issuer.startswith("http:") and urlsplit(self.oidc_issuer).hostname not in _LOOPBACK:
            raise SettingsError(
                f"PELAGOS_HUB_OIDC_ISSUER is {self.oidc_issuer!r}; without https it must be on this machine"
            )
        return self

    @property
    def origin(self) -> str:
        """Scheme, name and port as browsers write them in the header Origin."""
        parts = urlsplit(self.url)
        default = {"http": 80, "https": 443}[parts.scheme]
        name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        return f"{parts.scheme}://{name}" + (f":{parts.port}" if parts.port not in {None, default} else "")

    @property
    def https(self) -> bool:
        """Whether browsers reach the hub by https."""
        return self.url.startswith("https:")

    @property
    def attested(self) -> tuple[str, ...]:
        """The entitlements in `attested_entitlements`."""
        return tuple(self.attested_entitlements.split())
