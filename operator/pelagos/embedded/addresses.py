"""Loopback ports of the embedded servers: chosen once, and kept as long as no other program uses them."""

from __future__ import annotations

import hashlib
import socket
from typing import TYPE_CHECKING

from pelagos.embedded.failures import StartError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HOST = "127.0.0.1"
RANGE = range(20000, 32000)
"""Below the range from which Linux takes local ports for outgoing connections, so that none of those blocks a restart."""


def choose(home: Path, names: Sequence[str], kept: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name: the kept one if still free, else one searched from a point that depends on ``home``.

    Different starting points keep two installations apart that start at the same time. Raises StartError.
    """
    chosen: dict[str, int] = {}
    # Assign all kept ports first: a search for one name must not take a port that another name has kept.
    for name in names:
        if _usable(port := kept.get(name, 0), chosen):
            chosen[name] = port
    start = int.from_bytes(hashlib.sha256(str(home).encode()).digest()[:4], "big") % len(RANGE)
    for name in names:
        if name in chosen:
            continue
        ports = (RANGE[(start + step) % len(RANGE)] for step in range(len(RANGE)))
        found = next((port for port in ports if _usable(port, chosen)), None)
        if found is None:
            raise StartError(
                f"No free port between {RANGE[0]} and {RANGE[-1]} on {HOST}. Stop some of the servers on this machine."
            )
        chosen[name] = found
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _usable(port: int, chosen: Mapping[str, int]) -> bool:
    return 0 < port < 65536 and port not in chosen.values() and is_free(port)
