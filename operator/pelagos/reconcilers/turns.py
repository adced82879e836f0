"""For reconcilers whose passes over different resources do not affect each other."""

from __future__ import annotations

import contextlib

from pelagos.ports.cluster import Resource


class AnyTime:
    """Passes over different resources may run concurrently. See driver.Reconciler."""

    def turn(self, resource: Resource) -> contextlib.AbstractAsyncContextManager[object]:
        """A context that never waits."""
        del resource
        return contextlib.nullcontext()
