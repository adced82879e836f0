"""Owns the parts of one installation from start to stop: starts them, ends them in order, and reports their state.

It does not know what the parts are; ``installation`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pelagos.embedded import orphans, state
from pelagos.embedded.child import Child, Timing
from pelagos.embedded.state import PartPhase, Phase, State
from pelagos.engines.processes import groups
from pelagos.engines.processes.groups import ProcessId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pelagos.embedded.layout import Layout
    from pelagos.embedded.parts import ManagedProcess
    from pelagos.embedded.state import PartState

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grace:
    """Seconds from SIGTERM to SIGKILL. In total, with the time for killing, stopping takes less than 10 seconds."""

    operator: float = 2.5
    detached: float = 2.0
    server: float = 2.0
    """For the API server and MLflow, which stop at the same time as the detached processes."""
    store: float = 1.5


class Supervisor:
    """Starts, watches and stops parts. Create it with the lock held, inside the event loop."""

    def __init__(self, layout: Layout, ports: Mapping[str, int], timing: Timing | None = None) -> None:
        self._layout = layout
        self._timing = timing or Timing()
        self._children: dict[str, Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        me = groups.identify(os.getpid()) or ProcessId(os.getpid(), 0)
        self.state = State(Phase.STARTING, me, state.now(), str(layout.kubeconfig), ports=dict(ports))
        self._publish(self.state)

    async def end_earlier(self, before: State | None) -> None:
        """End the parts that a killed supervisor left running. Pipelines and Triton servers continue for the next operator."""
        # By the sessions in the last report, and before any part is started: an old etcd would hold the lock on its data, and
        # the new one could not open it.
        sessions = [part.session for part in before.parts.values() if part.session] if before else []
        await asyncio.gather(*(groups.kill_group(session, 0) for session in sessions))

    def start(self, part: ManagedProcess) -> Child:
        """Start a part, and keep it running in a background task."""
        child = Child(part, self._layout.log(part.name), self._timing, self._changed)
        self._children[part.name] = child
        self._tasks[part.name] = asyncio.create_task(child.run(), name=part.name)
        return child

    def use_ports(self, ports: Mapping[str, int]) -> None:
        """Report the ports, so that the next start can use them again."""
        self._publish(replace(self.state, ports=dict(ports)))

    def announce(self, parts: Sequence[str]) -> None:
        """Report parts that will be started later."""
        for name in parts:
            self._publish(self.state.with_part(name, state.PartState()))

    def ready(self) -> None:
        """Mark the installation as started: from now on the phase follows its parts."""
        self._publish(replace(self.state, phase=Phase.READY, message=""))
        self._follow_parts()

    def fail(self, message: str) -> None:
        """Report that the start has failed, and why."""
        self._publish(replace(self.state, phase=Phase.FAILED, message=message))

    async def stop(self, grace: Grace | None = None, *, first: str = "operator", last: str = "etcd") -> None:
        """End everything: ``first``, then its detached processes and the other parts, then ``last``. Nothing is left running."""
        grace = grace or Grace()
        # Keep reporting a failed start as such: the user must learn why it failed, not that everything has stopped.
        failed = self.state.phase is Phase.FAILED
        if not failed:
            self._publish(replace(self.state, phase=Phase.STOPPING))
        # Cancel the tasks first, or they would restart the processes that are ended below.
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        # The operator ends before all others: it may still write its last status, and must not start anything new while its
        # pipelines and model servers are ended. Those, the API server and MLflow no longer need each other, and end in parallel.
        # etcd is last, because the API server writes to it until its own end.
        await self._stop({first}, grace.operator)
        others = self._children.keys() - {first, last}
        spare = {child.state.session.pid for child in self._children.values() if child.state.session}
        await asyncio.gather(
            orphans.end(self._layout.home, grace.detached, spare=spare), self._stop(others, grace.server)
        )
        await self._stop({last}, grace.store)
        # Once more, without grace: processes that were being started while the others ended.
        await orphans.end(self._layout.home, 0)
        if not failed:
            self._publish(replace(self.state, phase=Phase.STOPPED))

    async def _stop(self, names: set[str], grace: float) -> None:
        await asyncio.gather(*(self._children[name].stop(grace) for name in names if name in self._children))

    def _changed(self, name: str, part: PartState) -> None:
        before = self.state.parts.get(name)
        if before is None or before.phase is not part.phase:
            _LOG.info("%s: %s%s", name, part.phase, f" ({part.message})" if part.message else "")
        self._publish(self.state.with_part(name, part))
        self._follow_parts()

    def _follow_parts(self) -> None:
        # Not while starting, stopping or failed: parts that come and go then do not mean degradation.
        if self.state.phase not in {Phase.READY, Phase.DEGRADED}:
            return
        well = all(part.phase is PartPhase.READY for part in self.state.parts.values())
        phase = Phase.READY if well else Phase.DEGRADED
        if phase is not self.state.phase:
            self._publish(replace(self.state, phase=phase))

    def _publish(self, new: State) -> None:
        self.state = new
        try:
            state.write(self._layout.state, new)
        except OSError as error:
            # A full disk must not end the servers; the next report may succeed.
            with contextlib.suppress(OSError):
                _LOG.warning("cannot write %s: %s", self._layout.state, error)
