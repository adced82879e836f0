"""Keeps every resource reconciled: one queue of keys, each queued at most once and never processed twice at the same time.

kopf watches; this decides when to look again. It works like client-go's work queues, because kopf's own handlers react only to
changes and keep their progress in annotations on users' objects. See docs/design/0002-own-work-queue.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping

from pelagos.observability import metrics
from pelagos.ports.cluster import Key, Resource
from pelagos.ports.errors import OutageError, TooLargeError
from pelagos.reconcilers import driver
from pelagos.reconcilers.cache import intent
from pelagos.reconcilers.dependencies import Dependencies
from pelagos.reconcilers.fair_queue import FairQueue

logger = logging.getLogger("pelagos.loop")

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
"""Seconds between the first failed pass and the next one, and at most between later ones; jitter adds or takes a fifth."""
GRACE = 3.0
"""Seconds that passes in progress have to finish when the operator stops."""


class Loop:
    """Takes in what the watch reports, makes passes with the reconciler of the kind, and makes another when a pass asks for it.

    Everything runs in one event loop, so code between two ``await`` is never interrupted and the sets below need no lock.
    Invariants: a key is in at most one of ``_queued`` and ``_working``; ``_again`` is a subset of ``_working``.
    """

    def __init__(self, dependencies: Dependencies, reconcilers: Mapping[str, driver.Reconciler], workers: int) -> None:
        self._dependencies = dependencies
        self._reconcilers = reconcilers
        self._ready = FairQueue()
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        """Being processed, and changed since the pass began: that pass may have read the old state."""
        self._initialized: set[Key] = set()
        """Resources that `write_initial_status` has given a first status, and that have had no full pass yet."""
        self._alarms: dict[Key, asyncio.TimerHandle] = {}
        """Timers that will queue a key; one per key at most."""
        self._failures: dict[Key, int] = {}
        """Failed passes in a row; a key without failures is absent."""
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._leading = asyncio.Event()
        self._stopping = False
        self._idle = asyncio.Event()
        self.beat = time.monotonic()
        dependencies.cache.on_change = self._wake_dependents

    def start(self, *, leading: bool = True) -> None:
        """Start the workers. Unless ``leading``, they wait for ``lead`` while the queue fills."""
        # A follower fills its cache and queue too, so that it can take over without listing everything first.
        if leading:
            self._leading.set()
        self._tasks = [asyncio.create_task(self._heartbeat(), name="heartbeat"), *self._new_workers()]

    def lead(self) -> None:
        """Begin to reconcile, with a pass over every resource."""
        # Every resource, not only the queued ones: another operator has acted until now and may have left any of them half done.
        # Nor are passes queued again that ``follow`` has cancelled.
        self._leading.set()
        for resource in self._dependencies.cache.all():
            self.add(resource.key)

    def follow(self) -> None:
        """Drop all passes, including those in progress, until ``lead`` is called: another operator acts now."""
        # First the event, then the workers: new workers must find it cleared, or they would begin passes at once.
        self._leading.clear()
        beat, *workers = self._tasks
        for task in workers:
            # Cancelled, not awaited: each ends at its next ``await``, and its ``finally`` clears the key. If a request is in
            # flight, the client's guard refuses every request after it.
            task.cancel()
        self._tasks = [beat, *self._new_workers()]

    def _new_workers(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._work(), name=f"reconcile-{number}") for number in range(self._workers)]

    async def stop(self) -> None:
        """Give passes in progress ``GRACE`` seconds to finish, then cancel them. A pass may be cut off anywhere without harm."""
        # Before waiting: neither an alarm nor a worker that has just finished may begin another pass.
        for handle in self._alarms.values():
            handle.cancel()
        self._stopping = True
        if self._working:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), GRACE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_news(self, key: Key, uid: str, version: str) -> bool:
        """Whether this version of the resource is newer than what the cache has. Lets a caller skip parsing what is not."""
        return self._dependencies.cache.is_news(key, uid, version)

    def seen(self, resource: Resource) -> None:
        """The watch reported a resource, new or changed."""
        if self._dependencies.cache.put(resource):
            self.add(resource.key)

    def gone(self, key: Key, uid: str) -> None:
        """The watch reported that the resource with this uid was deleted."""
        if self._dependencies.cache.remove(key, uid):
            self._forget(key)

    def list_asked(self, kind: str) -> None:
        """A list of all resources of a kind is about to be requested from the API server."""
        self._dependencies.cache.ask_for_list(kind)

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        """A page of the list has arrived. ``version`` is the list's resourceVersion; ``found`` maps uids to resourceVersions."""
        for resource in self._dependencies.cache.take_page(kind, version, found):
            self._forget(resource.key)

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        """The last page of the list has arrived. ``uids`` are all resources of the kind, and any other is forgotten."""
        for resource in self._dependencies.cache.end_list(kind, version, uids):
            logger.info(
                "%s %s/%s was deleted, and the watch did not report it", kind, resource.namespace, resource.name
            )
            self._forget(resource.key)

    def _forget(self, key: Key) -> None:
        # A key that is still queued does no harm: its pass finds no resource and returns. The rest is cleared, because a new
        # resource of the same name must not inherit the backoff of the old one.
        self._failures.pop(key, None)
        self._initialized.discard(key)
        self._silence(key)

    def _wake_dependents(self, key: Key) -> None:
        for dependent in self._dependencies.cache.dependents(key):
            self.add(dependent)

    def add(self, key: Key) -> None:
        """Reconcile ``key`` soon, and only once, however often this is called until then."""
        if key in self._working:
            # Two passes over one resource at the same time would submit and write twice. The worker queues the key again when
            # its pass is over.
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            # New resources go first, so that none in a burst stays without a status for long.
            self._ready.put_nowait((key, self._is_new(key)))
            metrics.QUEUE_DEPTH.set(len(self._queued))

    def _is_new(self, key: Key) -> bool:
        resource = self._dependencies.cache.get(key)
        return resource is not None and not resource.status.get("conditions") and not resource.deleting

    def add_after(self, key: Key, delay: float) -> None:
        """Reconcile ``key`` after ``delay`` seconds, unless a change comes first."""

        def ring() -> None:
            self._alarms.pop(key, None)
            self.add(key)

        self._silence(key)  # At most one alarm per key: nothing could cancel the old one once it is overwritten here.
        self._alarms[key] = asyncio.get_running_loop().call_later(delay, ring)

    def _silence(self, key: Key) -> None:
        alarm = self._alarms.pop(key, None)
        if alarm is not None:
            alarm.cancel()

    async def _work(self) -> None:
        while True:
            # Leadership cannot be lost unnoticed between these two: ``follow`` cancels workers wherever they wait.
            await self._leading.wait()
            key, _ = await self._ready.get()
            # Out of ``_queued`` before the pass begins: a change from now on must lead to another pass.
            self._queued.discard(key)
            # This pass does what the alarm was set for, and it sets the next one itself.
            self._silence(key)
            if self._stopping:
                # Checked after the wait for a key: a worker idles there, and ``stop`` may have been called since.
                return
            self._working.add(key)
            self._idle.clear()
            metrics.QUEUE_DEPTH.set(len(self._queued))
            try:
                await self._pass(key)
            finally:
                # Also when ``follow`` or ``stop`` cancels the pass: a key left in ``_working`` would never be processed again.
                self._working.discard(key)
                if not self._working:
                    self._idle.set()
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _pass(self, key: Key) -> None:
        # Read now and not when the key was queued: the pass acts on the latest version, and many changes cost one pass.
        resource = self._dependencies.cache.get(key)
        if resource is None:
            return
        reconciler = self._reconcilers[key.kind]
        started = time.perf_counter()
        result, delay = "error", None
        try:
            if self._is_new(key) and len(self._queued) >= self._workers:
                # Others wait behind this one. A first status is one quick write, while a full pass asks several systems.
                self._initialized.add(key)
                outcome = await driver.write_initial_status(reconciler, resource, self._dependencies)
            else:
                initialized = key in self._initialized
                self._initialized.discard(key)
                outcome = await driver.reconcile(reconciler, resource, self._dependencies, initialized=initialized)
            result, delay = outcome.result, outcome.recheck_after
            if outcome.failed:
                delay = self._backoff(key)
            else:
                self._failures.pop(key, None)
        except Exception as error:
            # An exception that left this method would end the worker for good, and without workers nothing is reconciled.
            delay = self._backoff(key)
            where = {"kind": key.kind, "namespace": key.namespace, "resource": key.name}
            known = isinstance(error, OutageError | TooLargeError)
            logger.error("the pass failed: %s; again in %.0f s", error, delay, exc_info=not known, extra=where)
        metrics.RECONCILES.labels(key.kind, result).inc()
        metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - started)
        latest = self._dependencies.cache.get(key)
        if latest is not None and intent(latest) != intent(resource):
            # The reply to one of our writes contained a change that somebody else made during the pass. The cache has it now, so
            # the watch's own event about it will count as old and wake nobody: this is the only chance to look again.
            self.add(key)
        elif latest is not None and delay is not None:
            self.add_after(key, delay)

    def _backoff(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        doublings = min(failures - 1, 16)  # Keeps the power below from overflowing in an outage of hours.
        pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**doublings)
        # Without jitter, all resources that failed in one outage would retry in the same instant, again at each doubling.
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _heartbeat(self) -> None:
        """Update ``beat`` every second. The liveness probe looks at its age to see that the event loop is not blocked."""
        while True:
            self.beat = time.monotonic()
            await asyncio.sleep(1)
