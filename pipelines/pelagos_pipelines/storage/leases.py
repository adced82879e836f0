"""Decides who may write to a place on object storage: a lease is an object that only its holder renews, by conditional writes.

Clocks of different machines are never compared. A waiting process watches the object, and takes it over when it has not changed
for ``TTL`` seconds of the waiting process's own time. The service must support conditional writes (If-None-Match, If-Match); one
that reports that it does not is refused.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from pelagos_pipelines.storage.buckets import Bucket
from pelagos_pipelines.storage.errors import StorageError, TakenOverError

TTL = 45.0
"""Seconds without a renewal after which a holder counts as dead."""
POLL = 2.0
"""Seconds between two looks at a lease that another process holds."""

log = logging.getLogger(__name__)


class Lease:
    """One holder's claim on the object ``path``."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        """Prepare a claim on the object; nothing is written yet."""
        self._bucket, self._path = bucket, path
        self._holder = uuid4().hex
        self._etag = ""
        self._renewals = 0
        # The renewing thread and the step both call `confirm`, which compares with the ETag of the last write.
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take the lease at once, from any holder. The last process to take it is the one that may continue."""
        # A claim fails when another process wrote between our read and our write: read again, and claim over that.
        while not self._claim(self._seen()[1]):
            pass

    def wait(self) -> None:
        """Take the lease when nobody holds it, or its holder has not renewed it for ``TTL`` seconds."""
        holder, etag = self._seen()
        since = time.monotonic()
        if holder:
            log.info("%s is held by another process; waiting until it ends or shows no sign of life", self._bucket.uri)
        while True:
            free = not holder or time.monotonic() - since >= TTL
            if free and self._claim(etag):
                return
            time.sleep(POLL)
            before = etag
            holder, etag = self._seen()
            # Each renewal writes a new number, so a live holder's object changes its ETag.
            if etag != before:
                since = time.monotonic()

    def confirm(self) -> None:
        """Renew the lease. Raises TakenOverError when another process holds it."""
        with self._lock:
            if self._claim(self._etag):
                return
            holder, etag = self._seen()
            # Still ours: an earlier renewal was written, but its answer was lost, so we compared with an old ETag.
            if holder == self._holder and self._claim(etag):
                return
        raise TakenOverError(f"{self._bucket.uri}: another process has taken over; this one ends")

    def release(self) -> None:
        """Free the lease for the next process at once. If that fails, the lease expires by itself."""
        with self._lock:
            try:
                # Conditional on our last write, so that the claim of a process that has taken over stays.
                self._bucket.write_if(self._path, b'{"holder": ""}\n', self._etag)
            except StorageError as error:
                log.warning("a lease was not released and will expire: %s", error)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease in a thread for as long as the block runs."""
        ended = threading.Event()

        def renew() -> None:
            # Several times within TTL, so that one failed renewal does not lose the lease.
            while not ended.wait(TTL / 3):
                try:
                    self.confirm()
                except StorageError as error:
                    log.warning("a lease was not renewed, will be tried again: %s", error)
                except Exception:  # taken over, for example: the next `confirm` raises it to the caller
                    return

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _claim(self, etag: str) -> bool:
        self._renewals += 1
        content = json.dumps({"holder": self._holder, "renewals": self._renewals}) + "\n"
        written = self._bucket.write_if(self._path, content.encode(), etag)
        if written is not None:
            self._etag = written
        return written is not None

    def _seen(self) -> tuple[str, str]:
        """Holder and ETag of the stored lease; both empty when there is none."""
        found = self._bucket.read(self._path)
        if found is None:
            return "", ""
        try:
            return str(json.loads(found[0])["holder"]), found[1]
        except (ValueError, KeyError, TypeError):
            return "", found[1]  # unreadable content is not a claim; its ETag lets us write over it
