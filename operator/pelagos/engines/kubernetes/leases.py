"""Leadership by a Lease of the Kubernetes API: its holder acts, and renews it well before anybody else may take it.

Every write carries the resourceVersion that was read, so if two candidates write at once, one of them gets a conflict. The clocks
of two machines are never compared: a candidate waits until it has itself seen the same Lease for its whole duration, and the
holder counts from before it sent the renewal. So the holder stops before anybody else may start, as long as its clock keeps
running. For that reason the clock used here is one that also advances while the machine sleeps.

Anybody with the right may delete the Lease or write anything into it. A candidate that saw a holder waits for the full duration
even after the Lease was deleted; a holder that finds another name in it stops at once; values that no operator would write are
capped and reported.
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
"""Share of the Lease's duration during which its holder acts; the rest allows for clocks that run at different speeds."""
RENEWALS = 6
"""Renewal attempts within one Lease duration."""
LONGEST_WATCH = 1.0
"""Longest pause, in seconds, between two polls by a candidate."""
LONGEST_DURATION = 60
"""Seconds. No operator can be configured to hold a Lease for longer, so a longer duration was written by somebody else."""
_GONE = frozenset({404, 410})
_MOST_TRANSITIONS = 2**31 - 1


@dataclass(frozen=True)
class Place:
    """Which Lease; ``seconds`` is how long it stays with a holder that has died."""

    namespace: str
    name: str
    seconds: int

    @property
    def collection(self) -> str:
        """API path of all Leases in the namespace."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def path(self) -> str:
        """API path of this Lease."""
        return f"{self.collection}/{self.name}"


def new_identity() -> str:
    """A name for this incarnation of the process: a restarted pod is a different candidate."""
    return f"{socket.gethostname()}_{os.getpid()}_{uuid.uuid4().hex[:8]}"


class LeaseLeadership:
    """Implements ports.leadership.Leadership for one Lease, as the candidate ``identity``."""

    def __init__(
        self, api: KubernetesRest, place: Place, identity: str, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self.identity = identity
        self._api = api
        self._place = place
        self._clock = clock
        self._lease: Mapping[str, Any] | None = None
        """The Lease as last read or written; after its deletion, the last known state, which names the holder to wait for."""
        self._is_gone = False
        self._first_seen: tuple[Mapping[str, Any], float] = ({}, 0.0)
        """The spec of another holder's Lease, and when we first saw it, by our own clock."""
        self._until = float("-inf")
        self._told = False
        self._fault = "it is being looked for"
        self._alarm: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._gained: Callable[[], None] = lambda: None
        self._lost: Callable[[], None] = lambda: None

    @property
    def leads(self) -> bool:
        """Whether our last renewal still holds. Read the clock each time: it can lapse between two renewals."""
        return self._clock() < self._until

    @property
    def standing(self) -> str:
        """Who leads, or why that is unknown, in words for logs and status pages."""
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
        """Start competing for the Lease in a background task; ``gained`` and ``lost`` are called at each change."""
        self._gained, self._lost = gained, lost
        self._task = asyncio.create_task(self._run(), name="leadership")

    async def stop(self) -> None:
        """Stop competing, and release the Lease if it is ours, so that a successor need not wait for it to expire."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        if self.leads and self._lease is not None:
            # Before the write: work in progress must not act on a Lease that we are giving up.
            self._until = float("-inf")
            with contextlib.suppress(OutageError):
                await self._write("PUT", self._place.path, self._body(holder=""))
                logger.info("released the Lease %s/%s", self._place.namespace, self._place.name)

    async def _run(self) -> None:
        while True:
            self._tell()  # Before the next attempt: others may have led during the pause.
            try:
                await self._attempt()
            except OutageError as error:
                self._fault = str(error)
                logger.warning("the Lease cannot be reached: %s", error)
            except Exception as error:
                # This task must survive any error: if it died, nobody would renew, and nobody would notice.
                self._fault = f"{type(error).__name__}: {error}"
                logger.exception("seeking the Lease failed")
            self._tell()
            if not _holder(self._lease):
                # A leader gets here too, after a failed write: somebody else wrote, and our time is running out, so retry soon.
                pause = LONGEST_WATCH / 2
            elif self.leads:
                pause = self._place.seconds / RENEWALS
            else:
                # Sleep no longer than until the Lease may be taken, to keep the time without a leader short.
                pause = max(0.05, min(LONGEST_WATCH, self._left()))
            await asyncio.sleep(pause)

    async def _attempt(self) -> None:
        """Renew the Lease, take it, or read who holds it."""
        # A leader knows what it wrote last, so it renews without reading: the write fails if anybody wrote since. Everybody else
        # reads first, including a leader whose write failed, because the server accepts only the newest resourceVersion.
        if not self.leads or self._lease is None:
            found = await self._api.get(self._place.path, timeout=self._patience)
            # A refusal does not mean that there is no Lease: never take it on the strength of a 403.
            if found.status != 200 and found.status not in _GONE:
                self._fault = found.message
                return
            if found.status in _GONE:
                # The holder, if we saw one, may not have noticed the deletion and acts for the rest of its time. So keep what we
                # know of it, and wait as if the Lease still existed.
                if not self._is_gone and self._lease is not None:
                    logger.warning("the Lease %s/%s was deleted", self._place.namespace, self._place.name)
                self._is_gone = True
            else:
                self._lease, self._fault, self._is_gone = found.body, "", False
                # Compare specs, not resourceVersions: a label set by anybody changes those, while a renewal changes the spec.
                # Do not use renewTime either, which is by the holder's clock: what counts is how long we have seen the same spec.
                if _spec(found.body) != self._first_seen[0]:
                    self._first_seen = (_spec(found.body), self._clock())
                if _holder(found.body) not in {self.identity, ""}:
                    # Somebody else may lead from now on, however much of our own time is left.
                    self._until = float("-inf")
        # Ours (in this incarnation) or nobody's: take it at once. Somebody else's: only after its whole duration.
        if _holder(self._lease) in {self.identity, ""} or self._left() <= 0:
            # Creating is as safe as replacing: if two candidates create the same name, the server refuses one of them.
            method, path = ("POST", self._place.collection) if self._is_gone else ("PUT", self._place.path)
            await self._write(method, path, self._body(holder=self.identity))

    def _left(self) -> float:
        """Seconds until another holder's Lease may be taken; negative when it may be taken already."""
        # Use the holder's duration, which may differ from ours during an upgrade, but cap it at the longest that any operator can
        # have: a Lease edited by hand must not keep all operators from leading for a year.
        seconds = min(_duration(self._lease) or self._place.seconds, LONGEST_DURATION)
        return self._first_seen[1] + seconds - self._clock()

    async def _write(self, method: str, path: str, body: Mapping[str, Any]) -> None:
        """Write the Lease; a conflict means that somebody else was faster."""
        # Taken before the request: the server may store it at once and answer late, and others count from when they see it.
        sent = self._clock()
        answer = await self._api.ask(method, path, body, timeout=self._patience)
        if answer.status not in {200, 201}:
            # Somebody else wrote, or we have no right to: read before the next write, since only the newest resourceVersion is
            # accepted. Our previous renewal stays valid until it runs out, because others wait for the whole duration they saw.
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
            metadata = {**self._lease["metadata"]}  # Has uid and resourceVersion, which a new object must not have.
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
        """Time limit of a request in seconds: a request that hangs must leave time for another one before the Lease runs out."""
        return self._place.seconds / 4

    def _tell(self) -> None:
        """Report each change of leadership once, and set an alarm for when our Lease runs out unless it is renewed before."""
        # A renewal that hangs does not return before its timeout; the alarm reports the loss at the moment it happens.
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
    """The Lease's duration in seconds; 0 when it has none that is usable."""
    duration = _spec(lease).get("leaseDurationSeconds")
    return duration if isinstance(duration, int) and duration > 0 else 0


def _holder(lease: Mapping[str, Any] | None) -> str:
    return str(_spec(lease).get("holderIdentity") or "")
