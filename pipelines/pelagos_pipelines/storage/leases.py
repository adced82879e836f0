"""Who may write to a place on object storage: an object that only its holder renews, by conditional writes.

No clocks are compared: who waits watches the object, and takes it over when it has not changed for ``TTL`` seconds of its own
time. The service must know conditional writes (If-None-Match, If-Match), and is refused when it says that it does not.
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
"""Seconds without a sign of life after which a holder counts as gone."""
POLL = 2.0

log = logging.getLogger(__name__)


class Lease:
    """One holder's claim on the object ``path``."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        """Claim nothing yet."""
        self._bucket, self._path = bucket, path
        self._holder = uuid4().hex
        self._etag = ""
        self._renewals = 0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take it now, whoever holds it: the last one who takes it is the one who may go on."""
        while not self._claim(self._seen()[1]):
            pass

    def wait(self) -> None:
        """Take it when nobody holds it, or its holder has shown no sign of life for ``TTL`` seconds."""
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
            if etag != before:
                since = time.monotonic()

    def confirm(self) -> None:
        """Renew it. Raises TakenOverError when somebody else has it."""
        with self._lock:
            if self._claim(self._etag):
                return
            holder, etag = self._seen()
            # Ours after all: the answer to an earlier renewal was lost on the way.
            if holder == self._holder and self._claim(etag):
                return
        raise TakenOverError(f"{self._bucket.uri}: another process has taken over; this one ends")

    def release(self) -> None:
        """Let the next one in at once. Errors are left to time."""
        with self._lock:
            try:
                self._bucket.write_if(self._path, b'{"holder": ""}\n', self._etag)
            except StorageError as error:
                log.warning("a lease was not released and will expire: %s", error)

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Show signs of life meanwhile."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(TTL / 3):
                try:
                    self.confirm()
                except StorageError as error:
                    log.warning("a lease was not renewed, will be tried again: %s", error)
                except Exception:  # whoever confirms next is told
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
        """Holder and ETag; both empty when there is no lease."""
        found = self._bucket.read(self._path)
        if found is None:
            return "", ""
        try:
            return str(json.loads(found[0])["holder"]), found[1]
        except (ValueError, KeyError, TypeError):
            return "", found[1]  # whatever it is, it is no claim
