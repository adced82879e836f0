"""A network backend for httpcore that connects only to addresses that were checked."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpcore
from typing_extensions import override

from pelagos_contract.source_hosts import Address


class JudgedBackend(httpcore.NetworkBackend):
    """Connects to the addresses that ``addresses`` returns for a host and port. Names are resolved nowhere else."""

    def __init__(self, addresses: Callable[[str, int], Iterable[Address]]) -> None:
        """``addresses`` must raise for hosts that may not be contacted."""
        self._addresses = addresses
        self._sockets = httpcore.SyncBackend()

    @override
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that accepts."""
        failed: Exception | None = None
        for address in self._addresses(host, port):
            try:
                return self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("no address")

    @override
    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Always raise: local sockets are never contacted."""
        raise httpcore.ConnectError("no sockets of this machine are asked")


def context(authority: str = "") -> ssl.SSLContext:
    """A context that trusts the system's and certifi's certificate authorities, and those in ``authority``. Raises OSError."""
    import certifi

    made = ssl.create_default_context()
    made.load_verify_locations(certifi.where())
    if authority:
        made.load_verify_locations(authority)
    return made
