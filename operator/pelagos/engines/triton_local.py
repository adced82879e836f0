"""Serving on this machine: one detached Triton server per ModelService. Called by the reconciler of ModelServices.

A server outlives the operator and is known again by its state file. ``<home>/services/<uid>/`` holds ``state.json`` (process,
ports, secret), ``served/`` (the model as it was wanted last) and ``triton.log``. A change of the want ends the server and
starts it with the new one on the same ports, which takes seconds; a package that is refused leaves the old server alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp

from pelagos.engines import model_probe, triton_local_package
from pelagos.engines.triton_local_server import HOST, SECRET_HEADER, SYSTEM, ServerFolder, State, taken_ports
from pelagos.ports.errors import OutageError, RejectedError
from pelagos.ports.serving import ProbeResult, ServiceSeen, ServiceState, ServiceWant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEALTH_TIMEOUT = 2.0
_LOCK_SECONDS = 60.0
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class TritonLocal:
    """Implements Serving. ``home`` is the installation's folder, ``environments`` holds the environment ``triton``.

    ``probe_timeout`` is in seconds.
    """

    def __init__(self, home: Path, environments: Path, *, probe_timeout: float = model_probe.TIMEOUT) -> None:
        self._probe_timeout = probe_timeout
        self._services = home.absolute() / "services"
        self._backends = home.absolute() / "triton-backends"
        self._environment = environments.absolute() / "triton"
        self._session: aiohttp.ClientSession | None = None
        self._created = datetime.now(UTC)
        self._since: dict[str, tuple[tuple[State, ServiceState], datetime]] = {}

    async def observe(self, uid: str) -> ServiceSeen | None:
        """Look at the endpoint; None when there is none."""
        folder = self._folder(uid)
        state = folder.read_state()
        want = triton_local_package.recorded(folder.served)
        if state is None or want is None:
            return None
        found, message = await self._look(uid, folder, state, want.model_name)
        folder.bound_log()
        runs = found is not ServiceState.DEAD
        return ServiceSeen(
            digest=state.digest,
            state=found,
            message=message,
            grpc_url=f"{HOST}:{state.ports.grpc}" if runs else "",
            http_url=f"http://{HOST}:{state.ports.http}" if runs else "",
            metrics_url=f"http://{HOST}:{state.ports.metrics}/metrics" if runs else "",
            onnx_sha256=want.onnx_sha256,
            restarts=state.restarts,
            changed_at=self._changed_at(uid, state, found),
        )

    async def apply(self, want: ServiceWant) -> None:
        """Start the endpoint, change it to the want, or start it again when dead. Returns without waiting for the model."""
        folder = self._folder(want.uid)
        async with self._alone(want.uid):
            state = folder.read_state()
            is_applied = state is not None and state.digest == want.digest and state.is_alive
            if is_applied and triton_local_package.recorded(folder.served) == want:
                return
            served = None
            if not await asyncio.to_thread(triton_local_package.is_usable, folder.served, want):
                served = await asyncio.to_thread(triton_local_package.prepare, want, folder.path)
            await folder.stop()
            if served is not None:
                await asyncio.to_thread(triton_local_package.install, served, folder.served)
            restarts = 0
            if state is not None and state.digest == want.digest:
                restarts = state.restarts + (state.process is not None)
            taken = taken_ports(self._services)
            await asyncio.to_thread(folder.start, want.model_name, want.digest, restarts, taken)

    async def probe(self, uid: str) -> ProbeResult:
        """Send the package's probe image and compare with what the training framework answered."""
        folder = self._folder(uid)
        state = folder.read_state()
        want = triton_local_package.recorded(folder.served)
        if state is None or want is None or not state.is_alive:
            return ProbeResult(correct=False, message="there is no server to probe", latency=0.0)
        known = model_probe.read(folder.served / "package")
        return await model_probe.probe(f"{HOST}:{state.ports.grpc}", want, known, self._probe_timeout)

    async def restart(self, uid: str) -> None:
        """Kill a server that runs and does not answer right, so that ``apply`` starts it anew. No effect when there is none."""
        folder = self._folder(uid)
        if folder.path.exists():
            async with self._alone(uid):
                await folder.stop()

    async def remove(self, uid: str, *, keep_files: bool = False) -> None:
        """Stop the endpoint and leave no process; remove its files unless told to keep them. No effect when there is none."""
        folder = self._folder(uid)
        self._since.pop(uid, None)
        # Also when the folder is gone: a person who deleted it did not end the server.
        async with self._alone(uid) as lock:
            await folder.stop()
            folder.forget_state()
            if not keep_files:
                await asyncio.to_thread(triton_local_package.remove, folder.path)
            # Held by us until after the folder is gone; whoever waits for it makes a new one.
            lock.unlink(missing_ok=True)

    async def close(self) -> None:
        """Close connections. Servers go on."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _folder(self, uid: str) -> ServerFolder:
        if not _UID.fullmatch(uid):
            raise RejectedError(SYSTEM, f"{uid!r} is no uid")
        return ServerFolder(self._services / uid, self._environment, self._backends)

    async def _look(self, uid: str, folder: ServerFolder, state: State, model: str) -> tuple[ServiceState, str]:
        if not state.is_alive:
            return ServiceState.DEAD, folder.last_error() or "the server's process is gone"
        ready = await self._ask(state, "GET", f"v2/models/{model}/ready")
        if ready is None:
            before = self._since.get(uid)
            if before is not None and before[0] == (state, ServiceState.LOADED):
                # It had loaded the model, so it does not load now, it hangs. The probe finds out.
                return ServiceState.LOADED, "the server does not answer its health check"
            return ServiceState.STARTING, "the server starts and loads the model"
        if ready[0] == 200:
            return ServiceState.LOADED, ""
        index = await self._ask(state, "POST", "v2/repository/index")
        entries = index[1] if index is not None and isinstance(index[1], list) else []
        entry: dict[str, Any] = next((entry for entry in entries if entry.get("name") == model), {})
        if entry.get("state") == "UNAVAILABLE":
            return ServiceState.LOAD_FAILED, str(entry.get("reason", "")) or folder.last_error()
        return ServiceState.STARTING, "the server loads the model"

    async def _ask(self, state: State, method: str, path: str) -> tuple[int, Any] | None:
        """Status and JSON body of an answer of the server; None when it does not answer."""
        if self._session is None:
            # A server that shall end waits for open connections, also for idle ones.
            connector = aiohttp.TCPConnector(force_close=True)
            timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        headers = {SECRET_HEADER: state.secret}
        url = f"http://{HOST}:{state.ports.http}/{path}"
        try:
            async with self._session.request(method, url, headers=headers) as response:
                body = await response.read()
        except (aiohttp.ClientError, OSError):
            return None
        return response.status, triton_local_package.parse(body)

    def _changed_at(self, uid: str, state: State, found: ServiceState) -> datetime:
        """When this engine first saw the server in its present state; what was before its own time counts from its start."""
        known = self._since.get(uid)
        if known is None or known[0] != (state, found):
            begun = max(state.started_at, self._created) if known is None else datetime.now(UTC)
            known = self._since[uid] = ((state, found), begun)
        return known[1]

    @contextlib.asynccontextmanager
    async def _alone(self, uid: str) -> AsyncIterator[Path]:
        """Only one task of one process at a time changes a service. Raises OutageError when another one does not let go."""
        path = self._services / f".{uid}.lock"
        descriptor = await self._lock(path)
        try:
            yield path
        finally:
            os.close(descriptor)

    async def _lock(self, path: Path) -> int:
        deadline = monotonic() + _LOCK_SECONDS
        while (descriptor := _try_lock(path)) is None:
            if monotonic() > deadline:
                raise OutageError(SYSTEM, f"{path} is held by another process; is a second operator running?")
            await asyncio.sleep(0.05)
        return descriptor


def _try_lock(path: Path) -> int | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The last holder may have removed the file between our opening and locking it.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
