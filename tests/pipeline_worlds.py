"""The worlds in which the contract of the port Pipelines is tested: the shipped fake, and the engines with real runs.

In a world a test decides how a run continues (``succeed``, ``fail``, ``interrupt``), and can ask how often work really began. In
the real worlds each run has a folder: its step records there that it began, and obeys the files that the world puts there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kfp_fake_server.processes import Processes
from kfp_fake_server.server import FakeServer
from kubeflow_worlds import Shown
from pelagos.engines.kfp_local import records
from pelagos.engines.kfp_local.engine import KfpLocal
from pelagos.engines.kfp_local.launch import Launcher, Login, keyless
from pelagos.engines.kfp_local.room import Room
from pelagos.engines.kubeflow.ending import Timeouts
from pelagos.engines.kubeflow.engine import Kubeflow, KubeflowConfig
from pelagos.engines.kubeflow.placement import PodDefaults
from pelagos.engines.kubeflow.rest import KubeflowRest
from pelagos.engines.processes import groups
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.pipelines import PipelineRun, Pipelines, RunName, RunRequest, RunState
from pelagos_contract.flows import Flow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PYTHON = Path(os.environ.get("PELAGOS_ENVIRONMENTS", Path(__file__).parents[1] / ".venvs")) / "pipelines/bin/python"
SECONDS = 90.0
"""A run that has not reached a state within these seconds never will, even on the slowest machine."""


def compile_flows(folder: Path) -> Path:
    """Compile both flows with a step that obeys its world."""
    subprocess.run([PYTHON, Path(__file__).with_name("controllable_flows.py"), folder], check=True)
    return folder


async def until(condition: Callable[[], bool], what: str = "condition") -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {SECONDS} seconds"
        await asyncio.sleep(0.02)


class World(Protocol):
    """Actions of a test on the runs of an engine."""

    engine: Pipelines

    def request(self, name: str, flow: Flow = "dataset-preparation") -> RunRequest: ...
    async def begin(self, name: str) -> None: ...
    async def succeed(self, name: str) -> None: ...
    async def fail(self, name: str, message: str) -> None: ...
    async def interrupt(self, name: str) -> None: ...
    async def restart_engine(self) -> None: ...
    def begun(self, name: str) -> int: ...


async def reach(world: World, name: str, *states: RunState) -> PipelineRun:
    """Poll until the run is in one of the states."""
    deadline = time.monotonic() + SECONDS
    while True:
        run = await world.engine.find(RunName(name))
        if run is not None and run.state in states:
            return run
        assert time.monotonic() < deadline, f"{name} should be {states}, and is {run}"
        await asyncio.sleep(0.03)


class FakeWorld:
    """The shipped fake; restarting the operator does not affect it."""

    def __init__(self, capacity: int) -> None:
        self._fake = PipelinesFake(capacity={"dataset-preparation": capacity, "training": capacity})
        self.engine: Pipelines = self._fake

    def request(self, name: str, flow: Flow = "dataset-preparation") -> RunRequest:
        return RunRequest(RunName(name), flow, {})

    async def begin(self, name: str) -> None:
        assert self._fake.runs[RunName(name)].run.state is RunState.RUNNING

    async def succeed(self, name: str) -> None:
        self._fake.succeed(RunName(name))

    async def fail(self, name: str, message: str) -> None:
        self._fake.fail(RunName(name), message)

    async def interrupt(self, name: str) -> None:
        self._fake.interrupt(RunName(name))

    async def restart_engine(self) -> None:
        """Nothing to do: the fake is the outside world itself."""

    def begun(self, name: str) -> int:
        known = self._fake.runs.get(RunName(name))
        # The fake counts the attempts of all runs together; a run that never began has none.
        return self._fake.attempts_begun if known is not None and known.run.started_at is not None else 0


class KfpLocalWorld:
    """The local engine with real process groups. ``server`` is the socket of a fork server to use, if any."""

    def __init__(self, folder: Path, compiled: Path, capacity: int, server: Path | None = None, cores: int = 0) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self._steps = folder / "steps"
        self._steps.mkdir()
        self._compiled = compiled
        self._capacity, self._cores = capacity, cores
        self.python = PYTHON
        self.login: Login | None = None
        self.keys: Callable[[str, str, int], Mapping[str, str]] = keyless
        self.secrets: dict[tuple[str, str], dict[str, str]] = {}
        if server is not None:
            (self.home / "fork-server.sock").symlink_to(server)
        self.local = self.new_engine()
        self.engine: Pipelines = self.local

    def new_engine(self) -> KfpLocal:
        capacity: dict[Flow, Room] = {
            "dataset-preparation": Room(runs=self._capacity),
            "training": Room(runs=self._capacity, cores=self._cores),
        }

        async def find(namespace: str, name: str) -> Mapping[str, str] | None:
            return self.secrets.get((namespace, name))

        return KfpLocal(
            self.home,
            self.python,
            self._compiled,
            capacity=capacity,
            login=self.login,
            keys=self.keys,
            secrets=find,
        )

    def launcher(self) -> Launcher:
        """The launcher with which the engine starts runners."""
        return Launcher(home=self.home, python=self.python, compiled=self._compiled)

    def log(self, name: str) -> str:
        """The log of the run up to now."""
        return records.RunFolder(self.home / "runs", RunName(name)).log.read_text()

    def step(self, name: str) -> Path:
        """The folder in which the step of a run records events and looks for commands."""
        folder = self._steps / name
        folder.mkdir(exist_ok=True)
        return folder

    def request(self, name: str, flow: Flow = "dataset-preparation") -> RunRequest:
        return RunRequest(RunName(name), flow, {"folder": str(self.step(name))})

    async def begin(self, name: str) -> None:
        folder = records.RunFolder(self.home / "runs", RunName(name))

        def begun() -> bool:
            look = folder.look()
            return look is not None and self.begun(name) >= look.stored.request.attempt

        await until(begun, f"{name} beginning its work")

    async def succeed(self, name: str) -> None:
        await self.begin(name)
        (self.step(name) / "succeed").touch()

    async def fail(self, name: str, message: str) -> None:
        await self.begin(name)
        (self.step(name) / "fail").write_text(message)
        await reach(self, name, RunState.FAILED)
        (self.step(name) / "fail").unlink()

    async def interrupt(self, name: str) -> None:
        await self.begin(name)
        os.killpg(self.process(name).pid, signal.SIGKILL)

    def process(self, name: str) -> groups.ProcessId:
        """The runner process of a run that has begun."""
        look = records.RunFolder(self.home / "runs", RunName(name)).look()
        assert look is not None
        assert look.begun is not None
        assert look.begun.process is not None
        return look.begun.process

    async def restart_engine(self) -> None:
        await self.local.close()
        self.local = self.new_engine()
        self.engine = self.local

    def begun(self, name: str) -> int:
        file = self.step(name) / "begun"
        return len(file.read_text().splitlines()) if file.exists() else 0

    async def close(self) -> None:
        for run in records.all_runs(self.home / "runs"):
            await self.local.delete(run.name)
        await self.local.interrupt_all()


class KubeflowWorld:
    """The cluster's engine with a fake server, which `start` starts and which runs steps as processes."""

    def __init__(self, folder: Path, compiled: Path, capacity: int) -> None:
        self._steps = folder / "steps"
        self._steps.mkdir()
        self.processes = Processes(folder / "logs", PYTHON)
        limits = {"dataset-preparation": capacity, "training": capacity}
        self.server = FakeServer(self.processes, capacity=limits)
        self.site = KubeflowConfig(
            compiled,
            PodDefaults(image="example.org/trainer"),
            namespace="kubeflow",
            timeouts=Timeouts(end=20, poll=0.05, look=timedelta()),
        )
        self.kubeflow: Kubeflow
        self.engine: Pipelines

    async def start(self) -> KubeflowWorld:
        await self.server.start()
        await self.restart_engine()
        return self

    def request(self, name: str, flow: Flow = "dataset-preparation") -> RunRequest:
        folder = self._steps / name
        folder.mkdir(exist_ok=True)
        return RunRequest(RunName(name), flow, {"folder": str(folder)})

    async def begin(self, name: str) -> None:
        runs = [run for run in self.server.store.runs.values() if run.name.rpartition("-a")[0] == name]
        await until(lambda: self.begun(name) >= len(runs), f"{name} beginning its work")

    async def succeed(self, name: str) -> None:
        await self.begin(name)
        (self._steps / name / "succeed").touch()

    async def fail(self, name: str, message: str) -> None:
        await self.begin(name)
        (self._steps / name / "fail").write_text(message)
        await reach(self, name, RunState.FAILED)
        (self._steps / name / "fail").unlink()

    async def interrupt(self, name: str) -> None:
        await self.begin(name)
        run = next(run for run in self.server.store.runs.values() if run.name == f"{name}-a1")
        self.processes.kill(run.identifier)

    async def restart_engine(self) -> None:
        self.kubeflow = Kubeflow(KubeflowRest(self.server.url), self.site, objects=Shown(self.processes))
        self.engine = self.kubeflow

    def begun(self, name: str) -> int:
        file = self._steps / name / "begun"
        return len(file.read_text().splitlines()) if file.exists() else 0

    async def close(self) -> None:
        await self.kubeflow.close()
        await self.server.stop()
        assert self.server.violations == []
