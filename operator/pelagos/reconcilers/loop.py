"""Keeps every resource reconciled: one queue of keys, each at most once in it and never twice at work.

kopf watches; this decides when to look again. Built like the work queues of client-go, because kopf's own handlers are driven by
changes only, and keep their progress in annotations of users' objects.
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
GRACE = 3.0
"""Seconds that passes in progress are given when the operator stops."""


class Loop:
    """Takes what the watch saw; calls the kind's reconciler; comes back when asked to.

    All of this runs in one event loop, so that what stands between two ``await`` is never interrupted: the sets below need no
    lock. A key is in at most one of ``_queued`` and ``_working``; ``_again`` is only for keys at work.
    """

    def __init__(self, dependencies: Dependencies, reconcilers: Mapping[str, driver.Reconciler], workers: int) -> None:
        self._dependencies = dependencies
        self._reconcilers = reconcilers
        self._ready = FairQueue()
        self._queued: set[Key] = set()
        self._working: set[Key] = set()
        self._again: set[Key] = set()
        """At work, and changed meanwhile: the pass in progress may have read what was there before."""
        self._initialized: set[Key] = set()
        """Have got their first status from `write_initial_status`, and no full pass yet."""
        self._alarms: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._workers = workers
        self._tasks: list[asyncio.Task[None]] = []
        self._leading = asyncio.Event()
        self._stopping = False
        self._idle = asyncio.Event()
        self.beat = time.monotonic()
        dependencies.cache.on_change = self._wake_dependents

    def start(self, *, leading: bool = True) -> None:
        """Start the workers; unless ``leading``, they wait for ``lead`` while the queue fills."""
        if leading:
            self._leading.set()
        self._tasks = [asyncio.create_task(self._heartbeat(), name="heartbeat"), *self._new_workers()]

    def lead(self) -> None:
        """Look at every resource: what is known of them may be from another operator's time."""
        self._leading.set()
        for resource in self._dependencies.cache.all():
            self.add(resource.key)

    def follow(self) -> None:
        """Drop all passes, also those in progress, until told to lead: another operator acts."""
        # First the event, then the workers: new workers must find it cleared, or they would begin passes at once.
        self._leading.clear()
        beat, *workers = self._tasks
        for task in workers:
            # Cancelled, not awaited: each ends at its next ``await``, and its ``finally`` clears the key. Should a request be on
            # its way, the guard of its client refuses what would follow.
            task.cancel()
        self._tasks = [beat, *self._new_workers()]

    def _new_workers(self) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._work(), name=f"reconcile-{number}") for number in range(self._workers)]

    async def stop(self) -> None:
        """Let passes that are in progress end, then drop them: every crash point is harmless."""
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
        """Whether the watch need show us this."""
        return self._dependencies.cache.is_news(key, uid, version)

    def seen(self, resource: Resource) -> None:
        """The watch showed a resource, new or changed."""
        if self._dependencies.cache.put(resource):
            self.add(resource.key)

    def gone(self, key: Key, uid: str) -> None:
        """The watch showed that the resource of this uid is no more."""
        if self._dependencies.cache.remove(key, uid):
            self._forget(key)

    def list_asked(self, kind: str) -> None:
        """The API server is being asked for a list of all of a kind."""
        self._dependencies.cache.ask_for_list(kind)

    def page_came(self, kind: str, version: str, found: Mapping[str, str]) -> None:
        """A page of the list has come, as of a resourceVersion: versions by uid."""
        for resource in self._dependencies.cache.take_page(kind, version, found):
            self._forget(resource.key)

    def list_ended(self, kind: str, version: str, uids: frozenset[str]) -> None:
        """The API server has listed all of a kind."""
        for resource in self._dependencies.cache.end_list(kind, version, uids):
            logger.info("%s %s/%s is gone, unseen by the watch", kind, resource.namespace, resource.name)
            self._forget(resource.key)

    def _forget(self, key: Key) -> None:
        # What is left of the key in the queue is harmless: its pass finds no resource. A new resource of the same name must not
        # inherit the pauses of the old one.
        self._failures.pop(key, None)
        self._initialized.discard(key)
        self._silence(key)

    def _wake_dependents(self, key: Key) -> None:
        for dependent in self._dependencies.cache.dependents(key):
            self.add(dependent)

    def add(self, key: Key) -> None:
        """Reconcile ``key`` soon; once, however often this is called before."""
        if key in self._working:
            # Two passes over one resource at once would submit and write twice.
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            # New resources go first, so that none of a burst is without a status for long.
            self._ready.put_nowait((key, self._is_new(key)))
            metrics.QUEUE_DEPTH.set(len(self._queued))

    def _is_new(self, key: Key) -> bool:
        resource = self._dependencies.cache.get(key)
        return resource is not None and not resource.status.get("conditions") and not resource.deleting

    def add_after(self, key: Key, delay: float) -> None:
        """Reconcile ``key`` after ``delay`` seconds, unless something happens sooner."""

        def ring() -> None:
            self._alarms.pop(key, None)
            self.add(key)

        self._silence(key)  # One alarm for each key: the one that is lost from here could not be silenced any more.
        self._alarms[key] = asyncio.get_running_loop().call_later(delay, ring)

    def _silence(self, key: Key) -> None:
        alarm = self._alarms.pop(key, None)
        if alarm is not None:
            alarm.cancel()

    async def _work(self) -> None:
        while True:
            await self._leading.wait()
            key, _ = await self._ready.get()
            # Out of ``_queued`` before the pass begins: a change from now on must lead to another pass.
            self._queued.discard(key)
            self._silence(key)
            if self._stopping:
                return
            self._working.add(key)
            self._idle.clear()
            metrics.QUEUE_DEPTH.set(len(self._queued))
            try:
                await self._pass(key)
            finally:
                # Also when the pass is cancelled, because another operator leads: the key must not count as at work for ever.
                self._working.discard(key)
                if not self._working:
                    self._idle.set()
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    async def _pass(self, key: Key) -> None:
        resource = self._dependencies.cache.get(key)
        if resource is None:
            return
        reconciler = self._reconcilers[key.kind]
        started = time.perf_counter()
        result, delay = "error", None
        try:
            if self._is_new(key) and len(self._queued) >= self._workers:
                # Others have to wait behind this one. A first status is one quick write; a full pass asks several systems.
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
            # A worker that ended here would be one less for good, and after the last of them nothing would be reconciled.
            delay = self._backoff(key)
            where = {"kind": key.kind, "namespace": key.namespace, "resource": key.name}
            known = isinstance(error, OutageError | TooLargeError)
            logger.error("the pass failed: %s; again in %.0f s", error, delay, exc_info=not known, extra=where)
        metrics.RECONCILES.labels(key.kind, result).inc()
        metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - started)
        latest = self._dependencies.cache.get(key)
        if latest is not None and intent(latest) != intent(resource):
            # The reply to one of our writes brought what somebody else had changed meanwhile. The cache knows it now, so that the
            # watch's event about it will look old and wake nobody: this is the only chance to look again.
            self.add(key)
        elif latest is not None and delay is not None:
            self.add_after(key, delay)

    def _backoff(self, key: Key) -> float:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        doublings = min(failures - 1, 16)  # An outage of hours must not overflow.
        pause = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0**doublings)
        # Without jitter, all that failed in one outage would come back in the same instant, and again at each doubling.
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    async def _heartbeat(self) -> None:
        """Shows that the event loop turns; liveness looks at ``beat``."""
        while True:
            self.beat = time.monotonic()
            await asyncio.sleep(1)
