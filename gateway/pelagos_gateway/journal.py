"""Receives Envoy's access log, two records for each call that ended, and updates limits and metrics. Started by ``app``.

Envoy sends it by Fluentd's forward protocol: arrays in MessagePack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack

from pelagos.engines.envoy import shared
from pelagos_gateway.callers import Callers
from pelagos_gateway.metrics import METRICS

logger = logging.getLogger(__name__)

_MOST = 16 * 1024 * 1024
_CHUNK = 64 * 1024


class Journal:
    """The server, on a Unix socket that only the owner can open."""

    def __init__(self, path: Path, callers: Callers) -> None:
        self._path = path
        self._callers = callers
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen; removes a socket left by an earlier process."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._read, str(self._path))
        self._path.chmod(0o600)

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        unpacker = msgpack.Unpacker(raw=False, unicode_errors="replace", max_buffer_size=_MOST)
        try:
            while chunk := await reader.read(_CHUNK):
                unpacker.feed(chunk)
                for message in unpacker:
                    self._take(message)
        except (OSError, ValueError, msgpack.UnpackException) as error:
            logger.warning("the calls that Envoy reports cannot be read: %s", error)
        finally:
            self._connections -= 1
            if self._connections == 0:
                # Each of Envoy's threads keeps a connection. Without any, Envoy does not run, and no call is in progress.
                self._callers.end_all()
            with contextlib.suppress(OSError):
                writer.close()

    def _take(self, message: Any) -> None:
        """Process a message in forward mode: a tag, and entries of a time and a record each."""
        try:
            for _, record in message[1]:
                # Both records end the call, since the first one is lost while Envoy still connects. Only the second has the
                # figures, so only that one is counted.
                self._callers.end(str(record["call"]))
                if message[0] == shared.DETAILS:
                    _count(record)
        except (TypeError, IndexError, ValueError, KeyError, AttributeError) as error:
            logger.debug("not understood: %s", error)


def _count(record: Mapping[str, Any]) -> None:
    service, _, access = str(record["labels"]).partition(" ")
    # A stream itself is not counted: each of its messages is a call with separate records.
    if access and record.get("path") != shared.STREAM:
        code = str(record["grpc"]) if str(record["grpc"]).isdecimal() else str(record["status"])
        kind = "grpc" if str(record["grpc"]).isdecimal() else "http"
        METRICS.ended(service, access, kind, code, float(record["milliseconds"]) / 1000)
