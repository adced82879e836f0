"""Loopback addresses and ports that are free: the whole of 127.0.0.0/8 is this machine."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable


def free_address(ports: Iterable[int]) -> str:
    """An address of this machine on which nobody listens on any of ``ports``."""
    wanted = tuple(ports)
    for _ in range(100):
        address = f"127.{random.randint(64, 250)}.{random.randint(0, 250)}.{random.randint(2, 250)}"
        if all(_is_free(address, port) for port in wanted):
            return address
    raise RuntimeError(f"somebody listens on ports {wanted} of all addresses")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError:
            return False
    return True
