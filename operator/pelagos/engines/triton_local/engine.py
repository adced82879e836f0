"""Serving on this machine: detached Triton servers behind one Envoy. Called by the reconciler of ModelServices.

Servers outlive the operator and are recognized by their service's ``state.json``. ``<home>/services/<uid>/`` has a numbered
folder for each server, with the model as it was desired then in ``served/``, and ``triton.log``. A change of the desired service
starts a new server next to the old one. When the new one has passed its probe, it gets the requests, and the old one ends after
it has answered those it had. If the package is refused, or the model does not load or answers wrongly, the old server is left
alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp

from pelagos.engines.processes import groups, locks, orderly, sockets
from pelagos.engines.triton import probe as model_probe
from pelagos.engines.triton_local import copies, records
from pelagos.engines.triton_local.gateway import HOST, Gateway
from pelagos.engines.triton_local.records import Server, State
from pelagos.engines.triton_local.server import SYSTEM, ServerFolder, end
from pelagos.ports.clock import SystemClock
from pelagos.ports.errors import OutageError, RejectedError, refusing_full_disk
from pelagos.ports.owned import Owned
from pelagos.ports.serving import DesiredService, ObservedService, ProbeResult, ServiceState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

HEALTH_TIMEOUT = 2.0
_KEEP_SECONDS = 1.0
"""Seconds between two checks that Envoy runs."""
_LEAVE = timedelta(minutes=5)
"""How long a replaced server may take for its last requests; the gateway allows no request more time."""
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class TritonLocal:
    """Implements Serving. ``home`` is the installation's folder; ``environments`` contains the environment ``triton``.

    ``probe_timeout`` is in seconds; ``hosts`` are host names that clients may use for the gateway, besides those of loopback.
    """

    def __init__(
        self,
        home: Path,
        environments: Path,
        *,
        probe_timeout: float = model_probe.TIMEOUT,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self._probe_timeout = probe_timeout
        self._home = home.absolute()
        self.services = self._home / "services"
        self._backends = self._home / "triton-backends"
        self._environment = environments.absolute() / "triton"
        self._clock = SystemClock()
        self._created = self._clock.now()
        self._since: dict[str, tuple[tuple[Server, ServiceState], datetime]] = {}
        self._wrong: dict[str, tuple[Server, str]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._fault = ""
        self.gateway = Gateway(self._home, self._environment, hosts)

    async def observe(self, uid: str) -> ObservedService | None:
        """The endpoint's present state, after the next step of a change in progress; None when there is no endpoint."""
        service = self._service(uid)
        self._watch()
        with refusing_full_disk(SYSTEM, self.services):
            await self._advance(uid)
        state = records.read(service)
        server = state.newest
        if server is None:
            return None
        folder = self.folder(uid, server)
        want = await asyncio.to_thread(copies.recorded, folder.served)
        if want is None:
            return None
        found, message = await self._look(uid, state, server)
        folder.bound_log()
        ports = self.gateway.ports(uid) if any(known.is_alive for known in state.servers) else None
        return ObservedService(
            digest=server.digest,
            state=found,
            message=message,
            grpc_url=f"{HOST}:{ports.grpc}" if ports else "",
            http_url=f"http://{HOST}:{ports.http}" if ports else "",
            metrics_url=f"http://{HOST}:{ports.metrics}/metrics" if ports else "",
            onnx_sha256=want.onnx_sha256,
            restarts=server.restarts,
            changed_at=self._changed_at(uid, server, found),
            pods_digest=want.pod_template_digest,
            is_alone=True,
        )

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """All services on this machine, one per folder; ``namespaces`` is ignored."""
        del namespaces
        return tuple(await asyncio.to_thread(self._all))

    def _all(self) -> Iterator[Owned]:
        for folder in sorted(self.services.iterdir()) if self.services.is_dir() else ():
            if not _UID.fullmatch(folder.name) or not folder.is_dir():
                continue
            server = records.read(folder).newest
            want = copies.recorded(self.folder(folder.name, server).served) if server else None
            made = server.started_at if server else datetime.fromtimestamp(folder.stat().st_mtime, UTC)
            name, namespace = (want.name, want.namespace) if want else (folder.name, "")
            yield Owned(name, folder.name, namespace, made, kept=server is None)

    async def apply(self, want: DesiredService) -> None:
        """Start the endpoint, change it as desired, or restart it if it died. Returns without waiting for the model."""
        service = self._service(want.uid)
        self._watch()
        with refusing_full_disk(SYSTEM, self.services):
            async with locks.held(SYSTEM, self._lock_of(want.uid)):
                state = records.read(service)
                # The newest first: if two servers are for the same desired service, the following one is about to take over.
                known = [server for server in (state.following, state.current) if server is not None]
                # Compare the recorded service and not only the digest: one that only scales differently has another digest,
                # but needs no other server.
                same = next((one for one in known if one.digest == want.digest or self._is_recorded(one, want)), None)
                if same is not None and same.is_alive and self._is_recorded(same, want):
                    if same.digest != want.digest:
                        # Write the folder's record first: once observe reports the new digest from state.json, nobody would
                        # come back to write the record.
                        copies.record(self.folder(want.uid, same).served, want)
                        state = state.changed(replace(same, digest=want.digest))
                        records.write(service, state)
                    if state.following is not None and same.number != state.following.number:
                        # Changed back while the other was being probed. Drop its record before ending it: a server that is
                        # still recorded would be taken for one that died.
                        records.write(service, replace(state, following=None))
                        await self._forget(want.uid, state.following)
                else:
                    await self._start(want, state, same)
                # Still under the lock, so that the gateway gets exactly the state that was just written.
                await self._keep()

    async def probe(self, uid: str) -> ProbeResult:
        """Send the package's probe image and compare with what the training framework answered."""
        state = records.read(self._service(uid))
        server = state.newest
        if server is None or not server.is_alive:
            return ProbeResult(correct=False, message="there is no server to probe", latency=0.0)
        if server is state.current:
            # Through the gateway, like clients, but on a private socket that they cannot exhaust.
            return await self._probe(uid, server, self.gateway.private(uid))
        return await self._probe(uid, server, self.folder(uid, server).upstream.grpc)

    async def restart(self, uid: str) -> None:
        """Kill the newest server, which runs but answers wrongly, so that ``apply`` restarts it. No effect when there is none."""
        service = self._service(uid)
        if service.exists():
            async with locks.held(SYSTEM, self._lock_of(uid)):
                server = records.read(service).newest
                if server is not None:
                    await self.folder(uid, server).stop(server.process)

    async def retire(self, uid: str) -> None:
        """No effect: endpoints of other engines are on a cluster."""

    async def stop(self, uid: str) -> None:
        """Stop the endpoint and remove its files, which are only copies of packages."""
        await self.remove(uid)

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Stop the endpoint with all its processes, and remove its files unless ``keep_files``. No effect when there is none."""
        service = self._service(uid)
        self._since.pop(uid, None)
        self._wrong.pop(uid, None)
        # Even if the folder no longer exists: a person who deleted it has not ended the server.
        async with locks.held(SYSTEM, self._lock_of(uid)):
            state = records.read(service)
            # First stop the requests, then the servers, then remove the files: no request is sent to a server that is ending.
            records.forget(service)
            await self._keep()
            for server in state.servers:
                await self.folder(uid, server).stop(server.process)
            await self._end_strays(uid)
            if not keep_files:
                await asyncio.to_thread(copies.remove, service)
            # We hold the lock until the folder is removed; anyone who waits for it creates a new lock file.
            self._lock_of(uid).unlink(missing_ok=True)
            sockets.tidy(self._home)

    async def close(self) -> None:
        """Stop watching the gateway. Servers and gateway keep running."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None

    def _service(self, uid: str) -> Path:
        if not _UID.fullmatch(uid):
            raise RejectedError(SYSTEM, f"{uid!r} is not a uid")
        return self.services / uid

    def folder(self, uid: str, server: Server | int) -> ServerFolder:
        """The folder of one server of a service."""
        number = server if isinstance(server, int) else server.number
        run = sockets.folder(self._home)
        return ServerFolder(self.services / uid, number, self._environment, self._backends, run)

    # --- starting

    async def _start(self, want: DesiredService, state: State, same: Server | None) -> None:
        """Start the desired server: in place of one that died (``same``), or next to the current one until this one is proven."""
        uid, service = want.uid, self.services / want.uid
        number = same.number if same is not None else await asyncio.to_thread(_number, service, want, state)
        folder = self.folder(uid, number)
        # Copy and verify the package before ending anything, so that a refused package does not affect the running server.
        prepared = None
        if not await asyncio.to_thread(copies.is_usable, folder.served, want):
            others = [self.folder(uid, server).path for server in state.servers]
            prepared = await asyncio.to_thread(copies.prepare, want, folder.path, others)
        # A running server without a record is one whose folder somebody deleted; it would use memory next to the new one.
        if not state.servers:
            await self._end_strays(uid)
        # The server that has the requests stays until its successor is proven. A following server that is no longer wanted makes
        # room, and so does a dead one.
        gone = [server for server in (state.current, state.following) if server is not None and server is not same]
        if state.current is not None and state.current in gone and state.current.is_alive:
            gone.remove(state.current)
        for server in gone:
            await self._forget(uid, server)
        # Stop it before its files are replaced, and start it afterwards: a server reads them as it starts, and two must not
        # share sockets.
        await folder.stop(same.process if same is not None else None)
        if prepared is not None:
            await asyncio.to_thread(copies.install, prepared, folder.served)
        restarts = 0
        if same is not None:
            # A shutdown of the installation is not a death. Deaths are reported, and each lengthens the pause before `_revive`.
            is_death = same.process is not None and not orderly.has_ended(self._home, same.started_at)
            restarts = same.restarts + is_death
        server = Server(number, want.model_name, want.digest, restarts, self._clock.now(), None)
        stays = state.current if state.current not in (*gone, same) else None
        after = replace(state, current=stays or server, following=server if stays else None)
        # Record the intent, start the process, then record its id. If we die in between, there is a record without a process,
        # and the next look ends any process of it (ServerFolder.stop) before it starts another.
        records.write(service, after)
        process = await asyncio.to_thread(folder.start)
        records.write(service, after.changed(replace(server, process=process)))

    async def _forget(self, uid: str, server: Server) -> None:
        folder = self.folder(uid, server)
        await folder.stop(server.process)
        await asyncio.to_thread(shutil.rmtree, folder.path, ignore_errors=True)

    async def _end_strays(self, uid: str) -> None:
        """End the service's servers that no state records."""
        known = f"--model-repository={self.services / uid}"
        numbers = [int(path.name) for path in (self.services / uid).glob("[0-9]*") if path.name.isdigit()]
        for number in numbers:
            await self.folder(uid, number).stop(None)
        for stray in groups.strays(known):
            await end(stray)

    # --- changing

    async def _advance(self, uid: str) -> None:
        """Take the next step of a change, unless somebody else is doing it."""
        service = self.services / uid
        state = records.read(service)
        if state.following is None and not state.leaving:
            return
        # Do not wait for the lock: its holder is changing the service right now, and the next look finds the result.
        with locks.held_if_free(self._lock_of(uid)) as is_ours:
            if is_ours:
                state = records.read(service)
                if state.following is not None:
                    state = await self._take_over(uid, state, state.following)
                await self._end_leaving(uid, state)

    async def _take_over(self, uid: str, state: State, following: Server) -> State:
        """Switch requests to the new server once it is proven, or there is no other; keep the old one running until then."""
        current = state.current
        # Being loaded is not enough: a server must pass the package's probe, on its own socket, before it gets requests.
        found, _ = await self._ask_server(uid, following)
        is_right = False
        if found is ServiceState.LOADED:
            result = await self._probe(uid, following, self.folder(uid, following).upstream.grpc)
            is_right = result.correct
            if not is_right:
                self._wrong[uid] = (following, result.message)
        # Check the old server too: an unproven new one takes over only if the old one cannot serve.
        if current is not None and not is_right:
            of_current, _ = await self._ask_server(uid, current)
            if of_current in (ServiceState.LOADED, ServiceState.STARTING):
                return state
            if of_current in (ServiceState.DEAD, ServiceState.ENDED) and found is not ServiceState.STARTING:
                return await self._revive(uid, state, current)
        leaving = (
            (*state.leaving, replace(current, released_at=self._clock.now())) if current is not None else state.leaving
        )
        # Write the record before the gateway. If we die in between, the gateway is outdated, and the next look updates it. In
        # the other order, requests would go to a server that is not recorded.
        after = State(current=following, leaving=leaving)
        records.write(self.services / uid, after)
        self._wrong.pop(uid, None)
        await self._keep()
        return after

    async def _revive(self, uid: str, state: State, current: Server) -> State:
        """Restart the old server, which died while the new one is not usable."""
        # With growing pauses, by a monotonic clock: otherwise a server that dies at once would be restarted at every look.
        began = (uid, current.number, current.restarts)
        if self._clock.age(began, current.started_at) < timedelta(seconds=min(30, 2**current.restarts)):
            return state
        folder = self.folder(uid, current)
        want = await asyncio.to_thread(copies.recorded, folder.served)
        if want is None:
            return state
        await folder.stop(current.process)
        try:
            # The files may have been altered since they were loaded: verify them, and rebuild them if possible.
            if not await asyncio.to_thread(copies.is_usable, folder.served, want):
                prepared = await asyncio.to_thread(copies.prepare, want, folder.path)
                await asyncio.to_thread(copies.install, prepared, folder.served)
        except RejectedError:
            return state  # altered, and no intact copy left: only the newly desired server may start
        again = replace(current, restarts=current.restarts + 1, started_at=self._clock.now(), process=None)
        records.write(self.services / uid, replace(state, current=again))
        process = await asyncio.to_thread(folder.start)
        after = replace(state, current=replace(again, process=process))
        records.write(self.services / uid, after)
        return after

    async def _end_leaving(self, uid: str, state: State) -> None:
        """End replaced servers that have no requests left, or took too long for them."""
        for server in state.leaving:
            folder = self.folder(uid, server)
            left = (uid, server.number, "released")
            is_late = server.released_at is None or self._clock.age(left, server.released_at) > _LEAVE
            # Ask both: the gateway may have a request that has not reached the server yet, and the server an open connection.
            if server.is_alive and not is_late and (await self.gateway.uses(folder) or folder.connections):
                continue
            await self._forget(uid, server)
            state = replace(state, leaving=tuple(other for other in state.leaving if other is not server))
            records.write(self.services / uid, state)

    # --- the gateway

    def _watch(self) -> None:
        """Start the background task that keeps the gateway running, unless it runs."""
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep_on())

    async def _keep_on(self) -> None:
        while True:
            with contextlib.suppress(OutageError, OSError):  # reported with the services' state (_fault)
                await self._keep()
            await asyncio.sleep(_KEEP_SECONDS)

    async def _keep(self) -> None:
        self._fault = ""
        try:
            await self.gateway.keep(self._upstreams)
        except (OutageError, OSError) as error:
            self._fault = f": {error}"
            raise

    def _upstreams(self) -> dict[str, tuple[str, ServerFolder]]:
        found = {}
        for path in self.services.glob(f"[!.]*/{records.NAME}"):
            current = records.read(path.parent).current
            if current is not None and _UID.fullmatch(path.parent.name):
                found[path.parent.name] = (current.model, self.folder(path.parent.name, current))
        return found

    # --- looking

    async def _look(self, uid: str, state: State, server: Server) -> tuple[ServiceState, str]:
        found, message = await self._ask_server(uid, server)
        if server is not state.current:
            goes_on = "; the previous model is still served"
            wrong = self._wrong.get(uid)
            if found is ServiceState.LOADED and wrong is not None and _is_same(wrong[0], server):
                return ServiceState.LOAD_FAILED, f"its answer is not correct: {wrong[1]}{goes_on}"
            if found is ServiceState.LOADED:
                return ServiceState.STARTING, f"the new server is verified{goes_on}"
            return found, f"{message}{goes_on}" if state.current is not None and state.current.is_alive else message
        if found is ServiceState.LOADED and not await self.gateway.has(uid):
            return ServiceState.STARTING, f"the gateway in front of the server starts{self._fault}"
        return found, message

    async def _ask_server(self, uid: str, server: Server) -> tuple[ServiceState, str]:
        folder = self.folder(uid, server)
        if not server.is_alive and orderly.has_ended(self._home, server.started_at):
            return ServiceState.ENDED, orderly.WORDS
        if not server.is_alive:
            return ServiceState.DEAD, folder.last_error() or "the server's process has ended"
        ready = await _ask(folder, "GET", f"v2/models/{server.model}/ready")
        if ready is None:
            before = self._since.get(uid)
            if before is not None and _is_same(before[0][0], server) and before[0][1] is ServiceState.LOADED:
                # It had loaded the model before, so it is hanging, not loading. Report it as loaded: the probe will find out.
                return ServiceState.LOADED, "the server does not answer its health check"
            return ServiceState.STARTING, "the server starts and loads the model"
        if ready[0] == 200:
            folder.close_regions()
            return ServiceState.LOADED, ""
        index = await _ask(folder, "POST", "v2/repository/index")
        entries = index[1] if index is not None and isinstance(index[1], list) else []
        entry: dict[str, Any] = next((entry for entry in entries if entry.get("name") == server.model), {})
        if entry.get("state") == "UNAVAILABLE":
            return ServiceState.LOAD_FAILED, str(entry.get("reason", "")) or folder.last_error()
        return ServiceState.STARTING, "the server loads the model"

    async def _probe(self, uid: str, server: Server, socket: str) -> ProbeResult:
        folder = self.folder(uid, server)
        want = await asyncio.to_thread(copies.recorded, folder.served)
        if want is None:
            return ProbeResult(correct=False, message="there is no server to probe", latency=0.0)
        known = await asyncio.to_thread(model_probe.read, folder.served / "package")
        return await model_probe.probe(f"unix:{socket}", want, known, self._probe_timeout)

    def _is_recorded(self, server: Server, want: DesiredService) -> bool:
        """Whether a server is for this desired service, ignoring its scaling: on one machine there is always one server."""
        known = copies.recorded(self.folder(want.uid, server).served)
        return known is not None and replace(known, digest=want.digest, scaling=want.scaling) == want

    def _changed_at(self, uid: str, server: Server, found: ServiceState) -> datetime:
        """When this engine first saw the server's present state; for the first one, its own start or the server's if later."""
        known = self._since.get(uid)
        if known is None or not _is_same(known[0][0], server) or known[0][1] is not found:
            begun = max(server.started_at, self._created) if known is None else self._clock.now()
            known = self._since[uid] = ((server, found), begun)
        return known[1]

    def _lock_of(self, uid: str) -> Path:
        """The lock file for changes of a service. Next to its folder, because it is held until the folder is removed."""
        return self.services / f".{uid}.lock"


def _is_same(one: Server, other: Server) -> bool:
    """Whether both are the same process of the same server."""
    return (one.number, one.process) == (other.number, other.process)


def _number(service: Path, want: DesiredService, state: State) -> int:
    """The number of an unused folder that was kept for exactly this desired service, else a new number."""
    used = {server.number for server in state.servers}
    numbers = {int(path.name) for path in service.glob("[0-9]*") if path.name.isdigit()}
    for number in sorted(numbers - used, reverse=True):
        if copies.recorded(service / str(number) / "served") == want:
            return number
    return max(numbers | used, default=0) + 1


async def _ask(folder: ServerFolder, method: str, path: str) -> tuple[int, Any] | None:
    """Status and JSON body of the server's answer; None when it does not answer."""
    # Do not keep connections: a server that is shutting down waits for open ones, even if they are idle.
    connector = aiohttp.UnixConnector(folder.upstream.http, force_close=True)
    timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, f"http://localhost/{path}") as response,
        ):
            body = await response.read()
    except (aiohttp.ClientError, OSError):
        return None
    return response.status, copies.parse(body)
