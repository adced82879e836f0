"""The installation's options for OSCAR. Read by the engine, its descriptor and `pelagos doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pelagos.api.service_logins import may_log_in
from pelagos.engines.oscar.rest import SYSTEM, Access, secret
from pelagos.engines.oscar.tokens import Provider
from pelagos.ports.errors import RejectedError

if TYPE_CHECKING:
    from pelagos.settings import Settings


@dataclass(frozen=True)
class Options:
    """Options that all services of an installation share; files hold secrets and are read at each use."""

    image: str
    vo: str = ""
    login: str = "basic"
    pull_secrets: tuple[str, ...] = ()
    s3_endpoint: str = ""
    s3_region: str = ""
    s3_ca_file: Path | None = None
    access_key_file: Path | None = None
    secret_key_file: Path | None = None
    invocations_url: str = ""
    """Prefix of the addresses of images and results of asynchronous invocations; empty: there are no invocations."""
    ceilings: tuple[tuple[str, str], ...] = ()
    """Environment variables with the limits for images in requests."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Options:
        """The options in ``settings``."""
        return cls(
            image=settings.serving_image,
            vo=settings.oscar_vo,
            login=settings.oscar_endpoint_login,
            pull_secrets=tuple(filter(None, settings.oscar_pull_secrets.split(","))),
            s3_endpoint=settings.s3_endpoint,
            s3_region=settings.s3_region,
            s3_ca_file=settings.s3_ca_file,
            access_key_file=settings.oscar_storage_access_key_file,
            secret_key_file=settings.oscar_storage_secret_key_file,
            invocations_url=invocations_url(settings),
            ceilings=tuple(item for item in settings.ceilings().items() if item[0].startswith("PELAGOS_MAX_IMAGE_")),
        )

    def authorities(self) -> str:
        """The storage's certificate authorities for servers, in PEM; "" for those of their system. Raises RejectedError."""
        if self.s3_ca_file is None:
            return ""
        try:
            return self.s3_ca_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            message = (
                f"the certificate authority {self.s3_ca_file} cannot be read: {reason}; correct PELAGOS_S3_CA_FILE"
            )
            raise RejectedError(SYSTEM, message) from error

    def keys(self) -> dict[str, str]:
        """The storage keys with which servers fetch packages; empty when no login is needed. Raises RejectedError."""
        if self.access_key_file is None or self.secret_key_file is None:
            return {}
        return {
            "AWS_ACCESS_KEY_ID": secret(self.access_key_file, "PELAGOS_OSCAR_STORAGE_ACCESS_KEY_FILE"),
            "AWS_SECRET_ACCESS_KEY": secret(self.secret_key_file, "PELAGOS_OSCAR_STORAGE_SECRET_KEY_FILE"),
        }


def access(settings: Settings) -> Access:
    """OSCAR's address and our login for it."""
    refresh = settings.oscar_refresh_token_file
    asks = refresh is not None and settings.oscar_token_file is None
    return Access(
        url=settings.oscar_url.rstrip("/"),
        username_file=settings.oscar_username_file,
        password_file=settings.oscar_password_file,
        token_file=settings.oscar_token_file,
        ca_file=settings.oscar_ca_file,
        provider=Provider(settings.oscar_token_url, settings.oscar_client_id, refresh, settings.oscar_scopes)
        if asks and refresh is not None
        else None,
    )


def invocations_url(settings: Settings) -> str:
    """The address of the bucket for asynchronous invocations; "" when there is none."""
    if not settings.oscar_bucket:
        return ""
    return f"{settings.oscar_storage_url.rstrip('/')}/{settings.oscar_bucket}/"


def contradiction(settings: Settings) -> str | None:
    """A message about the first setting that the engine cannot work with, and what to change; None when all fit."""
    engine = "PELAGOS_SERVING_ENGINE is oscar"
    parts = urlsplit(settings.oscar_url)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        return f"{engine}: PELAGOS_OSCAR_URL must be the address of the cluster, for example https://oscar.example"
    if not may_log_in(settings.oscar_url):
        return f"{engine}: PELAGOS_OSCAR_URL is {settings.oscar_url}, where a login could be read in transit; use https"
    has_token = settings.oscar_token_file is not None or settings.oscar_refresh_token_file is not None
    if not has_token and (settings.oscar_username_file is None or settings.oscar_password_file is None):
        return (
            f"{engine}: it needs a login, PELAGOS_OSCAR_TOKEN_FILE, PELAGOS_OSCAR_REFRESH_TOKEN_FILE, or "
            "PELAGOS_OSCAR_USERNAME_FILE and PELAGOS_OSCAR_PASSWORD_FILE"
        )
    if settings.oscar_refresh_token_file is not None and not may_log_in(settings.oscar_token_url):
        return f"{engine}: PELAGOS_OSCAR_TOKEN_URL is {settings.oscar_token_url}; use https"
    if not settings.objects_uri.startswith("s3://"):
        return f"{engine}: model servers fetch packages from object storage, so PELAGOS_OBJECTS_URI must be s3://bucket/prefix"
    if settings.oscar_bucket and not may_log_in(settings.oscar_storage_url):
        return (
            f"{engine}: with PELAGOS_OSCAR_BUCKET, PELAGOS_OSCAR_STORAGE_URL must be the https address of the cluster's MinIO, "
            "for example https://minio.oscar.example"
        )
    if (settings.oscar_storage_access_key_file is None) != (settings.oscar_storage_secret_key_file is None):
        return (
            f"{engine}: PELAGOS_OSCAR_STORAGE_ACCESS_KEY_FILE and PELAGOS_OSCAR_STORAGE_SECRET_KEY_FILE belong together; "
            "set both, or none"
        )
    return None
