"""Makes an address inside the node reachable on this machine's loopback: ``forwarder.py NETWORK HOST PORT``.

Runs as a script. It listens outside, enters the node's network, waits until the address accepts a connection (kube-proxy needs a
moment for a new Service), prints its port, and from then on opens one connection for each that it accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys
import time
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_WAIT_SECONDS = 60


def enter_network(path: Path) -> None:
    """Move this process into a network namespace."""
    descriptor = os.open(path, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"cannot enter {path}")
    os.close(descriptor)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy everything from one side to the other, then close."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(listener: socket.socket, host: str, port: int) -> None:
    """Forward connections until killed."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()

    server = await asyncio.start_server(forward, sock=listener)
    await server.serve_forever()


def wait_for(host: str, port: int) -> None:
    """Return when the address accepts connections; end this process with a message if it does not in time."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{host}:{port} takes no connection: {error}")
            time.sleep(0.1)


def main() -> None:
    """Run until killed."""
    network, host, port = sys.argv[1:]
    listener = socket.create_server(("127.0.0.1", 0))
    enter_network(Path(network))
    wait_for(host, int(port))
    print(listener.getsockname()[1], flush=True)
    asyncio.run(serve(listener, host, int(port)))


if __name__ == "__main__":
    main()
