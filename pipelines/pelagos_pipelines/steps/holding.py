"""Holds a Dataset's store for one step: only one preparation or removal may work on it at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pelagos_pipelines import storage
from pelagos_pipelines.preparation import locks
from pelagos_pipelines.storage import Place

LEASE = ".lease.json"
"""The lease in a store on object storage, which decides who may write there."""


@contextmanager
def held(store: Place) -> Iterator[Callable[[], None]]:
    """Hold the store, on object storage by a lease. The yielded function raises TakenOverError if another process has it."""
    with ExitStack() as held:
        held.enter_context(locks.locked(store.folder))
        confirm: Callable[[], None] = _nobody_else
        if store.bucket is not None:
            lease = storage.Lease(store.bucket, LEASE)
            lease.wait()
            # The stack unwinds in reverse, so renewing stops before the lease is released.
            held.callback(lease.release)
            held.enter_context(lease.renewed())
            confirm = lease.confirm
        yield confirm


def _nobody_else() -> None:
    """Do nothing: a lock of the system is held as long as the process lives."""
