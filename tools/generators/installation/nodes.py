"""The language in which objects are written once: plain data with a few nodes for what depends on an installation's values.

``evaluate`` gives the objects of one set of values (kustomize); helm.py writes the same nodes as Go templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Value:
    """A value of the installation, by its path: ``image.repository``."""

    path: str


@dataclass(frozen=True)
class Item:
    """A value of the item of the ``Each`` around it, by its path."""

    path: str


@dataclass(frozen=True)
class Release:
    """What the tool that installs knows: the release's name, its namespace, or the tool itself."""

    field: Literal["Name", "Namespace", "Service"]


@dataclass(frozen=True)
class AppVersion:
    """The version of Pelagos."""


@dataclass(frozen=True)
class Text:
    """Strings put together: ``%s`` in ``template`` stands for the parts."""

    template: str
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Digits:
    """A whole number as a string, as environment variables need it."""

    of: Value | Item


@dataclass(frozen=True)
class Json:
    """A value as JSON in a string, with sorted keys and no spaces."""

    of: Value


@dataclass(frozen=True)
class First:
    """The first of two strings that is not empty."""

    of: Any
    otherwise: Any


@dataclass(frozen=True)
class Given:
    """Whether a value is there: not empty, zero or false."""

    of: Any


@dataclass(frozen=True)
class Equal:
    """Whether a value is this string."""

    of: Any
    to: str


@dataclass(frozen=True)
class Not:
    """The opposite."""

    of: Condition


@dataclass(frozen=True)
class All:
    """Whether all conditions hold."""

    of: tuple[Condition, ...]


@dataclass(frozen=True)
class Any_:  # noqa: N801 (Any is typing's)
    """Whether one of the conditions holds."""

    of: tuple[Condition, ...]


Condition = Given | Equal | Not | All | Any_


@dataclass(frozen=True)
class When:
    """``node`` where the condition holds. Elsewhere nothing: the key, the item of a list or the object is left out."""

    condition: Condition
    node: Any


@dataclass(frozen=True)
class Choice:
    """One of two scalars."""

    condition: Condition
    then: Any
    otherwise: Any


@dataclass(frozen=True)
class Each:
    """Items or objects, once for each item of a list among the values."""

    path: str
    nodes: tuple[Any, ...]


@dataclass(frozen=True)
class Context:
    """What an evaluation knows."""

    values: Mapping[str, Any]
    namespace: str
    service: str
    version: str
    name: str = "pelagos"
    item: Mapping[str, Any] = field(default_factory=dict)


class _Left:
    """Stands for what a condition leaves out."""


_LEFT = _Left()


def evaluate(node: Any, context: Context) -> Any:
    """``node`` as plain data. Raises KeyError for a path that no value has."""
    if isinstance(node, Mapping):
        found = {key: evaluate(child, context) for key, child in node.items()}
        return {key: child for key, child in found.items() if child is not _LEFT}
    if isinstance(node, list | tuple):
        return [item for child in node for item in _items(child, context)]
    if isinstance(node, When):
        return evaluate(node.node, context) if holds(node.condition, context) else _LEFT
    if isinstance(node, Choice):
        return evaluate(node.then if holds(node.condition, context) else node.otherwise, context)
    return _scalar(node, context)


def holds(condition: Condition, context: Context) -> bool:
    """Whether ``condition`` is true."""
    if isinstance(condition, Given):
        return bool(evaluate(condition.of, context))
    if isinstance(condition, Equal):
        return bool(evaluate(condition.of, context) == condition.to)
    if isinstance(condition, Not):
        return not holds(condition.of, context)
    each = (holds(part, context) for part in condition.of)
    return all(each) if isinstance(condition, All) else any(each)


def _items(node: Any, context: Context) -> list[Any]:
    if isinstance(node, When) and isinstance(node.node, Each):
        return _items(node.node, context) if holds(node.condition, context) else []
    if isinstance(node, Each):
        items = _find(context.values, node.path)
        inner = [Context(**{**context.__dict__, "item": item}) for item in items]
        return [found for each in inner for child in node.nodes for found in _items(child, each)]
    found = evaluate(node, context)
    return [] if found is _LEFT else [found]


def _scalar(node: Any, context: Context) -> Any:
    match node:
        case Value(path):
            return _find(context.values, path)
        case Item(path):
            return _find(context.item, path)
        case Release(name):
            return {"Name": context.name, "Namespace": context.namespace, "Service": context.service}[name]
        case AppVersion():
            return context.version
        case Text(template, parts):
            return template % tuple(evaluate(part, context) for part in parts)
        case Digits(of):
            return str(int(_scalar(of, context)))
        case Json(of):
            return json.dumps(_scalar(of, context), sort_keys=True, separators=(",", ":"))
        case First(of, otherwise):
            return evaluate(of, context) or evaluate(otherwise, context)
    return node


def _find(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for part in path.split("."):
        found = found[part]
    return found
