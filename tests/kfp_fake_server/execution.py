"""Executes runs: does what Argo's controller and the persistence agent do for a real server.

Why a step failed, and what it waits for, is in the run's Workflow and in its pod; clients of the server do not see it.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from contextlib import suppress
from typing import TYPE_CHECKING

from kfp_fake_server import steps, workflows
from kfp_fake_server.backends import Backend, Outcome, Pod
from kfp_fake_server.store import NEVER, OVER, Run, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfp_fake_server.faults import Faults


class Execution:
    """Executes submitted runs. Of a pipeline in ``capacity`` at most so many runs execute at once; others wait for their turn."""

    def __init__(self, backend: Backend, faults: Faults, capacity: Mapping[str, int] | None = None) -> None:
        self._backend = backend
        self._faults = faults
        self._capacity = dict(capacity or {})
        self._waiting: list[Run] = []
        self._going: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self.begun: list[str] = []
        """Names of runs, once for each time that their first step began."""

    def submit(self, run: Run) -> None:
        """Execute the run as soon as there is capacity."""
        self._waiting.append(run)
        self._admit()

    async def retry(self, run: Run) -> None:
        """Continue a failed run; steps that succeeded are not repeated."""
        await self._backend.forget(run.identifier)
        run.tasks = [task for task in run.tasks if task.state == "SUCCEEDED" and task.name != "root-driver"]
        run.finished_at = NEVER
        run.become("RUNNING")
        self.submit(run)

    def end(self, run: Run) -> None:
        """Ask the run to end, and return before it has."""
        run.become("CANCELING")
        if run in self._waiting:
            self._waiting.remove(run)
            self._close(run, "CANCELED")
        elif run.identifier in self._going:
            self._going[run.identifier][1].cancel()

    async def forget(self, run: Run) -> None:
        """Remove a run with its pods."""
        if run in self._waiting:
            self._waiting.remove(run)
        going = self._going.get(run.identifier)
        if going is not None:
            going[1].cancel()
            with suppress(asyncio.CancelledError):
                await going[1]
        await self._backend.forget(run.identifier)

    def freeze(self, run: Run) -> None:
        """Publish the present state of the run to clients."""
        run.shown = copy.deepcopy(run.document())

    async def close(self) -> None:
        """End everything."""
        self._waiting.clear()
        tasks = [task for _, task in self._going.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._backend.close()

    def _admit(self) -> None:
        for run in list(self._waiting):
            flow = steps.flow_name(run.struct)
            going = sum(1 for other, _ in self._going.values() if other == flow)
            # A pipeline without a capacity is always below the count of its runs plus one.
            if going < self._capacity.get(flow, going + 1):
                self._waiting.remove(run)
                self._going[run.identifier] = (flow, asyncio.create_task(self._go(run)))

    async def _go(self, run: Run) -> None:
        try:
            failure = await self._run_steps(run)
            self._close(run, "FAILED" if failure else "SUCCEEDED", failure)
            await self._backend.show(run.identifier)
        except asyncio.CancelledError:
            self._close(run, "FAILED" if self._faults.canceled_is_failed else "CANCELED")
            await self._backend.show(run.identifier)
        except Exception as error:
            self._close(run, "FAILED", f"the fake server failed: {type(error).__name__}: {error}")
            raise
        finally:
            # However it ended: a run that stayed counted would block its pipeline's queue forever.
            self._going.pop(run.identifier, None)
            self._admit()

    async def _run_steps(self, run: Run) -> str:
        """Run all steps; returns why the run failed, "" if it did not."""
        run.workflow = workflows.name(run)
        run.become("RUNNING")
        resolved = steps.resolve(run.struct, run.parameters)
        driver = self._add(run, "root-driver", "root-driver")
        failure = await self._execute(run, resolved[0], driver)
        if failure:
            return failure
        root = self._add(run, "root", "root")
        done = {task.name for task in run.tasks}
        for step in (step for step in resolved if step.name not in done):
            failure = await self._run_step(run, step, root)
            if failure:
                root.become("FAILED", failure)
                return failure
        root.become("SUCCEEDED")
        return ""

    async def _run_step(self, run: Run, step: steps.Step, root: Task) -> str:
        driver = self._add(run, f"{step.name}-driver", f"root.{step.name}-driver")
        root.children.append(driver.node)
        failure = await self._execute(run, step, driver)
        if failure:
            return failure
        group = self._add(run, step.name, f"root.{step.name}")
        executor = self._add(run, "executor", f"root.{step.name}.executor")
        root.children.append(group.node)
        group.children.append(executor.node)
        failure = await self._execute(run, step, executor)
        group.become(executor.state, failure)
        return f"child '{group.node}' failed" if failure else ""

    async def _execute(self, run: Run, step: steps.Step, task: Task) -> str:
        """Run a pod until it ends; returns the message of the groups around it if it fails, "" if not."""
        task.pod = workflows.pod_name(run, task)
        outcome = await self._await(run, step, task)
        task.become("SUCCEEDED" if outcome.succeeded else "FAILED", outcome.message)
        task.phase = "Succeeded" if outcome.succeeded else "Failed"
        return "" if outcome.succeeded else f"child '{task.node}' failed"

    async def _await(self, run: Run, step: steps.Step, task: Task) -> Outcome:
        begun, is_driver = False, task.name.endswith("-driver")

        def tell(phase: str, message: str) -> None:
            nonlocal begun
            if phase == "Running" and not begun and not is_driver:
                begun = True
                self.begun.append(run.name)
            task.phase, task.message = phase, message

        namespace, workflow = run.experiment.namespace, functools.partial(workflows.render, run)
        pod = Pod(task.pod, run.identifier, namespace, run.service_account, step, task, workflow, is_driver=is_driver)
        return await self._backend.execute(pod, tell)

    def _add(self, run: Run, name: str, path: str) -> Task:
        path = f"{run.workflow}.{path}"
        task = Task(name, node=workflows.node(run, path), path=path)
        task.become("RUNNING")
        run.tasks.append(task)
        return task

    def _close(self, run: Run, state: str, message: str = "") -> None:
        for task in run.tasks:
            if task.state not in OVER:
                task.become(state)
        run.become(state, message)
