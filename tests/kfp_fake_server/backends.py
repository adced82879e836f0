"""The protocol between runs and backends, the places where the containers of steps really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kfp_fake_server.steps import Step
    from kfp_fake_server.store import Task

Tell = Callable[[str, str], None]
"""Called with a pod's phase (Pending, Running) and the Workflow's message about it, whenever they may have changed."""


@dataclass(frozen=True)
class Pod:
    """Identifies a step of a run, and the pod that runs it."""

    name: str
    run: str
    namespace: str
    service_account: str
    step: Step
    task: Task
    workflow: Callable[[], dict[str, Any]]
    """Returns the run's current Workflow."""
    is_driver: bool = False
    """Whether it is a driver, which only prepares the step."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    succeeded: bool
    message: str = ""


class Backend(Protocol):
    """Runs one step at a time per run."""

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """Run the step until it ends; when canceled, first end it and everything that belongs to it."""

    async def show(self, run: str) -> None:
        """Called when the run has ended, so that readers of its Workflow see that."""

    async def forget(self, run: str) -> None:
        """Remove everything that is left of a run."""

    async def close(self) -> None:
        """Release connections."""
