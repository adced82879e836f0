"""Wraps a port so that every call to another system is measured; reconcilers and engines need not know."""

from __future__ import annotations

import functools
import inspect
from typing import Any, TypeVar, cast

from pelagos.observability import metrics

Port = TypeVar("Port")


class _Measured:
    def __init__(self, port: object, system: str) -> None:
        self._port = port
        self._system = system

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if not inspect.iscoroutinefunction(member):
            return member

        @functools.wraps(member)
        async def call(*arguments: Any, **named: Any) -> Any:
            with metrics.timed(self._system, name):
                return await member(*arguments, **named)

        setattr(self, name, call)
        return call


def measured(port: Port, system: str) -> Port:
    """``port`` with every coroutine method timed and its failures counted under ``system``."""
    return cast("Port", _Measured(port, system))
