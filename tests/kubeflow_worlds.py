"""The engine kubeflow with a fake server in which nothing runs by itself: tests move steps forward."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kfp_fake_server.by_hand import ByHand
from kfp_fake_server.processes import Processes
from kfp_fake_server.server import FakeServer
from kfp_fake_server.store import Run
from pelagos.engines.kubeflow.ending import Timeouts
from pelagos.engines.kubeflow.engine import Kubeflow, KubeflowConfig
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.engines.kubernetes.objects import Collection
from pelagos.ports.clock import FakeClock
from pelagos.ports.pipelines import PipelineRun, RunName, RunRequest

COMPILED = Path(__file__).parents[1] / "pipelines" / "pelagos_pipelines" / "compiled"
UID = "3c9a8f4e-0000-4000-8000-000000000001"
NAME = RunName(f"dataset-{UID}-0123456789ab")
TIMEOUTS = Timeouts(end=1.0, unconfirmed=3.0, poll=0.02, look=timedelta())
SECONDS = 60.0


def make_request(name: str = NAME, **changes: Any) -> RunRequest:
    """A preparation of the resource reef/frames."""
    request = RunRequest(
        RunName(name),
        "dataset-preparation",
        {"request": "{}", "data_root": "/data", "store": "/store", "report": "/report"},
        labels={"pelagos.dev/uid": UID, "pelagos.dev/resource": "dataset/reef/frames"},
        namespace="reef",
    )
    return replace(request, **changes)


class Shown:
    """The pods and Workflows of a hand as the engine reads them.

    ``refusal`` is raised in place of an answer; ``missing`` are kinds that are not served.
    """

    def __init__(self, hand: ByHand | Processes) -> None:
        self._hand = hand
        self.refusal: Exception | None = None
        self.missing: set[str] = set()
        self.more: list[dict[str, Any]] = []
        """Further objects."""
        self.looks = 0

    async def list(
        self,
        kind: Collection,
        namespace: str = "",
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        *,
        most: int = 0,
    ) -> list[dict[str, Any]]:
        """Objects with all these labels, about the object that ``fields`` name."""
        self.looks += 1
        if self.refusal is not None:
            raise self.refusal
        if kind.plural in self.missing:
            return []
        workflows = [render() | {"kind": "Workflow"} for render in self._hand.workflows.values()]
        found = [*self._hand.bodies.values(), *workflows, *self.more]
        asked = [body for body in found if body["kind"] == kind.kind and _carries(body, namespace, labels or {})]
        about = (fields or {}).get("involvedObject.name")
        asked = [body for body in asked if about is None or body["involvedObject"]["name"] == about]
        return copy.deepcopy(asked[:most] if most else asked)

    async def get(self, kind: Collection, namespace: str, name: str) -> dict[str, Any] | None:
        """The object of this name; None without one."""
        return next((body for body in await self.list(kind, namespace) if body["metadata"]["name"] == name), None)

    async def serves(self, kind: Collection) -> bool:
        """Whether the cluster serves this kind."""
        return kind.plural not in self.missing


def _carries(body: Mapping[str, Any], namespace: str, labels: Mapping[str, str]) -> bool:
    metadata = body["metadata"]
    is_there: bool = metadata.get("namespace", namespace) == namespace
    return is_there and all(metadata.get("labels", {}).get(key) == value for key, value in labels.items())


@dataclass
class Cluster:
    """The engine, its server, and its steps. ``namespaces`` plays the operator's cache: namespaces of resources by uid."""

    server: FakeServer
    hand: ByHand
    site: KubeflowConfig
    namespaces: dict[str, str]
    clock: FakeClock
    engine: Kubeflow = field(init=False)
    shown: Shown = field(init=False)

    def __post_init__(self) -> None:
        self.shown = Shown(self.hand)
        self.engine = self.new_engine()

    def new_engine(self, **connection: Any) -> Kubeflow:
        """The engine of a freshly started operator: it remembers nothing."""
        self.clock.set(datetime.now(UTC))
        rest = KubeflowRest(self.server.url, **connection)
        return Kubeflow(rest, self.site, objects=self.shown, clock=self.clock)

    def runs(self, name: str = NAME) -> list[Run]:
        """All runs of a name that the server has, the oldest first."""
        return [run for run in self.server.store.runs.values() if run.name.rpartition("-a")[0] == name]

    async def until(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Wait until the condition holds in the server."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not come true in {SECONDS} s"
            await asyncio.sleep(0.01)

    async def begin(self, run: Run) -> None:
        """Wait for the run's step, and let it begin."""
        await self.until(lambda: run.identifier in self.hand.alive, f"{run.name} begins")
        self.hand.begin(run.identifier)

    async def finish(self, run: Run, message: str = "") -> None:
        """Let the run's only step end; with a message, as a failure."""
        await self.begin(run)
        self.hand.finish(run.identifier, message)
        await self.until(lambda: run.state in {"SUCCEEDED", "FAILED"}, f"{run.name} ends")

    async def find(self, name: str = NAME) -> PipelineRun:
        """The run of this name, which must exist, read now."""
        self.clock.set(datetime.now(UTC))
        run = await self.engine.find(RunName(name))
        assert run is not None
        return run

    def later(self, **passed: float) -> None:
        """Set the operator's clock to now plus the given time."""
        self.clock.set(datetime.now(UTC) + timedelta(**passed))
