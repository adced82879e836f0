"""Connections to addresses that were judged, and to no others: what httpcore calls a network backend."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

from pelagos_contract.source_hosts import Address


class JudgedBackend(httpcore.NetworkBackend):  # type: ignore[misc] # without types here
    """Asks ``addresses`` where a host and port is, and connects there; names are resolved nowhere else."""

    def __init__(self, addresses: Callable[[str, int], Iterable[Address]]) -> None:
        """``addresses`` raises for those that must not be asked."""
        self._addresses = addresses
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """To the first address that answers."""
        failed: Exception | None = None
        for address in self._addresses(host, port):
            try:
                return self._sockets.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("no address")

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Never."""
        raise httpcore.ConnectError("no sockets of this machine are asked")


def context(authority: str = "") -> ssl.SSLContext:
    """Trusts the certificate authorities of the system and of certifi, and those in the file ``authority``. Raises OSError."""
    import certifi

    made = ssl.create_default_context()
    made.load_verify_locations(certifi.where())
    if authority:
        made.load_verify_locations(authority)
    return made
