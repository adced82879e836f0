"""Sets, while kopf runs, which of our kinds it watches: those that can be reconciled, and no others.

By itself kopf looks for kinds once, at its start, unless it may read all definitions of the cluster, which a Role of one
namespace cannot allow; and a watch of a kind that is gone would end the operator. What kopf knows of a cluster is its
``Insights``, which the caller of ``kopf.run`` may pass in and change.
"""

from __future__ import annotations

import kopf
from kopf._cogs.structs.references import Insights  # Taken by kopf.run; kopf exports no name for it.

from pelagos.api import kinds, meta
from pelagos.wiring import Operator

__all__ = ["Insights", "follow"]


async def follow(operator: Operator, insights: Insights) -> None:
    """Keep kopf watching the kinds that can be reconciled, as the API server comes to serve them or no longer does."""
    await insights.ready_resources.wait()
    while True:
        async with insights.revised:
            wanted = {_resource(kind) for kind in kinds.KINDS if kind.kind in operator.working}
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
