"""What runs steps: the protocol between runs and the places where their containers really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kfp_fake_server.steps import Step
    from kfp_fake_server.store import Task

Tell = Callable[[str, str], None]
"""Told of a phase of the pod (Pending, Running) and what its Workflow says of it, whenever they may have changed."""


@dataclass(frozen=True)
class Pod:
    """Which step of which run, and where."""

    name: str
    run: str
    namespace: str
    service_account: str
    step: Step
    task: Task
    workflow: Callable[[], dict[str, Any]]
    """The run's Workflow as it is now."""
    is_driver: bool = False
    """Whether it only prepares the step."""


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    succeeded: bool
    message: str = ""


class Backend(Protocol):
    """Runs one step at a time per run."""

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """Run the step to its end; when cancelled, end it and all that belongs to it first."""

    async def show(self, run: str) -> None:
        """The run ended: whoever reads its Workflow sees that."""

    async def forget(self, run: str) -> None:
        """Remove what is left of a run."""

    async def close(self) -> None:
        """Release connections."""
