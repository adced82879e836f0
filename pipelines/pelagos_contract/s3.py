"""S3-compatible storage for both planes: its URIs, connections with obstore, and the meaning of failures.

The operator uses it in coroutines (``engines.s3``), steps in threads (``storage``); each words failures for its own readers.
Only status and code of a vendor's error are passed on, since the messages are long and quote the request.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config, S3Store

SCHEME = "s3://"
PAGE = 1000
"""Keys per page of a listing and per delete request: S3's limit."""
NATIVE_CREDENTIALS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Environment variables of platforms that provide credentials themselves, which obstore supports."""
_NOT_NOW = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ExpiredToken"})
"""Error codes of temporary refusals, which end by themselves or once rotated credentials have arrived."""


@dataclass(frozen=True)
class Timeouts:
    """Timeouts in seconds and the number of retries, after which a request fails; ``retry_timeout`` bounds all tries together."""

    timeout: float
    connect: float
    read: float | None
    retries: int
    retry_timeout: float
    first_pause: float
    longest_pause: float


class Failing(Enum):
    """Kinds of failures, by what helps."""

    NO_BUCKET = "there is no such bucket"
    NOT_NOW = "it ends by itself"
    DENIED = "credentials, or what they allow"
    NO_CONDITIONS = "the service has no conditional writes"
    MISUNDERSTOOD = "endpoint or region"
    UNREACHED = "the network, or its certificate"


@dataclass(frozen=True)
class Failure:
    """A failure without quotes of the request: ``said`` is status and code of the response, or the network error."""

    kind: Failing
    said: str


def parse(uri: str) -> tuple[str, str] | None:
    """Bucket and prefix of ``s3://bucket/prefix``; None for an invalid URI."""
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", uri)
    prefix = (found.group(2) or "") if found else ""
    if found is None or (prefix and any(part in ("", ".", "..") for part in prefix.split("/"))):
        return None
    return found.group(1), prefix


def platform_has_credentials() -> bool:
    """Whether the platform provides credentials. Without any, obstore would wait for a cloud's metadata service."""
    return any(map(os.environ.get, NATIVE_CREDENTIALS))


def connect(
    place: tuple[str, str],
    endpoint: str,
    region: str,
    timeouts: Timeouts,
    *,
    credentials: Mapping[str, str] | None = None,
    authority: bytes = b"",
) -> S3Store:
    """Create a client for a bucket and prefix, without making a request.

    Args:
        place: Bucket and prefix, see parse.
        endpoint: URL of the service; empty for AWS.
        region: Region of the bucket.
        timeouts: Limits for a slow or unreachable service.
        credentials: By the names of obstore's options; None: those of the environment.
        authority: PEM certificates of the authority that signed the service's certificate.
    """
    from obstore.store import S3Store

    config: S3Config = {"region": region, **(credentials or {})}  # type: ignore[typeddict-item]
    if endpoint:
        config["endpoint"] = endpoint
    client: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "timeout": timedelta(seconds=timeouts.timeout),
        "connect_timeout": timedelta(seconds=timeouts.connect),
    }
    if timeouts.read is not None:
        client["read_timeout"] = timedelta(seconds=timeouts.read)
    if authority:
        client["root_certificate"] = authority
    return S3Store(
        place[0],
        prefix=place[1] or None,
        config=config,
        client_options=client,
        retry_config={
            "max_retries": timeouts.retries,
            "retry_timeout": timedelta(seconds=timeouts.retry_timeout),
            "backoff": {
                "init_backoff": timedelta(seconds=timeouts.first_pause),
                "max_backoff": timedelta(seconds=timeouts.longest_pause),
            },
        },
    )


def is_bucket_missing(error: Exception) -> bool:
    """Whether obstore's FileNotFoundError is about the bucket and not about an object."""
    return "NoSuchBucket" in str(error)


def failure(error: Exception, *, authority: str) -> Failure:
    """Classify an error of obstore; ``authority`` is the setting that names the service's certificate authority."""
    text = str(error)
    status, code = _find(r"status code: (\d{3})", text), _find(r"<Code>(\w{1,60})</Code>", text)
    said = " ".join(part for part in (f"HTTP {status}" if status else "", code) if part)
    if code == "NoSuchBucket" or (status == "404" and not code):
        return Failure(Failing.NO_BUCKET, said)
    if code in _NOT_NOW:
        return Failure(Failing.NOT_NOW, said)
    kinds = {"401": Failing.DENIED, "403": Failing.DENIED, "501": Failing.NO_CONDITIONS}
    kinds |= dict.fromkeys(("301", "307", "400"), Failing.MISUNDERSTOOD)
    return Failure(kinds.get(status, Failing.UNREACHED), said or _network(text, authority))


def odd_name(error: Exception) -> str:
    """The message for an object whose name is not a valid path."""
    name = _find(r'Path "([^"]{1,200})', str(error))
    named = f" {name!r}" if name else ""
    return f"the object{named} has a name that is not a path (an empty part, '..' or a control character); rename or remove it"


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _network(text: str, authority: str) -> str:
    """The message for a network error, without quotes of the request."""
    if "timed out" in text or "Timeout" in text:
        return "no answer in time"
    if "certificate" in text.lower():
        return f"its TLS certificate is not trusted; name its certificate authority in {authority}"
    if "kind: Connect" in text:
        return "no connection"
    return "the connection broke"
