"""The two ways for an outside system to fail that reconcilers distinguish. Engines translate vendors' exceptions into these."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pelagos.api import reasons
from pelagos_contract import disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OutageError(Exception):
    """The system did not answer, or answered that it cannot at present. Retried with backoff, without limit."""

    def __init__(self, system: str, message: str) -> None:
        super().__init__(f"{system}: {message}")
        self.system = system


class UnfinishedError(OutageError):
    """The system does as requested, but needs longer than a pass may take: ask again."""


class ChangedError(OutageError):
    """The basis of the decision has changed since it was observed. Nothing was done: observe and decide again."""


class ForbiddenError(OutageError):
    """The system answers, but denies access: a person has to grant a right. Only cleaning up makes a difference of it."""


class RejectedError(Exception):
    """The system understood and refused. Asking again does not help until somebody changes something.

    ``reason`` is the reason of the condition that reports it.
    """

    def __init__(self, system: str, message: str, *, reason: reasons.Reason = reasons.SYSTEM_REJECTED) -> None:
        super().__init__(f"{system}: {message}")
        self.system = system
        self.reason = reason


class TooLargeError(RejectedError):
    """Kubernetes refused an object that is larger than the API server or etcd accepts."""

    def __init__(self, system: str, message: str) -> None:
        super().__init__(system, message, reason=reasons.STATUS_TOO_LARGE)


class UnboundError(RejectedError):
    """Kubernetes refused because no RoleBinding in the namespace permits it. Only cleaning up makes a difference of it."""


@contextlib.contextmanager
def refusing_full_disk(system: str, place: Path) -> Iterator[None]:
    """A context for code that writes below ``place``. Raises RejectedError with the reason DiskFull if there is no space."""
    try:
        yield
    except OSError as error:
        if error.errno not in disk.FULL:
            raise
        raise RejectedError(system, disk.explain(error, place), reason=reasons.DISK_FULL) from error
