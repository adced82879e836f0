"""The real operator, with kopf and a Lease, over a pipeline engine that two of them share. See test_two_operators.py.

Every change outside is written to a journal with its author and time, to prove that only the leader makes changes.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pelagos.__main__  # noqa: F401  keeps kopf from importing the official client, here as well
from pelagos import wiring
from pelagos.engines.kubernetes.api import KubernetesApi
from pelagos.handlers import resources
from pelagos.observability import logs
from pelagos.ports.authority import Authority
from pelagos.ports.clock import SystemClock, monotonic
from pelagos.ports.fakes.authority import KeysFake
from pelagos.ports.fakes.objects import ObjectsFake
from pelagos.ports.fakes.registry import RegistryFake
from pelagos.ports.fakes.serving import ServingFake
from pelagos.ports.fakes.tracking import TrackingFake
from pelagos.ports.fakes.volumes import VolumesFake
from pelagos.ports.owned import Owned
from pelagos.ports.pipelines import PipelineRun, RunName, RunRequest, RunState
from pelagos.ports.tenants import OneTenant
from pelagos.reconcilers.cache import Cache
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.probes import Probes
from pelagos.settings import Settings


class SharedPipelines:
    """Implements Pipelines in a folder: runs that never end. While the file ``stall`` exists, reading takes long."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def find(self, name: RunName) -> PipelineRun | None:
        """A run; blocks the whole process on demand, as a page fault or a garbage collection would."""
        if (self._folder / "stall").exists():
            (self._folder / f"stalling-{os.getpid()}").touch()
            time.sleep(0.5)  # noqa: ASYNC251 - that is the point
        if not (self._folder / name).exists():
            return None
        return PipelineRun(name, RunState.RUNNING, 1, "", 1, "", "", None, None)

    async def find_owned(self, uid: str) -> tuple[PipelineRun, ...]:
        """None: nothing is cleaned up here."""
        del uid
        return ()

    async def owned(self, namespaces: Collection[str]) -> tuple[Owned, ...]:
        """None: no test needs them."""
        del namespaces
        return ()

    async def submit(self, request: RunRequest) -> PipelineRun:
        """Create the run."""
        self._note("submit", request.name)
        (self._folder / request.name).touch()
        return PipelineRun(request.name, RunState.PENDING, 1, "", 1, "", "", None, None)

    async def cancel(self, name: RunName) -> None:
        """Only recorded in the journal."""
        self._note("cancel", name)

    async def delete(self, name: RunName) -> None:
        """Only recorded in the journal."""
        self._note("delete", name)

    def _note(self, call: str, name: str) -> None:
        entry = {"pid": os.getpid(), "at": monotonic(), "call": call, "name": name}
        with (self._folder / "journal.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")


async def start(settings: Settings, credentials: wiring.Credentials) -> wiring.Operator:
    """Does what wiring.start does, with these engines."""
    api, serving, clock = wiring.rest_client(credentials), ServingFake(), SystemClock()
    volumes = VolumesFake()
    volumes.put("plankton/1.png", "pixels")
    world = Dependencies(
        cluster=KubernetesApi(api),
        pipelines=SharedPipelines(Path(os.environ["SHARED_FOLDER"])),
        tracking=TrackingFake(),
        registry=RegistryFake(),
        serving=serving,
        objects=ObjectsFake(),
        volumes=volumes,
        tenants=OneTenant(),
        authority=Authority(KeysFake()),
        clock=clock,
        cache=Cache(),
        probes=Probes(serving, clock, timedelta(seconds=settings.probe_interval)),
    )
    closing = (api.close,)
    return await wiring.operate(settings, world, closing=closing, oversight=wiring.oversee(settings, api, {}))


def main() -> None:
    """Run until SIGTERM."""
    import kopf

    settings = Settings()
    assert settings.namespace is not None
    logs.configure()
    kopf.run(**resources.prepared(settings, functools.partial(start, settings)))


if __name__ == "__main__":
    main()
