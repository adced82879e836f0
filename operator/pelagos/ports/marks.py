"""Marks the methods of ports that change something outside, so that what wraps ports knows them: see observability.calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def mutating(method: Method) -> Method:
    """The method changes something outside: only an operator that leads may call it. For the methods of a port's Protocol."""
    method.__mutating__ = True  # type: ignore[attr-defined]
    return method


def mutating_methods(port: type) -> frozenset[str]:
    """Names of the marked methods of a Protocol."""
    return frozenset(name for name in dir(port) if getattr(getattr(port, name), "__mutating__", False))
