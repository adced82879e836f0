"""The store of a Dataset, held for one step: for a preparation, or a removal, of which there is never more than one at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pelagos_pipelines import storage
from pelagos_pipelines.preparation import locks
from pelagos_pipelines.storage import Place

LEASE = ".lease.json"
"""In a store on object storage: who may write there."""


@contextmanager
def held(store: Place) -> Iterator[Callable[[], None]]:
    """Hold the store, on object storage by a lease; the function raises TakenOverError when another process has it."""
    with ExitStack() as held:
        held.enter_context(locks.locked(store.folder))
        confirm: Callable[[], None] = _nobody_else
        if store.bucket is not None:
            lease = storage.Lease(store.bucket, LEASE)
            lease.wait()
            # Undone in reverse: nobody renews a lease that is released.
            held.callback(lease.release)
            held.enter_context(lease.renewed())
            confirm = lease.confirm
        yield confirm


def _nobody_else() -> None:
    """A lock of the system is held as long as the process lives."""
