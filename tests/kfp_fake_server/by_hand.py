"""The backend of tests about runs rather than steps: a test says how each step goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kfp_fake_server.backends import Outcome

if TYPE_CHECKING:
    from kfp_fake_server.backends import Pod, Tell


class ByHand:
    """Steps wait until a test ends them. ``slow_end``: seconds that a step needs to end when its run is ended."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        """Every step that ever began."""
        self.alive: dict[str, tuple[Pod, Tell, asyncio.Future[Outcome]]] = {}
        """The present step of each run."""
        self.slow_end = 0.0

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """As in the protocol."""
        self.pods.append(pod)
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.alive[pod.run] = (pod, tell, ended)
        try:
            return await ended
        except asyncio.CancelledError:
            await asyncio.sleep(self.slow_end)
            raise
        finally:
            self.alive.pop(pod.run, None)

    async def forget(self, run: str) -> None:
        """Nothing is left."""

    async def close(self) -> None:
        """Nothing is open."""

    def tell(self, run: str, state: str, message: str = "") -> None:
        """The step's pod changes its state."""
        self.alive[run][1](state, message)

    def finish(self, run: str, message: str = "") -> None:
        """The step ends; with a message, in failure."""
        self.alive[run][2].set_result(Outcome(succeeded=not message, message=message))
