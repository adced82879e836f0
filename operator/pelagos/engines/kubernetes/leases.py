"""Leadership by a Lease of the Kubernetes API: whoever holds it acts, and renews it well before others may take it.

Every write carries the resourceVersion that was read, so that of two that try, one gets a conflict. Nobody compares clocks of two
machines: a candidate waits until it has itself seen the same Lease for its whole duration, and the holder counts from before it
sent the renewal. So the holder stops before anybody else may start, unless its time stands still; therefore time here is
one that goes on while the machine sleeps.

Anybody may delete the Lease, or write what they like into it. A candidate that saw a holder waits for its duration also when the
Lease is gone; a holder that finds another's name stops at once; what no operator would write is bounded, and told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pelagos.engines.kubernetes.rest import KubernetesRest
from pelagos.ports.clock import monotonic
from pelagos.ports.errors import OutageError

logger = logging.getLogger("pelagos.leadership")

SAFE_SHARE = 0.8
"""Part of the Lease's duration in which its holder acts; the rest is for clocks that run at different speeds."""
RENEWALS = 6
"""Attempts to renew within one duration."""
LONGEST_WATCH = 1.0
"""Seconds between two looks of a candidate."""
LONGEST_DURATION = 60
"""Seconds: no operator may be set to keep a Lease for longer, so that what says more was written by somebody else."""
_GONE = frozenset({404, 410})
_MOST_TRANSITIONS = 2**31 - 1


@dataclass(frozen=True)
class Place:
    """Which Lease; ``seconds`` is how long a holder that is gone keeps it."""

    namespace: str
    name: str
    seconds: int

    @property
    def collection(self) -> str:
        """Path of all Leases of the namespace."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def path(self) -> str:
        """Path of the Lease."""
        return f"{self.collection}/{self.name}"


def new_identity() -> str:
    """Names this life of this process: a pod that is started again is another candidate."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


class LeaseLeadership:
    """See ports.leadership.Leadership."""

    def __init__(
        self, api: KubernetesRest, place: Place, identity: str, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self.identity = identity
        self._api = api
        self._place = place
        self._clock = clock
        self._lease: Mapping[str, Any] | None = None
        """As last read or written; of one that is gone, what is known of its holder."""
        self._is_gone = False
        self._first_seen: tuple[Mapping[str, Any], float] = ({}, 0.0)
        """What somebody else's Lease says, and since when it says so."""
        self._until = float("-inf")
        self._told = False
        self._fault = "it is being looked for"
        self._alarm: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._gained: Callable[[], None] = lambda: None
        self._lost: Callable[[], None] = lambda: None

    @property
    def leads(self) -> bool:
        """Whether the Lease was renewed in time."""
        return self._clock() < self._until

    @property
    def standing(self) -> str:
        """Who leads, or why that is not known."""
        if self.leads:
            return "leads"
        if self._fault:
            return f"standby; the Lease {self._place.namespace}/{self._place.name} cannot be used: {self._fault}"
        holder = _holder(self._lease) or "nobody"
        if self._is_gone and self._lease is not None:
            return f"standby; the Lease was deleted, and {holder} may lead for {max(self._left(), 0):.0f} s more"
        duration = _duration(self._lease)
        if duration > LONGEST_DURATION:
            return (
                f"standby; {holder} holds the Lease for {duration} s, which no operator does: unless it is renewed, "
                f"it is taken at the latest {LONGEST_DURATION} s after it was first seen, in {max(self._left(), 0):.0f} s"
            )
        return f"standby; {holder} leads"

    async def start(self, gained: Callable[[], None], lost: Callable[[], None]) -> None:
        """Begin to seek the Lease."""
        self._gained, self._lost = gained, lost
        self._task = asyncio.create_task(self._run(), name="leadership")

    async def stop(self) -> None:
        """Release the Lease, if it is ours."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        if self.leads and self._lease is not None:
            self._until = float("-inf")  # First: what is still in progress must not act on a Lease that is given away.
            with contextlib.suppress(OutageError):
                await self._write("PUT", self._place.path, self._body(holder=""))
                logger.info("released the Lease %s/%s", self._place.namespace, self._place.name)

    async def _run(self) -> None:
        while True:
            self._tell()  # Before trying anew: after a pause, others may have led meanwhile.
            try:
                await self._attempt()
            except OutageError as error:
                self._fault = str(error)
                logger.warning("the Lease cannot be reached: %s", error)
            except Exception as error:
                # Whatever it is, this task must not end: nobody would renew, and nobody would notice.
                self._fault = f"{type(error).__name__}: {error}"
                logger.exception("seeking the Lease failed")
            self._tell()
            if not _holder(self._lease):
                # Also of a leader: a write of its own that failed is somebody else's doing, and its time runs out.
                pause = LONGEST_WATCH / 2
            elif self.leads:
                pause = self._place.seconds / RENEWALS
            else:
                # Up to the very moment at which the Lease may be taken, so that nobody leads for as short as can be.
                pause = max(0.05, min(LONGEST_WATCH, self._left()))
            await asyncio.sleep(pause)

    async def _attempt(self) -> None:
        """Renew, take, or look who has it."""
        # A leader knows what it wrote last, and renews without a look: its write fails if anybody wrote since. Everybody else
        # looks first, also a leader whose write failed, because only the newest resourceVersion can be written.
        if not self.leads or self._lease is None:
            found = await self._api.get(self._place.path, timeout=self._patience)
            # A server that refuses to tell is no server without a Lease: nothing is taken on the strength of a 403.
            if found.status != 200 and found.status not in _GONE:
                self._fault = found.message
                return
            if found.status in _GONE:
                # Its holder, if we saw one, may not have noticed yet, and goes on for the time that it has: what is known of it
                # stays, and is waited for as if the Lease were there.
                if not self._is_gone and self._lease is not None:
                    logger.warning("the Lease %s/%s was deleted", self._place.namespace, self._place.name)
                self._is_gone = True
            else:
                self._lease, self._fault, self._is_gone = found.body, "", False
                # Not its resourceVersion, which others change by a label: a renewal is a new time in spec. And not the time that
                # is written there, either, which is by the holder's clock: what counts is since when we have seen the same.
                if _spec(found.body) != self._first_seen[0]:
                    self._first_seen = (_spec(found.body), self._clock())
                if _holder(found.body) not in {self.identity, ""}:
                    # Somebody else may lead from now on, however little time of ours was over.
                    self._until = float("-inf")
        # One that is ours, in this life of the process, or nobody's is taken at once; somebody else's after its whole time.
        if _holder(self._lease) in {self.identity, ""} or self._left() <= 0:
            # To create is as safe as to replace: of two that create the same name, the server refuses one.
            method, path = ("POST", self._place.collection) if self._is_gone else ("PUT", self._place.path)
            await self._write(method, path, self._body(holder=self.identity))

    def _left(self) -> float:
        """Seconds until somebody else's Lease may be taken."""
        # The holder's duration, which may be another than ours after an update, and not longer than any operator's: a Lease that
        # somebody wrote by hand must not keep all operators from leading for a year.
        seconds = min(_duration(self._lease) or self._place.seconds, LONGEST_DURATION)
        return self._first_seen[1] + seconds - self._clock()

    async def _write(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Write our will; a conflict means that somebody else was faster."""
        # From before the request: the server may write it at once and answer late, and the others count from when they see it.
        sent = self._clock()
        answer = await self._api.ask(method, path, body, timeout=self._patience)
        if answer.status not in {200, 201}:
            # Somebody else wrote, or we may not: look before the next write, since only the newest resourceVersion is taken.
            # What we renewed before still holds until its end, and is no worse for this: others wait for the whole duration
            # that they saw.
            self._lease = None
            self._fault = "" if answer.status == 409 else answer.message
            if self._fault:
                logger.warning("the Lease cannot be written: %s", self._fault)
            return
        self._lease, self._fault, self._is_gone = answer.body, "", False
        if _holder(answer.body) == self.identity:
            self._until = sent + SAFE_SHARE * self._place.seconds

    def _body(self, *, holder: str) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = _spec(self._lease)
        keeps = bool(holder) and before.get("holderIdentity") == holder
        transitions = before.get("leaseTransitions")
        count = transitions if isinstance(transitions, int) and 0 <= transitions < _MOST_TRANSITIONS else -1
        metadata: dict[str, Any] = {"name": self._place.name, "namespace": self._place.namespace}
        if self._lease is not None and not self._is_gone:
            metadata = {**self._lease["metadata"]}  # With uid and resourceVersion, which a new object must not have.
            metadata.pop("managedFields", None)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._place.seconds,
                "acquireTime": before.get("acquireTime") if keeps and before.get("acquireTime") else now,
                "renewTime": now,
                "leaseTransitions": max(count if keeps or not holder else count + 1, 0),
            },
        }

    @property
    def _patience(self) -> float:
        return self._place.seconds / 4

    def _tell(self) -> None:
        """Tell once of every change; and wake up at the end of what is ours, should no renewal come before."""
        # A renewal that hangs returns no control to us before its time limit; the alarm tells at the very moment.
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        leads = self.leads
        if leads:
            self._alarm = asyncio.get_running_loop().call_later(self._until - self._clock() + 0.01, self._tell)
        if leads != self._told:
            self._told = leads
            logger.warning("%s now %s", self.identity, "leads" if leads else f"does not lead: {self.standing}")
            (self._gained if leads else self._lost)()


def _spec(lease: Mapping[str, Any] | None) -> Mapping[str, Any]:
    spec = (lease or {}).get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _duration(lease: Mapping[str, Any] | None) -> int:
    """Seconds that the Lease says; 0 when it says nothing of use."""
    duration = _spec(lease).get("leaseDurationSeconds")
    return duration if isinstance(duration, int) and duration > 0 else 0


def _holder(lease: Mapping[str, Any] | None) -> str:
    return str(_spec(lease).get("holderIdentity") or "")
