"""An engine for pipelines in one module that does the work: each step of a run is a process, one after the other.

It remembers runs in memory. After a restart of the operator they are submitted again, and steps continue from existing results.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from pelagos.engines.descriptors import Descriptor, EngineContext
from pelagos.ports.fakes.pipelines import PipelinesFake
from pelagos.ports.pipelines import FINISHED, STEP_ENVIRONMENT, PipelineRun, RunName, RunRequest, RunState

STEPS: Mapping[str, Sequence[str]] = {
    "dataset-preparation": ("prepare",),
    "training": ("train", "evaluate", "export"),
}
PROGRAM = "import json, sys; from pelagos_pipelines.steps.{0} import {0}; {0}(**json.loads(sys.stdin.read()))"
"""One step, whose parameters come by its input: command lines are public."""


class Workshop(PipelinesFake):
    """Implements Pipelines: the book is kept as the shipped fake does, and the work is done by processes."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__()
        self._context = context
        self._python = context.settings.environments / "pipelines" / "bin" / "python"
        self._working: dict[RunName, asyncio.Task[None]] = {}

    @override
    async def submit(self, request: RunRequest) -> PipelineRun:
        run = await super().submit(request)
        if run.state is RunState.PENDING:
            self.start(request.name)
            self._working[request.name] = asyncio.create_task(self._work(request))
        return self.runs[request.name].run

    @override
    async def cancel(self, name: RunName) -> None:
        await super().cancel(name)
        if task := self._working.pop(name, None):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @override
    async def delete(self, name: RunName) -> None:
        await self.cancel(name)
        await super().delete(name)

    async def close(self) -> None:
        """End the work in progress."""
        for name in list(self._working):
            await self.cancel(name)

    async def _work(self, request: RunRequest) -> None:
        for step in STEPS[request.flow]:
            code, last = await self._step(step, request)
            if self.runs[request.name].run.state in FINISHED:
                return
            if code:
                self.fail(request.name, f"step {step} ended with exit code {code}: {last}")
                return
        self.succeed(request.name)

    async def _step(self, step: str, request: RunRequest) -> tuple[int, str]:
        """Exit code and last line of a step."""
        process = await asyncio.create_subprocess_exec(
            self._python,
            "-c",
            PROGRAM.format(step),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment(request),
        )
        try:
            said, _ = await process.communicate(json.dumps(dict(request.parameters)).encode())
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        lines = said.decode(errors="replace").strip().splitlines()
        return process.returncode or 0, lines[-1] if lines else ""

    def _environment(self, request: RunRequest) -> dict[str, str]:
        """What every engine gives steps, and the key by which this attempt seals its report."""
        settings, context = self._context.settings, self._context
        login = {
            "MLFLOW_TRACKING_USERNAME": settings.steps_tracking_username_file,
            "MLFLOW_TRACKING_PASSWORD": settings.steps_tracking_password_file,
        }
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "OMP_NUM_THREADS": "1",
            **STEP_ENVIRONMENT,
            **settings.of_steps(),
            **context.authority.step_environment(request.namespace, request.name, request.attempt),
            **{name: _read(file) for name, file in login.items() if file is not None},
        }


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()


DESCRIPTOR: Descriptor[EngineContext] = Descriptor(
    name="workshop",
    system="workshop",
    summary="steps as processes, one after the other",
    make=Workshop,
    is_elsewhere=False,
)
