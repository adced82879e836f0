"""The whole program: watches the API server, configures Envoy, authorizes requests, serves metrics. Called by __main__, tests."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pelagos.api import meta
from pelagos.api.service_logins import SECRET
from pelagos.api.tenant_settings import name_of
from pelagos.engines.envoy import shared
from pelagos.engines.envoy.config import MIB, Limits
from pelagos.engines.envoy.shared import Front
from pelagos.engines.kubernetes.objects import Collection
from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.engines.kubernetes.watching import Name, Watched
from pelagos.ports.clock import monotonic
from pelagos_gateway import callers, table
from pelagos_gateway.authority import Authority, UnixServer
from pelagos_gateway.callers import Callers
from pelagos_gateway.converting import Converter
from pelagos_gateway.envoy import Files, Process
from pelagos_gateway.journal import Journal
from pelagos_gateway.judging import Identities, Judge
from pelagos_gateway.metrics import METRICS
from pelagos_gateway.settings import LOOPBACK, Settings
from pelagos_gateway.streaming import Streams
from pelagos_gateway.table import Policy, Table
from pelagos_gateway.trials import Trials

logger = logging.getLogger(__name__)

SERVICES = Collection(meta.API_VERSION, "ModelService", "modelservices")
TRIALS = Collection(meta.API_VERSION, "Trial", "trials")
CONFIG_MAPS = Collection("v1", "ConfigMap", "configmaps")
SECRETS = Collection("v1", "Secret", "secrets")
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 2.0
"""Wait before another attempt to write Envoy's configuration, for example after a full disk."""
_CONFIGURATION = "configuration"
"""Label value in the staleness metric, besides the kinds: Envoy's configuration, while it cannot be written."""
_DRAIN_SECONDS = 1.0
_ENVOY_THREADS = 4


class Gateway:
    """The gateway of a whole installation, or of one namespace."""

    def __init__(
        self,
        settings: Settings,
        rest: KubernetesRest,
        identities: Identities | None = None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._settings = settings
        self._rest = rest
        self._clock = clock
        self._limits = limits or Limits(connections=1024, all_connections=2048, upload_seconds=settings.upload_seconds)
        self._trials = Trials()
        self._callers = Callers(
            callers.Limits(
                settings.requests_per_minute,
                settings.at_once,
                settings.uploads_at_once,
                self._limits.uploads,
                max(self._limits.request_seconds, self._limits.stream_seconds),
            )
        )
        self._judge = Judge(self._callers, self._trials, clock, identities, is_open=settings.open)
        self._usual = Policy(settings.access, settings.entitled)
        sockets = settings.sockets
        most = settings.json_mebibytes * MIB
        front = Front(
            settings.address, settings.http_port, settings.grpc_port, str(sockets), settings.allowed_hosts, most
        )
        self._files = Files(settings.folder, front, self._limits, settings.services_ca_file)
        threads = max(1, min(_ENVOY_THREADS, (os.cpu_count() or 1) // 2))
        self.envoy = Process(settings.envoy, self._files, threads) if settings.envoy is not None else None
        self._places: dict[str, table.Place] = {}
        self._converter = Converter(self._places.get, most, self._limits.answer_seconds, settings.services_ca_file)
        self._journal = Journal(sockets / shared.JOURNAL, self._callers)
        self._servers = (
            UnixServer(sockets / shared.AUTHORITY, Authority(self._judge).answer),
            UnixServer(sockets / shared.CONVERTER, self._converter.answer),
            Streams(
                sockets / shared.STREAMS, settings.own_grpc, self._limits.answer_seconds, self._limits.stream_seconds
            ),
        )
        namespace, home = settings.namespace, settings.operator_namespace
        self._services = Watched(rest, SERVICES, namespace=namespace, changed=self._changed)
        self._open_trials = Watched(rest, TRIALS, namespace=namespace, changed=self._trials_changed)
        # One Secret per namespace, by its name: the gateway may read no other.
        self._logins = Watched(rest, SECRETS, namespace=f"{namespace}/{SECRET}", changed=self._changed)
        self._tenants = None
        if home:
            where = f"{home}/{name_of(namespace)}" if namespace else home
            self._tenants = Watched(rest, CONFIG_MAPS, namespace=where, changed=self._changed)
        self._followed = {
            "ModelService": self._services,
            "Trial": self._open_trials,
            "ConfigMap": self._tenants,
            "Secret": self._logins,
        }
        self._pending = asyncio.Event()

    async def run(self, until: Awaitable[object]) -> None:
        """Serve until ``until`` completes or a task fails; then drain Envoy for ``_DRAIN_SECONDS`` and release everything."""
        stopped = asyncio.create_task(_awaited(until))
        self._settings.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before the authority: the calls that it admits count as in progress until their ends are reported here.
        await self._journal.start()
        for server in self._servers:
            await server.start()
        runner = await self._listen()
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(each.run()) for each in self._followed.values() if each is not None
        ]
        tasks += [asyncio.create_task(self._apply()), asyncio.create_task(self._look())]
        try:
            await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            # Raises the error of a task that failed: otherwise this would end as if it had been asked to stop.
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            # Envoy first: the requests that it drains still go through the converter and the stream server.
            if self.envoy is not None:
                await self.envoy.stop(_DRAIN_SECONDS)
            await self._converter.stop()
            for server in self._servers:
                await server.stop()
            await self._journal.stop()
            await runner.cleanup()
            await self._rest.close()

    def _changed(self, names: set[Name]) -> None:
        del names
        found, closed = table.services(self._services.objects, self._logins.objects)
        METRICS.keep(found)
        tenants = self._tenants.objects if self._tenants is not None else {}
        self._judge.table = Table(found, closed, table.policies(tenants, self._usual), self._usual)
        self._judge.is_known = all(each is None or each.heard is not None for each in (self._services, self._tenants))
        self._places.clear()
        self._places.update(table.places(found))
        METRICS.services.set(len(found))
        self._pending.set()

    def _trials_changed(self, names: set[Name]) -> None:
        del names
        self._trials.take(self._open_trials.objects, datetime.now(UTC), self._clock())

    async def _apply(self) -> None:
        """Write Envoy's configuration, once per burst of changes, and start Envoy once it has any."""
        started: asyncio.Task[None] | None = None
        told: tuple[object, ...] = ()
        try:
            while True:
                await self._pending.wait()
                self._pending.clear()
                try:
                    if self._files.write(tuple(self._judge.table.services.values())):
                        logger.info("Envoy is configured for %d services", len(self._judge.table.services))
                    told = ()
                except OSError as error:
                    # Once for each cause: the text differs each time by how many bytes are left.
                    if (cause := (error.errno, error.filename)) != told:
                        logger.error(
                            "Envoy's configuration could not be written, and it keeps the previous one: %s", error
                        )
                        told = cause
                    self._pending.set()
                METRICS.stale.labels(_CONFIGURATION).set(bool(told))
                if started is None and self.envoy is not None and self._files.bootstrap.exists():
                    started = asyncio.create_task(self.envoy.run())
                await asyncio.sleep(_AGAIN_SECONDS if told else 0.1)
        finally:
            if started is not None:
                started.cancel()
                await asyncio.gather(started, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            for kind, watched in self._followed.items():
                if watched is not None:
                    METRICS.stale.labels(kind).set(bool(watched.problem))
            METRICS.trials.set(len(self._trials.open_at(self._clock())))
            METRICS.in_progress.set(self._callers.in_progress)
            METRICS.envoy.set(await self._files.is_ready())
            await asyncio.sleep(_LOOK_SECONDS)

    async def _listen(self) -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(self._told, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, self._settings.metrics_address, self._settings.metrics_port).start()
        return runner

    async def _told(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer /metrics, /healthz and /readyz."""
        # A web page whose name resolves to 127.0.0.1 (DNS rebinding) must not read this through a browser.
        if self._settings.metrics_address in LOOPBACK and request.url.host not in LOOPBACK:
            return web.Response(status=421, text="Use 127.0.0.1 or localhost as the host\n")
        if request.path == "/metrics":
            return web.Response(body=generate_latest(METRICS.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
        if request.path == "/healthz":
            return web.Response(text="ok\n")
        if request.path == "/readyz":
            trouble = await self._trouble()
            return web.Response(status=503 if trouble else 200, text=f"{trouble or 'ok'}\n")
        return web.Response(status=404, text="/metrics, /healthz and /readyz are available here\n")

    async def _trouble(self) -> str:
        if not self._judge.is_known:
            return "what is served is not known yet: the API server was not reached"
        return "" if await self._files.is_ready() else "Envoy does not answer"


async def _awaited(until: Awaitable[object]) -> None:
    await until
