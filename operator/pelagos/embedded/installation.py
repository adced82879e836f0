"""The whole embedded installation: its parts, and their order. Run by `python -m pelagos.embedded` and `pelagos up`."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

import aiohttp

from pelagos.embedded import (
    addresses,
    cluster,
    credentials,
    hub_credentials,
    logs,
    parts,
    preflight,
    state,
    store,
    tracking_credentials,
)
from pelagos.embedded.failures import StartError
from pelagos.embedded.layout import Layout
from pelagos.embedded.locking import lock
from pelagos.embedded.state import Phase
from pelagos.embedded.supervisor import Supervisor
from pelagos.engines.folders import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from pelagos.embedded.child import Child, Timing
    from pelagos.embedded.releases import Binaries
    from pelagos.settings import Settings

_LOG = logging.getLogger(__name__)
_ATTEMPTS = 3
"""How often a part may end before it was ever ready; after that it will not recover by itself."""
_START_SECONDS = 600.0
_STOP_SECONDS = 12.0
_PERIOD = 0.2
_LOG_LINES = 6


async def run(settings: Settings, timing: Timing | None = None, on_ready: Callable[[], None] = lambda: None) -> int:
    """Start everything, keep it running until SIGINT, SIGTERM or SIGHUP, stop everything. Returns the exit code.

    Raises StartError when it cannot even begin; later failures are reported in the state, and the exit code is 1 then.
    """
    layout = Layout.of(settings.home)
    preflight.check(layout, settings.environments, parts.beside(settings))
    programs = store.require(layout)
    with lock(layout):
        before = state.read(layout.state)
        supervisor = Supervisor(layout, before.ports if before else {}, timing)
        stopping = asyncio.Event()
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(sign, stopping.set)
        try:
            await supervisor.end_earlier(before)
            ports = addresses.choose(layout.home, parts.PORTS, before.ports if before else {})
            supervisor.use_ports(ports)
            started = asyncio.create_task(_start(supervisor, layout, settings, programs, ports))
            await _until(stopping, started, on_ready)
        except (StartError, OSError) as error:
            _LOG.error("%s", error)
            supervisor.fail(str(error))
        except Exception as error:
            # `pelagos up` waits for the state to change, so a bug of ours must be reported there, and not only in the log.
            _LOG.exception("the supervisor failed")
            supervisor.fail(f"{type(error).__name__}: {error}. See {layout.log('supervisor')}.")
        finally:
            # If this takes longer, all parts die with this process (parent_death_wrapper).
            await asyncio.wait_for(supervisor.stop(), _STOP_SECONDS)
        return 1 if supervisor.state.phase is Phase.FAILED else 0


async def _until(stopping: asyncio.Event, started: asyncio.Task[None], on_ready: Callable[[], None]) -> None:
    """Wait for the request to stop; raise any error of the start."""
    ordered = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({ordered, started}, return_when=asyncio.FIRST_COMPLETED)
        if started.done():
            started.result()
            on_ready()
            await ordered
    finally:
        for task in (ordered, started):
            task.cancel()
        await asyncio.gather(ordered, started, return_exceptions=True)


async def _start(
    supervisor: Supervisor, layout: Layout, settings: Settings, programs: Binaries, ports: dict[str, int]
) -> None:
    credentials.prepare(layout)
    tracking_credentials.prepare(layout)
    hub_credentials.prepare(layout)
    keys.make(layout.authority)
    token = credentials.token(layout)
    assert token is not None
    supervisor.announce(("etcd", "apiserver", "mlflow", "operator", *parts.beside(settings)))
    store.record(layout, programs)
    etcd = supervisor.start(parts.etcd(layout, programs, ports))
    server = supervisor.start(parts.apiserver(layout, programs, ports, token))
    tracking = supervisor.start(parts.mlflow(layout, settings, ports))
    await _until_ready(etcd, server)
    credentials.write_kubeconfig(layout, server.part.url)
    await _prepare_cluster(layout, server.part.url, token)
    operator = supervisor.start(parts.operator(layout, settings, ports))
    more = [supervisor.start(parts.BESIDE[name](layout, settings, ports)) for name in parts.beside(settings)]
    await _until_ready(etcd, server, tracking, operator, *more)
    supervisor.ready()
    _LOG.info("all parts are ready")


async def _prepare_cluster(layout: Layout, url: str, token: str) -> None:
    definitions = cluster.definitions()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with cluster.Api.connect(url, token, credentials.authority(layout)) as api:
                return await cluster.prepare(api, definitions)
        except (cluster.ApiError, aiohttp.ClientError, OSError) as error:
            if attempt == _ATTEMPTS:
                raise StartError(f"The resources of Pelagos could not be applied: {error}") from error
            await asyncio.sleep(attempt)
    return None


async def _until_ready(*children: Child) -> None:
    """Wait until all parts are ready. Raises StartError, with the end of its log, when one keeps failing or takes too long."""
    deadline = asyncio.get_running_loop().time() + _START_SECONDS
    waiting = asyncio.gather(*(child.until_ready() for child in children))
    try:
        while not waiting.done():
            for child in children:
                if child.state.restarts >= _ATTEMPTS and not child.was_ready:
                    raise _given_up(child, f"{child.state.last_exit}, {_ATTEMPTS} times in a row")
                if asyncio.get_running_loop().time() > deadline and not child.was_ready:
                    raise _given_up(child, f"is not ready after {_START_SECONDS:.0f} s")
            await asyncio.wait({waiting}, timeout=_PERIOD)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def _given_up(child: Child, what: str) -> StartError:
    log = child.log
    lines = "".join(f"\n  {line}" for line in logs.tail(log, _LOG_LINES))
    return StartError(f"{child.part.name}: {what}. The end of {log}:{lines or ' (empty)'}")
