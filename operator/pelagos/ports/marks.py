"""Marks the port methods that change something outside. observability.calls refuses them without leadership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


def mutating(method: Method) -> Method:
    """Mark a method of a port's Protocol as changing something outside, so that only an operator that leads may call it."""
    method.__mutating__ = True  # type: ignore[attr-defined]
    return method


def mutating_methods(port: type) -> frozenset[str]:
    """The names of a Protocol's marked methods."""
    return frozenset(name for name in dir(port) if getattr(getattr(port, name), "__mutating__", False))
