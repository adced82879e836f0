"""Decides which addresses may be contacted: the platform's setting is checked for every url before its server gets a byte.

A name is resolved once, all of its addresses are checked, and the connection is made to one of these. So a name that resolves to
another address a moment later has no effect.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pelagos_contract import source_hosts
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.source_hosts import Address, Allowed
from pelagos_pipelines.fetching.credentials import shown_url
from pelagos_pipelines.fetching.patience import FetchError

LONGEST_URL = 8192
_HERE = f"the variable {source_hosts.VARIABLE} of `pelagos up`"
_PLAIN = re.compile(r"[!-~]+")
_ESCAPED = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MOST_ADDRESSES = 20

Resolver = Callable[[str, int], list[Address]]


@dataclass(frozen=True)
class Target:
    """A parsed url, checked except for its addresses. ``host`` is in lower case, or an address in its usual form."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    """The path with the query."""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: credentials may be sent only to the same origin."""
        return self.scheme, self.host, self.port


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(address[4][0]).partition("%")[0]) for address in found]


class Policy:
    """The platform's setting ``value``, found in ``where``, by which addresses are allowed."""

    def __init__(self, value: str = "", where: str = _HERE, resolver: Resolver = resolve) -> None:
        """Parse the setting. Raises RefusedError if any part of it is invalid, so that no partial setting is applied."""
        self._value, self._where, self._resolver = value.strip(" ,"), where, resolver
        try:
            self._allowed: Allowed = source_hosts.parse(value)
        except ValueError as error:
            raise RefusedError(
                Reason.SOURCE_NOT_ALLOWED, f"{source_hosts.KEY} in {where} cannot be used: {error}"
            ) from None

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Policy:
        """The policy from a step's environment variables."""
        given = os.environ if variables is None else variables
        return cls(given.get(source_hosts.VARIABLE, ""), given.get(source_hosts.OF) or _HERE)

    def target(self, url: str, field: str) -> Target:
        """Parse and check a url. Raises RefusedError: SOURCE_NOT_ALLOWED, with what to change."""
        try:
            target = _parsed(url)
        except ValueError as error:
            raise _refused(f"{shown_url(url)} is not asked: {error}", field) from None
        if target.scheme == "http" and not self._allowed.host("http", target.host, target.port):
            raise _refused(
                f"{shown_url(url)} is not asked: http sends everything in the clear, and the platform has not allowed it for"
                f" this host. Use https, or have {self._line(target)}",
                field,
            )
        return target

    def addresses(self, target: Target, field: str) -> list[Address]:
        """The host's present addresses, all of which are allowed.

        Raises:
            RefusedError: SOURCE_NOT_ALLOWED for any other address, with what to change.
            FetchError: the name does not resolve now.
        """
        address = source_hosts.literal(target.host)
        try:
            found = [address] if address is not None else self._resolver(target.host, target.port)[:_MOST_ADDRESSES]
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise FetchError(
                f"the name {target.host} has no address ({why}); correct {field}, or the network's DNS"
            ) from None
        if not found:
            raise FetchError(f"the name {target.host} has no address; correct {field}, or the network's DNS")
        named = self._allowed.host(target.scheme, target.host, target.port)
        for each in found:
            self._require(each, target, field, named=named)
        return found

    def _require(self, address: Address, target: Target, field: str, *, named: bool) -> None:
        kind = source_hosts.obstacle(address)
        if kind is None or ((named or self._allowed.address(address)) and not source_hosts.is_never_allowed(address)):
            return
        is_name = source_hosts.literal(target.host) is None
        at = f"is at the {kind} address {address}" if is_name else f"is a {kind} address"
        told = f"{shown_url(target.url)} is not asked: {target.host} {at}"
        if source_hosts.is_never_allowed(address):
            raise _refused(f"{told}, which no setting allows; name another host", field)
        raise _refused(f"{told}, which the platform has not allowed. Have {self._line(target)}", field)

    def _line(self, target: Target) -> str:
        """The exact line of the setting that would allow the target."""
        entry = source_hosts.entry(target.scheme, target.host, target.port)
        value = f"{self._value}, {entry}" if self._value else entry
        line = f"{source_hosts.VARIABLE}={value!r}" if self._where == _HERE else f'{source_hosts.KEY}: "{value}"'
        return f"whoever runs it set in {self._where}: {line}"


def _parsed(url: str) -> Target:
    """Parse a url. Raises ValueError for one that another program could parse differently."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"it has {len(url)} characters, allowed are {LONGEST_URL}")
    if _PLAIN.fullmatch(url) is None or "\\" in url or _ESCAPED.search(url):
        raise ValueError("it holds spaces, a backslash, or characters that must be written as %XX")
    parts = urlsplit(url)
    if parts.scheme not in source_hosts.PORTS:
        raise ValueError("only addresses that begin with https:// are")
    if "@" in parts.netloc:
        raise ValueError("it holds a login; put that into a Secret, and name it in secretRef")
    if "%" in parts.netloc:
        raise ValueError("its host is encoded, or has a zone; write the plain name")
    host, number = _host(parts.netloc)
    port = source_hosts.PORTS[parts.scheme] if not number else int(number)
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(url, parts.scheme, host, port, path)


def _host(netloc: str) -> tuple[str, str]:
    """Host and port; the port is "" if there is none. Raises ValueError."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?", netloc)
    if found is None:
        raise ValueError("it names no host and port that can be read")
    host = (found[1] or found[2]).lower().removesuffix(".")
    try:
        address = source_hosts.literal(host)
    except ValueError:
        raise ValueError(f"its host {host} is an address that is not written in the usual form, as 192.0.2.7") from None
    if address is None and (len(host) > 253 or re.fullmatch(source_hosts.HOST, host) is None):
        raise ValueError(f"its host {host} is no name")
    return (str(address) if address is not None else host), found[3] or ""


def _refused(message: str, field: str) -> RefusedError:
    return RefusedError(Reason.SOURCE_NOT_ALLOWED, message, field)
