"""When the operator last probed each model, from its metrics, since recording each probe in an object would cost a write.

Times are shown as the operator reports them, however old: while it is away, the last probe stays the last one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import aiohttp

_LOG = logging.getLogger("pelagos.hub")
_PAUSE = 10.0
_LONGEST_ANSWER = aiohttp.ClientTimeout(total=10)
_FAMILY = b"pelagos_service_probe_timestamp_seconds{"
_LINE = re.compile(
    rb'pelagos_service_probe_timestamp_seconds\{name="([a-z0-9.-]{1,253})",namespace="([a-z0-9-]{1,63})"\} ([0-9.e+]{1,32})\s*'
)
_MOST_BYTES = 64 * 1024 * 1024
_LONGEST_LINE = 65_536
_LONGEST = timedelta(days=1)
_LATEST = 1e11
"""Largest accepted Unix time; larger values may not convert to a date."""


class Probes:
    """The times of the last probes. ``address`` is the URL of the operator's metrics; if empty, no time is ever known."""

    def __init__(self, address: str, now: Callable[[], datetime]) -> None:
        self._address = address
        self._now = now
        self._times: dict[tuple[str, str], datetime] = {}

    def last(self, namespace: str, name: str) -> datetime | None:
        """The time of a service's last probe; None when unknown."""
        return self._times.get((namespace, name))

    async def run(self) -> None:
        """Read the metrics periodically until cancelled."""
        is_told = False
        while self._address:
            try:
                await self.read()
            except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as error:
                # Warn once per outage: operators are also away while they are replaced.
                _LOG.log(
                    logging.DEBUG if is_told else logging.WARNING,
                    "%s cannot be read: %s",
                    self._address,
                    error or type(error).__name__,
                )
                is_told = True
            else:
                is_told = False
            await asyncio.sleep(_PAUSE)

    async def read(self) -> None:
        """Read the metrics once. Raises aiohttp's errors, OSError, ValueError and TimeoutError."""
        found: dict[tuple[str, str], datetime] = {}
        size, rest = 0, b""
        async with (
            aiohttp.ClientSession(timeout=_LONGEST_ANSWER) as session,
            session.get(self._address, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"HTTP {answer.status}")
            async for part in answer.content.iter_any():
                *lines, rest = (rest + part).split(b"\n")
                size += len(part)
                if size > _MOST_BYTES or len(rest) > _LONGEST_LINE:
                    raise ValueError(f"there are more than {_MOST_BYTES} bytes, or {_LONGEST_LINE} in a line")
                found |= _times(lines)
        # With several operators, only the leader probes. Times that another one does not report are kept.
        since = self._now() - _LONGEST
        kept = {key: moment for key, moment in self._times.items() if moment > since}
        self._times = kept | {key: max(moment, kept.get(key, moment)) for key, moment in found.items()}


def _times(lines: list[bytes]) -> dict[tuple[str, str], datetime]:
    found = {}
    for line in lines:
        told = _LINE.fullmatch(line) if line.startswith(_FAMILY) else None
        if told is not None and (seconds := float(told[3])) < _LATEST:
            found[told[2].decode(), told[1].decode()] = datetime.fromtimestamp(seconds, UTC)
    return found
