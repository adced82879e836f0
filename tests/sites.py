"""A site for integration tests: the unmodified operator, with kopf, against a real API server; engines are the shipped fakes.

Input: resources, created through the API server as a user would. Output: their status, events, and the requests that the fakes
got. Not intercepted: the watch, finalizers, status patches.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import kopf
import pytest

import kstatus
import reports
from control_plane import ControlPlane
from pelagos import wiring
from pelagos.api import meta
from pelagos.api.kinds import KINDS
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.handlers import resources
from pelagos.ports.authority import Authority
from pelagos.ports.clock import SystemClock
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.gateway import Gateway
from pelagos.ports.pipelines import RunName
from pelagos.ports.tenants import OneTenant, Tenants
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.probes import Probes
from pelagos.settings import Settings

PLURALS = {kind.kind: kind.plural for kind in KINDS}


@dataclass
class Fakes:
    """The outside world, which outlives operators."""

    pipelines: PipelinesFake = field(default_factory=PipelinesFake)
    tracking: TrackingFake = field(default_factory=TrackingFake)
    registry: RegistryFake = field(default_factory=RegistryFake)
    serving: ServingFake = field(default_factory=ServingFake)
    objects: ObjectsFake = field(default_factory=ObjectsFake)
    volumes: VolumesFake = field(default_factory=VolumesFake)
    authority: Authority = field(default_factory=lambda: Authority(KeysFake()))
    gateway: Gateway = field(default_factory=Gateway)

    def leave(self, run: RunName, result: Mapping[str, Any]) -> None:
        """Write the result of a run's steps."""
        reports.leave(self.objects, self.authority, self.pipelines.runs[run].request, result)

    def refuse(self, run: RunName, failure: Mapping[str, Any]) -> None:
        """Fail a step of a run with an error that a person must fix."""
        reports.refuse(self.objects, self.authority, self.pipelines.runs[run].request, failure)
        self.pipelines.fail(run, "a step ended with an error")

    def tell(self, run: RunName, progress: Mapping[str, Any]) -> None:
        """Write the progress of a run's step."""
        reports.tell(self.objects, self.authority, self.pipelines.runs[run].request, progress)


@dataclass
class Site:
    """One namespace of the API server, with the operator watching it."""

    plane: ControlPlane
    namespace: str
    home: Path
    watch_selector: str = ""
    fakes: Fakes = field(default_factory=Fakes)
    make_tenants: Callable[[wiring.Credentials], Tenants] = lambda _credentials: OneTenant()
    _stop: asyncio.Event | None = None
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def path(self, kind: str, name: str = "") -> str:
        """The path of a resource, or of all resources of a kind."""
        base = f"/apis/{meta.API_VERSION}/namespaces/{self.namespace}/{PLURALS[kind]}"
        return f"{base}/{name}" if name else base

    async def call(self, method: str, path: str, body: Any = None, **named: Any) -> Any:
        """Call the API server in a thread: the operator runs in the same event loop and must not be blocked."""
        return await asyncio.to_thread(functools.partial(self.plane.request, method, path, body, **named))

    async def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> Any:
        """Create a resource."""
        body = {"apiVersion": meta.API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await self.call("POST", self.path(kind), body)

    async def get(self, kind: str, name: str) -> Any:
        """Read a resource."""
        body = await self.call("GET", self.path(kind, name))
        assert not kstatus.contradiction(body)
        return body

    async def patch(self, kind: str, name: str, patch: Mapping[str, Any]) -> Any:
        """Merge a patch into a resource."""
        return await self.call("PATCH", self.path(kind, name), patch, kind="application/merge-patch+json")

    async def delete(self, kind: str, name: str) -> None:
        """Delete a resource; returns before it is removed."""
        await self.call("DELETE", self.path(kind, name))

    async def wait(
        self, kind: str, name: str, holds: Callable[[Mapping[str, Any]], bool], *, seconds: float = 60
    ) -> Mapping[str, Any]:
        """Wait until ``holds`` is true of the resource; fails with its status."""
        deadline = time.monotonic() + seconds
        body: Mapping[str, Any] = {}
        while time.monotonic() < deadline:
            body = await self.get(kind, name)
            if holds(body):
                return body
            await asyncio.sleep(0.1)
        pytest.fail(f"{kind} {name} did not come so far: {body.get('status')}")

    async def wait_gone(self, kind: str, name: str, *, seconds: float = 60) -> None:
        """Wait until the resource no longer exists."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            names = [item["metadata"]["name"] for item in (await self.call("GET", self.path(kind)))["items"]]
            if name not in names:
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"{kind} {name} is still there")

    def settings(self) -> Settings:
        """The operator's settings: it is an administrator, and watches this namespace alone."""
        return Settings(
            home=self.home,
            probe_interval=1,
            kubeconfig=self.plane.kubeconfig,
            namespace=self.namespace,
            watch_selector=self.watch_selector,
        )

    async def start_operator(self) -> None:
        """Start an operator with an empty memory."""
        self._stop, ready = asyncio.Event(), asyncio.Event()
        self._stopped.clear()
        settings = self.settings()
        prepared = resources.prepared(settings, functools.partial(self._operate, settings))
        operator = kopf.operator(**prepared, stop_flag=self._stop, ready_flag=ready)
        self._task = asyncio.create_task(operator)
        await asyncio.wait_for(ready.wait(), 60)

    async def stop_operator(self) -> None:
        """Stop the operator gracefully."""
        if self._task is not None and self._stop is not None:
            self._stop.set()
            await asyncio.wait_for(self._stopped.wait(), 60)
            # kopf would now wait 5 seconds for every task of the event loop, and the test itself is one of them.
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        # The operator wrote its cluster there, for kopf (handlers.resources.prepared); other tests must not find it.
        os.environ.pop("KUBECONFIG", None)

    async def _operate(self, settings: Settings, credentials: wiring.Credentials) -> wiring.Operator:
        api = wiring.rest_client(credentials)
        clock, fakes = SystemClock(), self.fakes
        world = Dependencies(
            cluster=KubernetesApi(api),
            pipelines=fakes.pipelines,
            tracking=fakes.tracking,
            registry=fakes.registry,
            serving=fakes.serving,
            objects=fakes.objects,
            volumes=fakes.volumes,
            tenants=self.make_tenants(credentials),
            authority=fakes.authority,
            gateway=fakes.gateway,
            clock=clock,
            cache=Cache(),
            probes=Probes(fakes.serving, clock, timedelta(seconds=settings.probe_interval)),
        )
        closing = (api.close, self._tell_stopped)
        return await wiring.operate(settings, world, closing=closing, oversight=wiring.oversee(settings, api, {}))

    async def _tell_stopped(self) -> None:
        self._stopped.set()


def condition(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The condition of this type; empty if there is none."""
    return next((entry for entry in body.get("status", {}).get("conditions", ()) if entry["type"] == name), {})


def is_ready(body: Mapping[str, Any]) -> bool:
    """Whether the resource is Ready for its current generation."""
    ready = condition(body, "Ready")
    return ready.get("status") == "True" and ready["observedGeneration"] == body["metadata"]["generation"]


def has_reason(reason: str) -> Callable[[Mapping[str, Any]], bool]:
    """Returns a check that Ready has this reason."""
    return lambda body: condition(body, "Ready").get("reason") == reason
