"""What both planes know of S3-compatible storage: its uris, how to connect to it over obstore, and what its failures mean.

The operator asks it in coroutines (``engines.s3``), steps in threads (``storage``); each words failures for those who read them.
Vendors' messages are long and quote what they were sent, so that nothing of them but a status and a code is passed on.
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
"""Keys of one answer to a listing, and of one request to delete: what S3 allows."""
NATIVE_CREDENTIALS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables of a platform that hands out credentials itself; obstore knows them."""
_NOT_NOW = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ExpiredToken"})
"""Refusals that pass by themselves, or once credentials that are rotated have arrived."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds, and tries, before a request is given up: for its body (``timeout``) in pieces, and for all its tries."""

    timeout: float
    connect: float
    read: float | None
    retries: int
    retry_timeout: float
    first_pause: float
    longest_pause: float


class Failing(Enum):
    """How a request failed, by what helps."""

    NO_BUCKET = "there is no such bucket"
    NOT_NOW = "it passes by itself"
    DENIED = "credentials, or what they allow"
    NO_CONDITIONS = "the service has no conditional writes"
    MISUNDERSTOOD = "endpoint or region"
    UNREACHED = "the network, or its certificate"


@dataclass(frozen=True)
class Failure:
    """A failure without what was sent: ``said`` is status and code of the answer, or what went wrong on the way."""

    kind: Failing
    said: str


def parse(uri: str) -> tuple[str, str] | None:
    """Bucket and prefix of ``s3://bucket/prefix``; None when it is not one."""
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*?))?/?", uri)
    prefix = (found.group(2) or "") if found else ""
    if found is None or (prefix and any(part in ("", ".", "..") for part in prefix.split("/"))):
        return None
    return found.group(1), prefix


def platform_has_credentials() -> bool:
    """Whether the platform hands them out. Where nobody does, obstore would wait for the metadata service of a cloud."""
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
    """A client of a bucket and prefix; no request is made.

    Args:
        place: see parse.
        endpoint: of the service; "" is AWS.
        region: of the bucket.
        timeouts: with a service that is slow or away.
        credentials: by the names of obstore's options; none: those of the environment.
        authority: PEM certificates that the service's is signed with.
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
    """Whether obstore's FileNotFoundError is about the bucket: that is no absent object."""
    return "NoSuchBucket" in str(error)


def failure(error: Exception, *, authority: str) -> Failure:
    """What obstore's error means; ``authority`` is the setting that names the service's certificate authority."""
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
    """The words for an object whose name is no path."""
    name = _find(r'Path "([^"]{1,200})', str(error))
    named = f" {name!r}" if name else ""
    return f"the object{named} has a name that is no path (an empty part, '..' or a control character); rename or remove it"


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found.group(1) if found else ""


def _network(text: str, authority: str) -> str:
    """What went wrong on the way, without what was sent."""
    if "timed out" in text or "Timeout" in text:
        return "no answer in time"
    if "certificate" in text.lower():
        return f"its TLS certificate is not trusted; name its certificate authority in {authority}"
    if "kind: Connect" in text:
        return "no connection"
    return "the connection broke"
