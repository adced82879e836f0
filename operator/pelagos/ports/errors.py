"""The two ways in which an outside system fails that reconcilers tell apart. Engines translate vendors' exceptions into these."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pelagos.api import reasons
from pelagos_contract import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OutageError(Exception):
    """The system did not answer, or answered that it cannot now. Retried with backoff; nothing is given up."""

    def __init__(self, system: str, message: str) -> None:
        super().__init__(f"{system}: {message}")
        self.system = system


class UnfinishedError(OutageError):
    """The system is doing what it was asked to, and needs longer than a pass may take: ask again."""


class ChangedError(OutageError):
    """What was decided by has changed since it was looked at, and nothing was done: look again, and decide anew."""


class ForbiddenError(OutageError):
    """The system answers, and does not let us: a person must give us a right. Told apart only while cleaning up."""


class RejectedError(Exception):
    """The system understood and refused; asking again does not help until someone changes something.

    ``reason`` is the reason of the condition that reports it.
    """

    def __init__(self, system: str, message: str, *, reason: reasons.Reason = reasons.SYSTEM_REJECTED) -> None:
        super().__init__(f"{system}: {message}")
        self.system = system
        self.reason = reason


class TooLargeError(RejectedError):
    """Of Kubernetes itself: an object would be larger than the API server or etcd takes."""

    def __init__(self, system: str, message: str) -> None:
        super().__init__(system, message, reason=reasons.STATUS_TOO_LARGE)


class UnboundError(RejectedError):
    """Of Kubernetes itself: no RoleBinding here allows us to do this. Told apart only while cleaning up."""


@contextlib.contextmanager
def refusing_full_disk(system: str, place: Path) -> Iterator[None]:
    """Around what writes below ``place``. Raises RejectedError with the reason DiskFull when there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in disk.FULL:
            raise
        raise RejectedError(system, disk.explain(error, place), reason=reasons.DISK_FULL) from error
