"""Credentials for servers. They are sent only to the origin that they are for, and appear in no message, log or result."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from pelagos_contract.text import shown

_LONGEST_SHOWN = 300
_FIELD = re.compile(r"[!-~]+( [!-~]+)*")


@dataclass(frozen=True)
class Credentials:
    """Headers and query parameters that authenticate a request. Created by the methods below."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def bearer(cls, token: str) -> Credentials:
        """``Authorization: Bearer ...``."""
        return cls.scheme("Bearer", token)

    @classmethod
    def scheme(cls, name: str, value: str) -> Credentials:
        """``Authorization: <name> <value>``, for servers with their own scheme."""
        return cls.header("Authorization", f"{name} {_line(value)}")

    @classmethod
    def basic(cls, user: str, password: str) -> Credentials:
        """HTTP basic authentication. Raises ValueError for a user name with a colon."""
        if ":" in user:
            raise ValueError("a user's name must not hold a colon")
        return cls.header("Authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")

    @classmethod
    def header(cls, name: str, value: str) -> Credentials:
        """Any header. Raises ValueError for a value that no header can have."""
        return cls(headers={name: _line(value)})

    @classmethod
    def parameter(cls, name: str, value: str) -> Credentials:
        """A parameter of the query. Raises ValueError as `header` does."""
        return cls(query={name: _line(value)})


NO_CREDENTIALS = Credentials()


def shown_url(url: str) -> str:
    """An address that is safe to show: without a login, and without its query, which often contains keys."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        told = urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))
    except ValueError:
        told = "an address that cannot be read"
    told = shown(told)
    return told if len(told) <= _LONGEST_SHOWN else f"{told[:_LONGEST_SHOWN]}..."


def _line(value: str) -> str:
    """The value without surrounding whitespace: Secrets often end with a line feed, which would begin another header."""
    value = value.strip()
    if _FIELD.fullmatch(value) is None:
        raise ValueError("a credential is empty, or holds characters that no header can")
    return value
