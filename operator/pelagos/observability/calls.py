"""Wraps a port so that every call is measured, and calls that change something are refused while this operator does not lead.

Reading needs no leadership: it keeps the caches of a standby operator warm. A call that began while the operator led may take
longer than its leadership. So the clients of Kubeflow, MLflow and Kubernetes ask a guard again right before every request that
changes something, even if a call that only reads makes it to clean up. What remains is a request in flight when the Lease ends.
That is harmless, because everything outside is named by uid and inputs, and looked up before it is created.
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
    """A guard that refuses requests while ``leadership`` is not held, and counts refusals; see ports.leadership.Guard."""

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
        # A method that changes something is wrapped even if it is not a coroutine function: a third-party engine's may be a plain
        # function that returns an awaitable, and must be fenced as well.
        if not (changes or inspect.iscoroutinefunction(member)):
            return member

        @functools.wraps(member)
        async def call(*arguments: Any, **named: Any) -> Any:
            # At every call and not when the method is looked up: leadership can end between two calls of one pass.
            if changes:
                self._require(self._name, method)
            with metrics.timed(self._system, method) if self._system else contextlib.nullcontext():
                return await member(*arguments, **named)

        setattr(self, method, call)  # A cache: the next look-up finds this attribute and does not call __getattr__.
        return call


def wrapped(port: Port, protocol: type, *, name: str = "", system: str = "", require: Guard = unguarded) -> Port:
    """``port``, with its coroutine methods timed and their failures counted under ``system``, unless that is empty.

    Methods that ``protocol`` marks as mutating first call ``require`` with the ``name`` of the port. It raises NotLeadingError
    while this operator does not lead.
    """
    return cast("Port", _Wrapped(port, name, mutating_methods(protocol), system, require))
