"""The backend on this machine: a step is a process group, with the Python of an environment that has kfp and the steps' code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kfp_fake_server.backends import Outcome, Pod, Tell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Processes:
    """Logs are in ``folder``, one per pod. ``python`` replaces python3 in steps. ``environment`` is added to every step's."""

    def __init__(self, folder: Path, python: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._python = python
        self._environment = dict(environment or {})
        self.alive: dict[str, int] = {}
        """Process groups by run."""
        self.workflows: dict[str, Callable[[], dict[str, Any]]] = {}
        """Workflows by run. Pods do not exist here: Workflows contain the last output of processes."""
        self.bodies: dict[str, dict[str, Any]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """See the protocol. The process' last output takes the place of a container's termination message."""
        self.workflows[pod.run] = pod.workflow
        if pod.is_driver:
            return Outcome(succeeded=True)
        log = self._folder / f"{pod.name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *pod.step.command,
                env=self._variables(pod),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.alive[pod.run] = process.pid
        tell("Running", "")
        try:
            code = await process.wait()
        finally:
            _kill(process.pid)
            await process.wait()
            self.alive.pop(pod.run, None)
        return _outcome(code, log)

    async def show(self, run: str) -> None:
        """Nothing to do: Workflows are rendered when they are read."""

    async def forget(self, run: str) -> None:
        """Forget the Workflow; logs are deleted with the folder."""
        self.workflows.pop(run, None)

    async def close(self) -> None:
        """Kill the processes that still run."""
        for group in list(self.alive.values()):
            _kill(group)

    def kill(self, run: str) -> None:
        """Kill the run's step, as a node that goes down would."""
        _kill(self.alive[run])

    def _variables(self, pod: Pod) -> dict[str, str]:
        inherited = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
        path = f"{self._python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**inherited, "PATH": path, **pod.step.environment, **self._environment}


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _outcome(code: int, log: Path) -> Outcome:
    if code == 0:
        return Outcome(succeeded=True)
    if code < 0:
        return Outcome(succeeded=False, message=f"Error (exit code {128 - code})")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return Outcome(succeeded=False, message=f"Error (exit code {code}): {lines[-1] if lines else ''}")
