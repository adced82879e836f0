"""The backend of tests about runs rather than steps: the test decides how each step continues.

It keeps pods and Workflows as an API server would show them; the test writes what a node would write into a pod's status.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kfp_fake_server import pods
from kfp_fake_server.backends import Outcome
from kfp_fake_server.workflows import RUN_LABEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfp_fake_server.backends import Pod, Tell

Struct = dict[str, Any]


class ByHand:
    """Steps wait until a test ends them; drivers end at once. ``slow_end``: seconds that a canceled step needs to end."""

    def __init__(self) -> None:
        self.pods: list[Pod] = []
        """Pods of every step that ever began."""
        self.alive: dict[str, tuple[Pod, Tell, asyncio.Future[Outcome]]] = {}
        """The current step of each run."""
        self.slow_end = 0.0
        self.bodies: dict[str, Struct] = {}
        """Pods as the API server shows them, by name."""
        self.workflows: dict[str, Callable[[], Struct]] = {}
        """Workflows, by run."""

    async def execute(self, pod: Pod, tell: Tell) -> Outcome:
        """See the protocol."""
        self.workflows[pod.run] = pod.workflow
        phase = "Succeeded" if pod.is_driver else "Pending"
        self.bodies[pod.name] = pods.render(pod, pod.namespace or "kubeflow", "argoexec") | {"status": {"phase": phase}}
        if pod.is_driver:
            return Outcome(succeeded=True)
        self.pods.append(pod)
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.alive[pod.run] = (pod, tell, ended)
        try:
            return await ended
        except asyncio.CancelledError:
            await asyncio.sleep(self.slow_end)
            self.bodies.pop(pod.name, None)
            raise
        finally:
            self.alive.pop(pod.run, None)

    async def show(self, run: str) -> None:
        """Nothing to do: Workflows are rendered when they are read."""

    async def forget(self, run: str) -> None:
        """Forget the run's Workflow and pods."""
        self.workflows.pop(run, None)
        self.bodies = {name: body for name, body in self.bodies.items() if body["metadata"]["labels"][RUN_LABEL] != run}

    async def close(self) -> None:
        """Nothing to do: no connection is open."""

    def body(self, run: str) -> Struct:
        """The pod of the run's current step."""
        return self.bodies[self.alive[run][0].name]

    def become(self, run: str, **status: Any) -> None:
        """Change the status of the step's pod, as a node or the scheduler does."""
        self.body(run)["status"] |= status

    def begin(self, run: str) -> None:
        """Let the step's pod run."""
        self.become(run, phase="Running", containerStatuses=[_main(running={})])
        self.alive[run][1]("Running", "")

    def tell(self, run: str, phase: str, message: str = "") -> None:
        """Have Argo record a phase of the step's pod with a message."""
        self.alive[run][1](phase, message)

    def finish(self, run: str, message: str = "", *, said: str = "") -> None:
        """End the step; with the message that a container leaves, as a failure. ``said`` is what Argo records about it."""
        state = {"reason": "Error", "exitCode": 1, "message": message} if message else {"exitCode": 0}
        self.end(run, said or ("Error (exit code 1)" if message else ""), containerStatuses=[_main(terminated=state)])

    def end(self, run: str, said: str = "", **status: Any) -> None:
        """End the step with this status of its pod; as a failure if Argo records a message."""
        self.become(run, phase="Failed" if said else "Succeeded", **status)
        self.alive[run][2].set_result(Outcome(succeeded=not said, message=said))

    def lose(self, run: str) -> None:
        """Let the step's pod vanish at once, without any event."""
        del self.bodies[self.alive[run][0].name]


def _main(**state: Any) -> Struct:
    return {"name": "main", "ready": False, "restartCount": 0, "image": "x", "imageID": "x", "state": state}
