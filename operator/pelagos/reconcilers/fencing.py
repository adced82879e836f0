"""Wraps every port so that what changes something is refused unless this operator leads at that very moment.

Reading needs no leadership: it keeps the caches of an operator that stands by warm. A call that began while the operator led may
end later, so the clients of Kubeflow, MLflow and Kubernetes ask a guard once more right before every request that changes
something; that holds as well for what a look tidies up. What remains is a request on its way when the Lease ends: harmless,
because everything outside is named from uid and inputs, and looked up before it is made.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, TypeVar, cast

from pelagos.observability import metrics
from pelagos.ports.leadership import Guard, Leadership, NotLeadingError
from pelagos.reconcilers.dependencies import Dependencies

Port = TypeVar("Port")

CHANGES: dict[str, frozenset[str]] = {
    "cluster": frozenset({"patch_status", "set_finalizers", "post_event"}),
    "pipelines": frozenset({"submit", "cancel", "delete"}),
    "tracking": frozenset({"create_run", "seal_run", "set_outcome", "delete_run"}),
    "registry": frozenset({"register", "delete_version"}),
    "serving": frozenset({"apply", "restart", "remove"}),
    "objects": frozenset({"write_json", "delete"}),
    "volumes": frozenset(),
    "tenants": frozenset(),
}
"""Methods that change something, by the name of the port in Dependencies. A test holds that every method was thought of."""


def guard(leadership: Leadership) -> Guard:
    """What refuses a request at the moment it would be made; see ports.leadership.Guard. Refusals are counted."""

    def require(system: str, operation: str) -> None:
        if not leadership.leads:
            metrics.FENCED.labels(system, operation).inc()
            raise NotLeadingError(f"{system}.{operation}")

    return require


class _Fenced:
    def __init__(self, port: object, system: str, leadership: Leadership) -> None:
        self._port = port
        self._system = system
        self._guard = guard(leadership)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if name not in CHANGES[self._system]:
            return member

        @functools.wraps(member)
        async def call(*arguments: Any, **named: Any) -> Any:
            self._guard(self._system, name)
            return await member(*arguments, **named)

        setattr(self, name, call)
        return call


def fenced(port: Port, system: str, leadership: Leadership) -> Port:
    """``port`` with its changing methods refused (NotLeadingError) while ``leadership`` does not hold."""
    return cast("Port", _Fenced(port, system, leadership))


def fenced_world(dependencies: Dependencies, leadership: Leadership) -> Dependencies:
    """The world with every port fenced."""
    ports: dict[str, Any] = {name: fenced(getattr(dependencies, name), name, leadership) for name in CHANGES}
    return dataclasses.replace(dependencies, **ports)
