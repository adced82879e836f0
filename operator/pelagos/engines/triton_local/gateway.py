"""The Envoy in front of all Triton servers on this machine, which clients connect to. Called by triton_local.

One detached process, recognized by its record and restarted when it has died. Its configuration is derived from the services'
files alone, so nothing is lost with it. ``<home>/gateway/`` has ``bootstrap.json``; ``listeners.json`` and ``clusters.json``,
which Envoy reads again when they are replaced; its record; and ``envoy.log``. A service keeps its ports, in its folder's
``ports.json``, unless somebody else takes them while no Envoy runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import random
import socket
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from pelagos.engines.envoy import config as envoy_config
from pelagos.engines.envoy.config import Limits, Ports, Service
from pelagos.engines.processes import groups, locks, sockets
from pelagos.engines.processes.groups import ProcessId
from pelagos.engines.triton_local import records
from pelagos.engines.triton_local.server import bound, site_packages
from pelagos.ports.errors import OutageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pelagos.engines.triton_local.server import ServerFolder

logger = logging.getLogger(__name__)

SYSTEM = "Envoy"
HOST = "127.0.0.1"
HOSTS = (HOST, "localhost", "[::1]")
PORTS_NAME = "ports.json"
_PORTS = range(20000, 32768)
"""Ports for services, below the range from which Linux takes ports for outgoing connections."""
_ADMIN_SECONDS = 2.0
_BIND_SECONDS = 5.0
"""If Envoy does not listen on a port after this long, somebody else has taken it."""


class Gateway:
    """Runs and configures Envoy for the installation in ``home``. ``hosts`` are allowed host names, besides loopback's."""

    def __init__(
        self, home: Path, environment: Path, hosts: tuple[str, ...] = (), limits: Limits | None = None
    ) -> None:
        self._home = home
        self._folder = home / "gateway"
        self._services = home / "services"
        self._environment = environment
        self._hosts = (*HOSTS, *hosts)
        self._limits = limits or Limits()
        self._changed = monotonic()
        self._is_confirmed = False

    @property
    def log(self) -> Path:
        """Envoy's log, with a line for each request that got an error."""
        return self._folder / "envoy.log"

    @property
    def is_installed(self) -> bool:
        """Whether Envoy is installed."""
        return self._program.is_file()

    @property
    def process(self) -> ProcessId | None:
        """Envoy's recorded process, which may have ended; None without a record."""
        try:
            return ProcessId(**json.loads((self._folder / "state.json").read_text(encoding="utf-8"))["process"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def ports(self, uid: str) -> Ports | None:
        """The ports of a service; None when it has none yet."""
        return _read_ports(self._services / uid)

    def private(self, uid: str) -> str:
        """The path of a service's private socket: the same route as for clients, but exempt from their connection limit."""
        digest = hashlib.sha256(os.fsencode(self._services / uid)).hexdigest()
        return str(sockets.folder(self._home) / f"{digest[:12]}.probe")

    async def keep(self, read: Callable[[], dict[str, tuple[str, ServerFolder]]]) -> None:
        """Make sure that Envoy runs and routes to the servers that ``read`` returns (model and server, by service).

        Without any, Envoy is stopped. Raises OutageError when it cannot be started.
        """
        if not self._folder.exists() and not await asyncio.to_thread(read):
            return
        async with locks.held(SYSTEM, self._folder / ".lock"):
            # Read under the lock: an earlier read could bring back an endpoint that another task has removed since.
            upstreams = await asyncio.to_thread(read)
            if not upstreams:
                await self._stop()
                return
            process = self.process
            is_alive = process is not None and groups.is_alive(process)
            bootstrap = envoy_config.bootstrap(str(self._admin), self._limits, str(self._folder))
            # Envoy reads its bootstrap only at start, but re-reads listeners and clusters when they are replaced. So only a
            # changed bootstrap, as after an upgrade, costs clients their connections.
            if is_alive and bootstrap != _read(self._folder / "bootstrap.json"):
                await self._stop()
                is_alive = False
            # Clients remember addresses. So a service gets new ports only when Envoy cannot use its old ones: when Envoy had
            # time to listen on them and does not, or does not know them yet and somebody else listens there.
            known = _names(_read(self._folder / "listeners.json")) if is_alive else set()
            silent = await self._silent(upstreams) if is_alive else set()
            # The ports of all services count as taken, even of those without a server now.
            taken = {
                port
                for uid in self._known()
                for port in asdict(_read_ports(self._services / uid) or Ports(0, 0, 0)).values()
            }
            services = []
            for uid, (model, server) in sorted(upstreams.items()):
                ports = _read_ports(self._services / uid)
                is_reachable = f"{uid}-http" in known or (
                    ports is not None and all(map(_is_free, asdict(ports).values()))
                )
                if ports is None or uid in silent or not is_reachable:
                    ports = _free_ports(taken)
                    taken |= set(asdict(ports).values())
                    # Record them before Envoy gets them: a restarted operator must not choose others.
                    records.write_json(self._services / uid / PORTS_NAME, asdict(ports))
                services.append(
                    Service(uid, model, HOST, ports, server.upstream, hosts=self._hosts, private=self.private(uid))
                )
            # Write the files before starting Envoy, which reads them then.
            self._write(tuple(services))
            bound(self.log)
            if not is_alive:
                await self._start(bootstrap)

    async def has(self, uid: str) -> bool:
        """Whether clients can reach the service, that is, Envoy listens on all its ports."""
        names = set((await self._ask("listeners") or "").split())
        return {f"{uid}-{kind}::" for kind in ("http", "grpc", "metrics")} <= {
            name.split("::")[0] + "::" for name in names
        }

    async def uses(self, server: ServerFolder) -> bool:
        """Whether Envoy may still have requests for this server; True also when Envoy does not answer."""
        clusters = await self._ask("clusters")
        return clusters is None or f"{server.upstream.grpc}::" in clusters or f"{server.upstream.http}::" in clusters

    async def trouble(self) -> str | None:
        """The problem with Envoy, as a message; None when all is well, or nothing is served."""
        served = sorted(path.parent.name for path in self._services.glob(f"[!.]*/{records.NAME}"))
        if not served:
            return None
        process = self.process
        if process is None or not groups.is_alive(process):
            return f"no Envoy runs in front of {len(served)} model server{'s' if len(served) > 1 else ''}"
        told = await self._ask("stats?filter=version_text")
        if told is None:
            return f"Envoy (process {process.pid}) does not answer on {self._admin}"
        for name in ("listeners", "clusters"):
            content = _read(self._folder / f"{name}.json") or {}
            if str(content.get("version_info")) not in told:
                return f"Envoy rejects its {name}; {self.log} says why"
        silent = [uid for uid in served if not await self.has(uid)]
        return f"Envoy does not listen for {', '.join(silent)}; {self.log} says why" if silent else None

    def _known(self) -> list[str]:
        return [path.parent.name for path in self._services.glob(f"*/{PORTS_NAME}")]

    async def _silent(self, upstreams: dict[str, Any]) -> set[str]:
        """Services that Envoy does not listen for, although it had the time to."""
        if self._is_confirmed or monotonic() - self._changed < _BIND_SECONDS:
            return set()
        found = {uid for uid in upstreams if not await self.has(uid)}
        self._changed = monotonic()
        self._is_confirmed = not found
        return found

    def _write(self, services: tuple[Service, ...]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        listeners = envoy_config.listeners(services, self._limits)
        # Clusters first: a listener without its cluster would have nowhere to route requests.
        for name, kind, resources in (
            ("clusters.json", envoy_config.CLUSTER, envoy_config.clusters(services)),
            ("listeners.json", envoy_config.LISTENER, listeners),
        ):
            version = hashlib.sha256(json.dumps(resources).encode()).hexdigest()
            content = envoy_config.discovered(kind, resources, version)
            if _read(self._folder / name) != content:
                records.write_json(self._folder / name, content)
                self._changed = monotonic()
                self._is_confirmed = False

    async def _start(self, bootstrap: dict[str, Any]) -> None:
        path, program = self._folder / "bootstrap.json", self._program
        if not self.is_installed:
            raise OutageError(SYSTEM, f"{program} is not installed; run `make install`")
        # An Envoy whose record was lost would still hold the ports.
        for stray in groups.strays(str(path)):
            await groups.kill_group(stray, 1)
        records.write_json(path, bootstrap)
        self._admin.unlink(missing_ok=True)
        command: list[str | Path] = [
            *(program, "--config-path", path, "--disable-hot-restart"),
            *("--concurrency", str(max(1, min(4, (os.cpu_count() or 1) // 2)))),
            *("--log-level", "warning", "--drain-time-s", "5", "--file-flush-interval-msec", "1000"),
        ]
        variables = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self._folder)}
        process = groups.start_private(command, "", environment=variables, output=self.log)
        records.write_json(self._folder / "state.json", {"process": asdict(process)})
        self._changed = monotonic()
        self._is_confirmed = False
        logger.info("started Envoy in front of %d model servers (process %d)", len(self._known()), process.pid)

    async def _stop(self) -> None:
        process = self.process
        if process is not None:
            await groups.kill_group(process, 1)
        for stray in groups.strays(str(self._folder / "bootstrap.json")):
            await groups.kill_group(stray, 1)
        for name in ("state.json", "listeners.json", "clusters.json", "bootstrap.json"):
            (self._folder / name).unlink(missing_ok=True)
        self._admin.unlink(missing_ok=True)

    @property
    def _program(self) -> Path:
        return site_packages(self._environment) / "envoy/_bin/envoy"

    @property
    def _admin(self) -> Path:
        return sockets.folder(self._home) / "admin"

    async def _ask(self, path: str) -> str | None:
        """The answer of Envoy's administration interface; None when there is none."""
        timeout = aiohttp.ClientTimeout(total=_ADMIN_SECONDS)
        try:
            connector = aiohttp.UnixConnector(str(self._admin), force_close=True)
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://localhost/{path}") as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _read_ports(service: Path) -> Ports | None:
    try:
        return Ports(**_read(service / PORTS_NAME))
    except TypeError:
        return None


def _names(listeners: Any) -> set[str]:
    try:
        return {resource["name"] for resource in listeners["resources"]}
    except (TypeError, KeyError):
        return set()


def _free_ports(taken: set[int]) -> Ports:
    candidates = random.sample(_PORTS, len(_PORTS))
    free = (port for port in candidates if port not in taken and _is_free(port))
    try:
        return Ports(http=next(free), grpc=next(free), metrics=next(free))
    except StopIteration:
        raise OutageError(SYSTEM, f"no free port from {_PORTS.start} to {_PORTS.stop - 1}") from None


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True
