"""The gateway's Envoy: its configuration files, and its process where this program starts it.

On a cluster Envoy is a container of the same pod, which starts when the files exist and reloads them when they are replaced. In
embedded mode it is a child process that ends with this program, even if this program is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp

from pelagos.engines.envoy import config, shared
from pelagos.engines.envoy.config import Limits
from pelagos.engines.envoy.shared import Front, Served
from pelagos_contract import disk
from pelagos_gateway import ending_with_parent

logger = logging.getLogger(__name__)

ADMIN = "admin"
_FIRST_PAUSE, _LONGEST_PAUSE, _HEALTHY = 0.2, 10.0, 30.0
_ADMIN_SECONDS = 2.0


class Files:
    """Envoy's configuration files. Each is replaced atomically, and only when its content differs."""

    def __init__(self, folder: Path, front: Front, limits: Limits, authorities: Path) -> None:
        self.folder = folder
        self.bootstrap = folder / "bootstrap.json"
        self.admin = Path(front.sockets) / ADMIN
        self._front = front
        self._limits = limits
        self._authorities = str(authorities)
        self._known: dict[Path, str] = {}

    def write(self, services: tuple[Served, ...]) -> bool:
        """Write the configuration for these services; returns whether it has changed. Raises OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        changed = False
        # Clusters first, so that no listener ever routes to a cluster that Envoy does not know.
        for name, kind, resources in (
            ("clusters.json", config.CLUSTER, shared.clusters(services, self._authorities)),
            ("listeners.json", config.LISTENER, shared.listeners(self._front, self._limits)),
        ):
            version = hashlib.sha256(json.dumps(resources).encode()).hexdigest()
            changed |= self._replace(self.folder / name, config.discovered(kind, resources, version))
        self._replace(self.bootstrap, shared.bootstrap(str(self.admin), self._front, self._limits, str(self.folder)))
        return changed

    def _replace(self, path: Path, content: dict[str, Any]) -> bool:
        text = json.dumps(content)
        if self._known.get(path) == text:
            return False
        disk.write_atomically(path, text, mode=disk.PRIVATE)
        self._known[path] = text
        return True

    async def is_ready(self) -> bool:
        """Whether Envoy's admin interface reports that it is live."""
        return await self.ask("GET", "ready") == "LIVE\n"

    async def ask(self, method: str, path: str) -> str | None:
        """The answer of Envoy's admin interface; None when it fails or does not answer within ``_ADMIN_SECONDS``."""
        timeout = aiohttp.ClientTimeout(total=_ADMIN_SECONDS)
        try:
            connector = aiohttp.UnixConnector(str(self.admin), force_close=True)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.request(method, f"http://localhost/{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None


class Process:
    """Keeps an Envoy running that reads ``files``."""

    def __init__(self, program: Path, files: Files, threads: int) -> None:
        self._program = program
        self._files = files
        self._threads = threads
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Envoy's process id; None while it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> None:
        """Start Envoy, and restart it with growing pauses whenever it ends, until cancelled. Call ``stop`` after that."""
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                self._files.admin.unlink(missing_ok=True)
                self._process = await self._start()
                code = await self._process.wait()
                logger.warning("Envoy ended with code %s; it starts again", code)
            except OSError as error:
                logger.error("Envoy cannot be started: %s", error)
            if loop.time() - began > _HEALTHY:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def stop(self, seconds: float) -> None:
        """Drain for at most ``seconds`` without accepting connections, then end Envoy. Call after ``run`` is cancelled."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        await self._files.ask("POST", "drain_listeners?graceful&skip_exit")
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline and await self._is_busy():  # noqa: ASYNC110 - no event to wait for
            await asyncio.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 2)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _is_busy(self) -> bool:
        told = await self._files.ask("GET", "stats?filter=gateway-(http|grpc).downstream_rq_active")
        return told is not None and any(line.split(": ")[-1] != "0" for line in told.splitlines() if ": " in line)

    async def _start(self) -> asyncio.subprocess.Process:
        # It inherits the variables that name its installation, so that its process can be recognized, and no credentials.
        variables = {name: value for name, value in os.environ.items() if "PELAGOS" in name and "SECRET" not in name}
        variables |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self._files.folder)}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", ending_with_parent.__file__, str(os.getpid())),
            str(self._program),
            *("--config-path", str(self._files.bootstrap), "--disable-hot-restart"),
            *("--concurrency", str(self._threads), "--log-level", "warning", "--drain-time-s", "5"),
            *("--file-flush-interval-msec", "1000"),
            env=variables,
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
        )
