"""Sets, while kopf runs, which of our kinds it watches: those that can be reconciled, and no others.

By itself, kopf looks for kinds only once, at its start, unless it may read all CRDs of the cluster, which the Role of a namespace
cannot permit. And a watch of a kind that is no longer served would end the operator. kopf keeps its knowledge of the cluster in
``Insights``, which the caller of ``kopf.run`` can pass in and change.
"""

from __future__ import annotations

import kopf
from kopf._cogs.structs.references import Insights  # kopf.run accepts one, but kopf exports no name for it.

from pelagos.api import kinds, meta
from pelagos.wiring import Operator

__all__ = ["Insights", "follow"]


async def follow(operator: Operator, insights: Insights) -> None:
    """Keep kopf watching the kinds that can be reconciled, as the API server begins and stops to serve them. Never returns."""
    # kopf sets it after its own first scan, which would otherwise replace the set that is written here.
    await insights.ready_resources.wait()
    while True:
        # kopf's orchestrator waits on this condition. It starts and stops watches according to the set when notified.
        async with insights.revised:
            wanted = {_resource(kind) for kind in kinds.KINDS if kind.kind in operator.working}
            # What kopf has found out about a kind itself is kept: it knows more of it than ``_resource`` does.
            found = {resource.plural: resource for resource in insights.watched_resources}
            insights.watched_resources.clear()
            insights.watched_resources.update(found.get(resource.plural, resource) for resource in wanted)
            insights.revised.notify_all()
        await operator.next_kinds()


def _resource(kind: kinds.Kind) -> kopf.Resource:
    return kopf.Resource(
        group=meta.GROUP,
        version=meta.VERSION,
        plural=kind.plural,
        kind=kind.kind,
        singular=kind.kind.lower(),
        namespaced=True,
        verbs=frozenset({"list", "watch"}),
    )
