"""What runs steps: the protocol between runs and the places where their containers really run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kfp_fake_server.steps import Step

Tell = Callable[[str, str], None]
"""RolloutStatus of a state (PENDING, RUNNING) and a message, whenever they may have changed."""


@dataclass(frozen=True)
class Pod:
    """Which step of which run, and where."""

    name: str
    run: str
    namespace: str
    service_account: str
    step: Step


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    succeeded: bool
    message: str = ""


class Backend(Protocol):
    """Runs one step at a time per run."""

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """Run the step to its end; when cancelled, end it and all that belongs to it first."""

    async def forget(self, run: str) -> None:
        """Remove what is left of a run."""

    async def close(self) -> None:
        """Release connections."""
