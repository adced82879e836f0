"""Asynchronous invocations and buckets of the fake manager: a job is OSCAR's own faas-supervisor, with the service's script.

It gets the event by the shell, as in OSCAR; how it handles the event and reports a failing script is its own code. Buckets are
those of the test's object storage; addresses are signed as MinIO's are.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import tempfile
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

import obstore
from aiohttp import web
from obstore.store import S3Store

from model_packages import ENVIRONMENTS
from object_storage import ObjectStorage
from oscar_fake_server import containers

if TYPE_CHECKING:
    from oscar_fake_server.manager import Deployed, Manager

SUPERVISOR = ENVIRONMENTS / "oscar/bin/python"
"""The interpreter that runs the package ``faassupervisor``, which real containers have as one file."""


@dataclass
class Job:
    """A job. ``status`` is the phase of its pod."""

    folder: Path
    status: str = "Pending"
    task: asyncio.Task[None] | None = None
    pid: int = 0

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


@dataclass
class Jobs:
    """``turn``: jobs begin while it is set, as where a queue holds them; ``storage`` has the buckets; None: there are none."""

    manager: Manager
    storage: ObjectStorage | None = None
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    environment: dict[str, str] = field(default_factory=dict)
    of: dict[str, dict[str, Job]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.turn.set()

    def routes(self) -> list[web.RouteDef]:
        """Routes in addition to those of the manager."""
        return [
            web.post("/job/{serviceName}", self._invoke),
            web.get("/system/logs/{serviceName}", self._list),
            web.delete("/system/logs/{serviceName}", self._forget_all),
            web.get("/system/logs/{serviceName}/{jobName}", self._log),
            web.delete("/system/logs/{serviceName}/{jobName}", self._forget),
            web.get("/system/buckets/{bucket}", self._bucket),
            web.post("/system/buckets", self._make_bucket),
            web.post("/system/buckets/{bucket}/presign", self._sign),
        ]

    def forget(self) -> None:
        """Remove all jobs, as Kubernetes does some time after they ended."""
        for jobs in self.of.values():
            for name in [name for name, job in jobs.items() if job.status in {"Succeeded", "Failed"}]:
                del jobs[name]

    async def close(self) -> None:
        for job in (job for jobs in self.of.values() for job in jobs.values()):
            if job.task is not None and job.status == "Pending":
                job.task.cancel()
            # A job that has begun is waited for: otherwise nobody would end its process.
            while job.task is not None and not job.task.done():
                if job.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(job.pid, signal.SIGKILL)
                await asyncio.wait([job.task], timeout=0.5)
            rmtree(job.folder, ignore_errors=True)

    async def _invoke(self, request: web.Request) -> web.Response:
        deployed = self.manager.services.get(request.match_info["serviceName"])
        if deployed is None:
            return web.Response(status=404)
        if request.headers.get("Authorization") != f"Bearer {deployed.service['token']}":
            return web.Response(status=401)
        event, name = (await request.read()).decode(), deployed.service["name"]
        # Kubernetes accepts no longer variable.
        if len(event) > 131_000:
            return web.Response(status=500, text="Pod is invalid: argument list too long")
        job = Job(Path(tempfile.mkdtemp(prefix="job-")))
        title = f"{name if len(name) < 25 else name[:16]}-{uuid4()}"
        self.of.setdefault(name, {})[title] = job
        job.task = asyncio.create_task(self._run(job, deployed, title, event))
        return web.Response(status=201)

    async def _run(self, job: Job, deployed: Deployed, title: str, event: str) -> None:
        await self.turn.wait()
        job.status, service = "Running", deployed.service
        containers.prepare(job.folder)
        config = {name: service[name] or [] for name in ("input", "output")}
        config |= {"name": service["name"], "storage_providers": service["storage_providers"] or {}}
        environment = {
            **containers.variables(service, self.manager.image, deployed.secrets, job.folder, "127.0.0.1"),
            **self.environment,
            "EVENT": event,
            "JOB_UUID": title,
            "SCRIPT": base64.b64encode(service["script"].encode()).decode(),
            "FUNCTION_CONFIG": base64.b64encode(json.dumps(config).encode()).decode(),
        }
        with (job.folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", f"echo $EVENT | {SUPERVISOR} -W ignore -m faassupervisor.supervisor",
                env=environment, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            job.pid = process.pid
            code = await process.wait()
        job.pid, job.status = 0, "Succeeded" if code == 0 else "Failed"

    def _jobs(self, request: web.Request) -> dict[str, Job]:
        name = self.manager.found(request).service["name"]
        return self.of.setdefault(name, {})

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"jobs": {name: {"status": job.status} for name, job in self._jobs(request).items()}})

    async def _log(self, request: web.Request) -> web.Response:
        job = self._jobs(request).get(request.match_info["jobName"])
        return web.Response(text=job.log()) if job is not None else web.Response(status=404)

    async def _forget(self, request: web.Request) -> web.Response:
        self._jobs(request).pop(request.match_info["jobName"], None)
        return web.Response(status=204)

    async def _forget_all(self, request: web.Request) -> web.Response:
        self._jobs(request)
        self.forget()
        return web.Response(status=204)

    async def _bucket(self, request: web.Request) -> web.Response:
        name = request.match_info["bucket"]
        if not self._has(name):
            return web.Response(status=404, text=f"Bucket '{name}' not found")
        return web.json_response({"bucket_name": name, "visibility": "private"})

    async def _make_bucket(self, request: web.Request) -> web.Response:
        given = json.loads(await request.read())
        assert self.storage is not None
        if self._has(given["bucket_name"]):
            return web.Response(status=400, text="Error creating bucket: the bucket already exists")
        self.storage.make_bucket(given["bucket_name"])
        return web.Response(status=201)

    async def _sign(self, request: web.Request) -> web.Response:
        given: dict[str, Any] = json.loads(await request.read())
        bucket, operation = request.match_info["bucket"], given.get("operation")
        if operation not in {"upload", "download"} or not 1 <= given.get("expires_in", 900) <= 7 * 24 * 3600:
            return web.Response(status=400, text="Invalid presign request")
        if not self._has(bucket):
            return web.Response(status=404, text=f"Bucket '{bucket}' not found")
        assert self.storage is not None
        store = S3Store(
            bucket,
            endpoint=self.storage.url,
            access_key_id=self.storage.access[0],
            secret_access_key=self.storage.access[1],
            region="us-east-1",
            client_options={"allow_http": True},
        )
        method: Literal["GET", "PUT"] = "PUT" if operation == "upload" else "GET"
        seconds = timedelta(seconds=given.get("expires_in", 900))
        url = await obstore.sign_async(store, method, given["object_key"], seconds)
        told = {"object_key": given["object_key"], "operation": operation, "method": method, "url": url}
        return web.json_response(told | {"expires_at": ""})

    def _has(self, bucket: str) -> bool:
        try:
            return self.storage is not None and self.storage.keys(bucket) is not None
        except OSError:
            return False
