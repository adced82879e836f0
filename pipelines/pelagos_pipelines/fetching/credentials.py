"""What logs in to a server: it goes to the origin that it is meant for, and shows in no message, log or result."""

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
    """Headers and parts of the query that log in. Made by the functions below."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def bearer(cls, token: str) -> Credentials:
        """``Authorization: Bearer ...``."""
        return cls.scheme("Bearer", token)

    @classmethod
    def scheme(cls, name: str, value: str) -> Credentials:
        """``Authorization: <name> <value>``, as servers with a word of their own want it."""
        return cls.header("Authorization", f"{name} {_line(value)}")

    @classmethod
    def basic(cls, user: str, password: str) -> Credentials:
        """User and password."""
        if ":" in user:
            raise ValueError("a user's name must not hold a colon")
        return cls.header("Authorization", f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}")

    @classmethod
    def header(cls, name: str, value: str) -> Credentials:
        """A header of the server's own. ValueError for a value that no header can have."""
        return cls(headers={name: _line(value)})

    @classmethod
    def parameter(cls, name: str, value: str) -> Credentials:
        """A part of the query."""
        return cls(query={name: _line(value)})


NO_CREDENTIALS = Credentials()


def shown_url(url: str) -> str:
    """An address for people: without a login, and without what stands in its query, where keys often are."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        told = urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))
    except ValueError:
        told = "an address that cannot be read"
    told = shown(told)
    return told if len(told) <= _LONGEST_SHOWN else f"{told[:_LONGEST_SHOWN]}..."


def _line(value: str) -> str:
    """Files of Secrets often end with a line feed; within a header it would begin another one."""
    value = value.strip()
    if _FIELD.fullmatch(value) is None:
        raise ValueError("a credential is empty, or holds characters that no header can")
    return value
