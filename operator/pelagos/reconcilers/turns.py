"""For reconcilers whose passes over different resources have nothing to do with each other."""

from __future__ import annotations

import contextlib

from pelagos.ports.cluster import Resource


class AnyTime:
    """A pass over any resource may be made at any time. See driver.Reconciler."""

    def turn(self, resource: Resource) -> contextlib.AbstractAsyncContextManager[object]:
        """At once."""
        del resource
        return contextlib.nullcontext()
