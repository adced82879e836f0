"""Wraps a port, so that each call is measured, and refused when it would change something while this operator does not lead.

Reading needs no leadership: it keeps the caches of a standby operator warm. A call that began while the operator led may
end later, so the clients of Kubeflow, MLflow and Kubernetes ask a guard once more right before every request that changes
something; that holds as well for what is cleaned up while reading. What remains is a request on its way when the Lease ends:
harmless, because everything outside is named from uid and inputs, and looked up before it is made.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import Any, TypeVar, cast

from pelagos.observability import metrics
from pelagos.ports.leadership import Guard, Leadership, NotLeadingError, unguarded
from pelagos.ports.marks import mutating_methods

Port = TypeVar("Port")


def guard(leadership: Leadership) -> Guard:
    """What refuses a request at the moment it would be made; see ports.leadership.Guard. Refusals are counted."""

    def require(system: str, operation: str) -> None:
        if not leadership.leads:
            metrics.FENCED.labels(system, operation).inc()
            raise NotLeadingError(f"{system}.{operation}")

    return require


class _Wrapped:
    def __init__(self, port: object, name: str, mutating: frozenset[str], system: str, require: Guard) -> None:
        self._port = port
        self._name = name
        self._mutating = mutating
        self._system = system
        self._require = require

    def __getattr__(self, method: str) -> Any:
        member = getattr(self._port, method)
        changes = method in self._mutating
        # What changes something is wrapped however it is written: an engine of others may only return what is awaited.
        if not (changes or inspect.iscoroutinefunction(member)):
            return member

        @functools.wraps(member)
        async def call(*arguments: Any, **named: Any) -> Any:
            # At every call, not when the method is looked up: leadership can end between two calls of one pass.
            if changes:
                self._require(self._name, method)
            with metrics.timed(self._system, method) if self._system else contextlib.nullcontext():
                return await member(*arguments, **named)

        setattr(self, method, call)  # the next look-up finds it without coming here
        return call


def wrapped(port: Port, protocol: type, *, name: str = "", system: str = "", require: Guard = unguarded) -> Port:
    """``port`` with its coroutine methods timed and their failures counted under ``system``, unless that is empty.

    Methods that ``protocol`` marks as mutating first ask ``require`` with the ``name`` of the port; it raises NotLeadingError.
    """
    return cast("Port", _Wrapped(port, name, mutating_methods(protocol), system, require))
