"""Logins for model servers that require one, in a Secret of each namespace. The operator writes it, and the gateway reads it.

Each value also says to which address its login may be sent, because a status alone must not decide where a secret goes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SECRET = "pelagos-service-logins"  # noqa: S105  a name
"""Name of the Secret. The gateway's role allows it to read this one and no other."""
_LONGEST = 4096
_PATH = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_AUTHORIZATION = re.compile(r"(Basic|Bearer) [A-Za-z0-9._~+/=-]+")


@dataclass(frozen=True)
class ServiceLogin:
    """The address of a model server, and the value of the header Authorization that it requires."""

    url: str
    authorization: str = field(repr=False)

    @property
    def path(self) -> str:
        """The prefix of its paths; empty when they begin at the root."""
        return urlsplit(self.url).path


def key(service: str) -> str:
    """The key of a ModelService. Never ``token`` or ``password``: Datasets can have those sent elsewhere."""
    return f"{service}.login"


def written(login: ServiceLogin) -> str:
    """The value of a key of the Secret."""
    return json.dumps({"url": login.url, "authorization": login.authorization})


def read(text: str) -> ServiceLogin | None:
    """The login in a value; None if it is invalid, or may not be sent to its address."""
    if len(text) > _LONGEST:
        return None
    try:
        found = json.loads(text)
        login = ServiceLogin(str(found["url"]), str(found["authorization"]))
        parts = urlsplit(login.url)
        is_place = bool(parts.hostname) and not (parts.query or parts.fragment or parts.username) and parts.port != 0
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_place or not _PATH.fullmatch(parts.path) or not _AUTHORIZATION.fullmatch(login.authorization):
        return None
    return login if may_log_in(login.url) else None


def may_log_in(url: str) -> bool:
    """Whether a login may be sent to ``url``: over https, to this machine, or within a cluster."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_near = host in {"localhost", "127.0.0.1", "::1"} or host.endswith((".svc", ".svc.cluster.local"))
    return parts.scheme == "https" or (parts.scheme == "http" and is_near)
