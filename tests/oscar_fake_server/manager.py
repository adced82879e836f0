"""A fake server for OSCAR's manager, made after its source: routes and fields are compared with ``published.json``.

Neither Kubernetes nor Knative nor MinIO is behind it, and services are kept in memory. Its answers, refusals and messages follow
pkg/handlers of the source; containers are real processes (containers), and the ingress before them requires the same login as
OSCAR's. ``Faults`` are failures of clusters.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from oscar_fake_server.containers import Container
from oscar_fake_server.jobs import Jobs

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "published.json").read_text())
TICK = 0.1
ADMIN = ("oscar", "an admin's password")
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "int": (int,),
    "int32": (int,),
    "int64": (int,),
    "map[string]string": (dict,),
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Faults:
    """``answers``: status and text by method and beginning of the path; ``after``: the same, but after the work was done.

    ``pulling``: no container begins; ``changes_tokens``: PUT creates another token, as before 4.0; ``seconds``: the delay of
    answers.
    """

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    after: dict[str, tuple[int, str]] = field(default_factory=dict)
    pulling: bool = False
    changes_tokens: bool = False
    seconds: float = 0.0


@dataclass
class Deployed:
    """A service with its containers. ``has_autoscaler``: OSCAR deletes it when a service is stopped, and needs it for changes."""

    service: dict[str, Any]
    secrets: dict[str, str]
    replicas: int
    containers: list[Container] = field(default_factory=list)
    leaving: list[Container] = field(default_factory=list)
    has_autoscaler: bool = True
    is_lost: bool = False

    @property
    def ready(self) -> list[Container]:
        return [each for each in (*self.containers, *self.leaving) if each.is_ready]


class Manager:
    """Serves on ``url`` while entered. ``image`` are variables of the serving image; ``calls`` the requests that arrived."""

    def __init__(self, image: dict[str, str] | None = None) -> None:
        self.image = image or {}
        self.faults = Faults()
        self.services: dict[str, Deployed] = {}
        self.calls: list[str] = []
        self.tokens = {"an-oidc-token": "ada@example.org"}
        self.url = ""
        self.jobs = Jobs(self)
        self.app = web.Application(client_max_size=2**27, middlewares=[self._guard])
        self.app.router.add_routes(self.routes())

    def routes(self) -> list[web.RouteDef]:
        """All routes; the last one is the ingress, which is not part of the manager."""
        named: dict[str, Handler] = {
            "GET /health": self._health,
            "GET /system/info": self._info,
            "GET /system/services": self._list,
            "POST /system/services": self._create,
            "PUT /system/services": self._update,
            "GET /system/services/{serviceName}": self._read,
            "DELETE /system/services/{serviceName}": self._delete,
            "GET /system/services/{serviceName}/deployment": self._status,
            "GET /system/services/{serviceName}/deployment/logs": self._logs,
            "POST /system/services/{serviceName}/stop": self._stop,
            "POST /system/services/{serviceName}/start": self._start,
            "POST /system/services/{serviceName}/restart": self._restart,
        }
        made = [web.route(name.split(" ")[0], name.split(" ")[1], handler) for name, handler in named.items()]
        return [
            *made,
            *self.jobs.routes(),
            web.route("*", "/system/services/{serviceName}/exposed{path:.*}", self._ingress),
        ]

    async def __aenter__(self) -> Manager:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._runner = web.AppRunner(self.app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._is_over = False
        self._work = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not canceled: the processes that it is about to end would be forgotten.
        self._is_over = True
        await self._work
        for deployed in self.services.values():
            await asyncio.gather(*(each.end() for each in (*deployed.containers, *deployed.leaving)))
        await self.jobs.close()
        await self._session.close()
        await self._runner.cleanup()

    # --- actions of the cluster

    async def _keep(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            while not self._is_over:
                for deployed in list(self.services.values()):
                    await self._roll(deployed, session)
                await asyncio.sleep(TICK)

    async def _roll(self, deployed: Deployed, session: aiohttp.ClientSession) -> None:
        if self.faults.pulling or deployed.is_lost:
            return
        while len(deployed.containers) < deployed.replicas:
            deployed.containers.append(Container(deployed.service, self.image, deployed.secrets))
        for each in (*deployed.containers, *deployed.leaving):
            await each.keep(session)
        surplus, deployed.containers = (
            deployed.containers[deployed.replicas :],
            deployed.containers[: deployed.replicas],
        )
        # A new container is ready before an old one is removed, as with Deployments by default. A service that was changed
        # during the probes above has no new one yet.
        if len(deployed.containers) == deployed.replicas and all(each.is_ready for each in deployed.containers):
            surplus += deployed.leaving
            deployed.leaving = []
        await asyncio.gather(*(each.end() for each in surplus))

    # --- who asks, and faults

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        call = f"{request.method} {request.path}"
        if "/exposed" not in request.path:
            self.calls.append(call)
        if self.faults.seconds:
            await asyncio.sleep(self.faults.seconds)
        for begin, (status, text) in self.faults.answers.items():
            if call.startswith(begin):
                return web.Response(status=status, text=text)
        if request.path.startswith("/system") and "/exposed" not in request.path and self._user(request) is None:
            return web.Response(status=401)
        answer = await handler(request)
        for begin, (status, text) in self.faults.after.items():
            if call.startswith(begin):
                return web.Response(status=status, text=text)
        return answer

    def _user(self, request: web.Request) -> str | None:
        """The owner that a login belongs to; None for a wrong login."""
        login = request.headers.get("Authorization", "")
        if login == basic(*ADMIN):
            return "cluster_admin"
        return self.tokens.get(login.removeprefix("Bearer ")) if login.startswith("Bearer ") else None

    def found(self, request: web.Request) -> Deployed:
        """The requested service, if it exists and the login may see it."""
        deployed = self.services.get(request.match_info["serviceName"])
        if deployed is None:
            raise web.HTTPNotFound(text="")
        user = self._user(request)
        if user not in {"cluster_admin", deployed.service["owner"]}:
            raise web.HTTPForbidden(text=f"User {user} doesn't have permission to get this service")
        return deployed

    # --- services

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ok")

    async def _info(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": "v4.1.2", "git_commit": "", "architecture": "amd64"})

    async def _list(self, request: web.Request) -> web.Response:
        user = self._user(request)
        seen = [each.service for each in self.services.values() if user in {"cluster_admin", each.service["owner"]}]
        return web.json_response(seen)

    async def _create(self, request: web.Request) -> web.Response:
        service = await _service(request)
        service["owner"] = self._user(request) or ""
        name = service["name"]
        if name in self.services:
            return web.Response(status=400, text="A service with the provided name already exists")
        if why := _invalid(service):
            return web.Response(status=500, text=f"Error creating the service: {why}")
        given = service["environment"]["secrets"] or {}
        self.services[name] = Deployed(_hidden(service), dict(given), service["expose"]["min_scale"])
        return web.Response(status=201)

    async def _update(self, request: web.Request) -> web.Response:
        service = await _service(request)
        deployed, user = self.services.get(service["name"]), self._user(request)
        if deployed is None:
            return web.Response(status=404)
        before = deployed.service
        if user not in {"cluster_admin", before["owner"]}:
            return web.Response(status=403, text=f"User {user} doesn't have permission to modify this service")
        if why := _invalid(service):
            return web.Response(status=500, text=f"Error updating the service: {why}")
        if not deployed.has_autoscaler:
            text = f'horizontalpodautoscalers.autoscaling "{service["name"]}-hpa" not found'
            return web.Response(status=500, text=f"Error updating the service: {text}")
        service["owner"] = before["owner"]
        if not self.faults.changes_tokens:
            service["token"] = before["token"]
        deployed.secrets |= service["environment"]["secrets"] or {}
        deployed.service = _hidden(service)
        of_pods = ("image", "cpu", "memory", "environment")
        changes_pods = any(before[name] != deployed.service[name] for name in of_pods)
        deployed.replicas = service["expose"]["min_scale"]
        if changes_pods or self.faults.changes_tokens:
            deployed.leaving += deployed.containers
            deployed.containers = []
        return web.Response(status=204)

    async def _read(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        told = dict(deployed.service)
        if "deployment" in request.query.get("include", "").split(","):
            told["deployment"] = _summary(deployed)
        return web.json_response(told)

    async def _delete(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        del self.services[deployed.service["name"]]
        await asyncio.gather(*(each.end() for each in (*deployed.containers, *deployed.leaving)))
        return web.Response(status=204)

    async def _status(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        return web.json_response({"service_name": deployed.service["name"], **_summary(deployed)})

    async def _logs(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        lines = [line for each in (*deployed.leaving, *deployed.containers) for line in each.lines()]
        kept = lines[-min(int(request.query.get("tailLines", "200")), 1000) :]
        told: dict[str, Any] = {"service_name": deployed.service["name"], "available": bool(kept)}
        if not kept:
            told["message"] = "Deployment logs are not yet available."
        return web.json_response(told | {"entries": [{"message": line} for line in kept]})

    async def _stop(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        deployed.replicas, deployed.has_autoscaler = 0, False
        return await self._status(request)

    async def _start(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        deployed.replicas = max(deployed.service["expose"]["min_scale"], 1)
        deployed.has_autoscaler = True
        return await self._status(request)

    async def _restart(self, request: web.Request) -> web.Response:
        deployed = self.found(request)
        deployed.leaving += deployed.containers
        deployed.containers = []
        return await self._status(request)

    # --- the ingress

    async def _ingress(self, request: web.Request) -> web.StreamResponse:
        deployed = self.services.get(request.match_info["serviceName"])
        if deployed is None:
            return web.Response(status=404, text="default backend - 404")
        service = deployed.service
        if service["expose"]["set_auth"] and request.headers.get("Authorization") != _login(service):
            asked = {"WWW-Authenticate": 'Basic realm="Authentication Required"'}
            return web.Response(status=401, text="401 Authorization Required", headers=asked)
        if not deployed.ready:
            return web.Response(status=503, text="<html>503 Service Temporarily Unavailable</html>")
        target = deployed.ready[0]
        # rewrite_target is off: the path is the part after the prefix.
        url = f"http://{target.address}:{service['expose']['api_port'][0]}{request.match_info['path']}"
        kept = {name: value for name, value in request.headers.items() if name.lower() not in {"host", "authorization"}}
        try:
            async with self._session.request(
                request.method, url, data=await request.read(), headers=kept, allow_redirects=False
            ) as answer:
                body = await answer.read()
                shown = {n: v for n, v in answer.headers.items() if n.lower() not in _HOPS}
                return web.Response(status=answer.status, body=body, headers=shown)
        except (aiohttp.ClientError, OSError):
            return web.Response(status=502, text="<html>502 Bad Gateway</html>")


_HOPS = {"content-length", "transfer-encoding", "connection", "content-encoding"}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _login(service: dict[str, Any]) -> str:
    if service["expose"].get("auth_type") == "forward":
        return f"Bearer {service['token']}"
    return basic(service["name"], service["token"])


async def _service(request: web.Request) -> dict[str, Any]:
    """Decode the body as Go does: types are enforced, unknown fields ignored, missing ones get their zero value."""
    wrong = "The service specification is not valid: "
    try:
        given = json.loads(await request.read())
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{wrong}{error}") from error
    made = _read_struct(given, "Service", wrong)
    made["expose"] = _read_struct(given.get("expose") or {}, "Expose", wrong)
    made["environment"] = _read_struct(given.get("environment") or {}, "Environment", wrong)
    failed = "Error:Field validation for '{0}' failed on the '{1}' tag"
    for name in ("name", "image", "script"):
        if not made[name]:
            raise web.HTTPBadRequest(text=f"{wrong}Key: 'Service.{name}' {failed.format(name, 'required')}")
    if len(made["name"]) > 39:
        raise web.HTTPBadRequest(text=f"{wrong}Key: 'Service.Name' {failed.format('Name', 'max')}")
    made["cpu"], made["memory"] = made["cpu"] or "0.2", made["memory"] or "256Mi"
    made["visibility"] = made["visibility"] or "private"
    made["labels"] = (made["labels"] or {}) | {"oscar_service": made["name"]}
    made["token"] = secrets.token_hex(32)
    return made


def _read_struct(given: dict[str, Any], kind: str, wrong: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, go in PUBLISHED["types"][kind].items():
        value = given.get(name)
        allowed = _KINDS.get(go, (list,) if go.startswith("[]") else (dict,))
        is_number = isinstance(value, bool) and bool not in allowed
        if value is not None and (not isinstance(value, allowed) or is_number):
            raise web.HTTPBadRequest(
                text=f"{wrong}json: cannot unmarshal {type(value).__name__} into Go struct field {kind}.{name} of type {go}"
            )
        zero = {"string": "", "bool": False, "int": 0, "int32": 0, "int64": 0}.get(go)
        made[name] = zero if value is None else value
    return made


def _invalid(service: dict[str, Any]) -> str:
    """The message with which Kubernetes behind OSCAR refuses the service; empty if it does not."""
    for name in ("cpu", "memory"):
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?", service[name]):
            return "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", service["name"]):
        return f'ConfigMap "{service["name"]}" is invalid: metadata.name: Invalid value'
    ports = service["expose"]["api_port"] or []
    if ports and service["expose"]["min_scale"] > service["expose"]["max_scale"]:
        return "HorizontalPodAutoscaler is invalid: spec.maxReplicas: Invalid value: must be >= `minReplicas`"
    return ""


def _hidden(service: dict[str, Any]) -> dict[str, Any]:
    """Leave out secrets: OSCAR keeps them in a Kubernetes Secret and never returns them."""
    environment = service["environment"]
    emptied = dict.fromkeys(environment["secrets"] or {}, "")
    return service | {"environment": environment | {"secrets": emptied}}


def _summary(deployed: Deployed) -> dict[str, Any]:
    """The summary that deploymentStatusFromDeployment returns."""
    if deployed.is_lost:
        return {
            "state": "unavailable",
            "reason": "Current deployment resources are unavailable.",
            "active_instances": 0,
            "affected_instances": 0,
            "resource_kind": "unavailable",
        }
    desired, available = deployed.replicas, len(deployed.ready)
    observed = len(deployed.containers) + len(deployed.leaving)
    state, reason = "pending", "MinimumReplicasUnavailable: Deployment does not have minimum availability."
    if desired == 0:
        state, reason = "stopped", "Deployment is stopped."
    elif available >= desired:
        state, reason = "ready", "MinimumReplicasAvailable: Deployment has minimum availability."
    elif available > 0:
        state = "degraded"
    return {
        "state": state,
        "reason": reason,
        "active_instances": observed,
        "affected_instances": max(observed - available, 0),
        "resource_kind": "exposed_service",
    }
