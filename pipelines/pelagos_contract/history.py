"""The canonical form of specs, from which digests are computed. The only place that defines it, for both planes.

An upgrade must not change the digests of existing objects. ``history.json`` therefore records two things for each subject, by the
paths of fields, and only grows: the fields that were in its digest when that was first computed, and every default that a field
has had, oldest first. A field of the first digest is always part of it. A later field is part of it only if its value differs
from its first default, since existing objects were made with that default. Adding a field or changing a default needs no further
care: a field that the file does not have yet gets its present default as the first one, and tools/generate.sh records it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

FILE = Path(__file__).with_name("history.json")
_REQUIRED = object()
_SIMPLE = frozenset({str, int, bool, type(None)})


@dataclass(frozen=True)
class _Field:
    """A field of a model or dataclass: its name in documents, its types that have fields of their own, and its default as
    JSON."""

    attribute: str
    name: str
    parts: tuple[tuple[str, type], ...]
    default: Any


@dataclass(frozen=True)
class History:
    """The history of one subject. ``first``: the paths in its first digest; ``defaults``: all defaults of a path, oldest
    first."""

    first: frozenset[str]
    defaults: Mapping[str, tuple[Any, ...]]

    def canonical(self, value: Any, path: str = "", *, only_unusual: bool = False) -> dict[str, Any]:
        """The canonical form of ``value``, a model or dataclass; ``only_unusual``: without any value that equals its default."""
        out: dict[str, Any] = {}
        of: Any = type(value)
        for field in _fields(of):
            at, found = _below(path, field.name), getattr(value, field.attribute)
            if (at in self.first and not only_unusual) or self._is_unusual(found, field, at):
                out[field.name] = self._canonical(found, at, only_unusual=only_unusual)
        return out

    def completed(self, canonical: Mapping[str, Any], of: Any, path: str = "") -> dict[str, Any]:
        """The inverse of ``canonical``: the document with the first default for each field that was left out."""
        out = dict(canonical)
        for field in _fields(of):
            at = _below(path, field.name)
            if field.name not in out and at in self.defaults:
                out[field.name] = self.defaults[at][0]
            for suffix, part in field.parts:
                found = out.get(field.name, {} if isinstance(field.default, dict) else None)
                if isinstance(found, Mapping) and not suffix:
                    out[field.name] = self.completed(found, part, at)
                elif isinstance(found, list) and suffix:
                    out[field.name] = [self.completed(each, part, at + suffix) for each in found]
        return out

    def kept(self, before: Mapping[str, Any], now: Mapping[str, Any], of: Any, path: str = "") -> dict[str, Any]:
        """``now``, but with the value of ``before`` where that was an earlier default and ``now`` has the present one."""
        out = dict(now)
        for field in _fields(of):
            at, old, new = _below(path, field.name), before.get(field.name), now.get(field.name)
            part = dict(field.parts).get("")
            if part is not None and isinstance(old, Mapping) and isinstance(new, Mapping):
                out[field.name] = self.kept(old, new, part, at)
            elif old != new and new == field.default and old in self.defaults.get(at, ()):
                out[field.name] = old
        return out

    def updated(self, of: Any) -> History:
        """This history extended by the present fields and defaults of ``of``."""
        defaults = dict(self.defaults)
        for at, default in _defaults(of):
            known = defaults.get(at, ())
            defaults[at] = known if known[-1:] == (default,) else (*known, default)
        return History(self.first, defaults)

    def _canonical(self, value: Any, at: str, *, only_unusual: bool) -> Any:
        if _has_fields(value):
            return self.canonical(value, at, only_unusual=only_unusual)
        if isinstance(value, (list, tuple)):
            return [self._canonical(each, f"{at}[]", only_unusual=only_unusual) for each in value]
        return _plain(value)

    def _is_unusual(self, value: Any, field: _Field, at: str) -> bool:
        known = self.defaults.get(at)
        first = known[0] if known else field.default
        if _has_fields(value) and isinstance(first, dict):
            return bool(self.canonical(value, at, only_unusual=True))
        return bool(first != _plain(value))


def of_subject(name: str) -> History:
    """The recorded history of ``name``."""
    noted = json.loads(FILE.read_bytes())[name]
    return History(frozenset(noted["first"]), {path: tuple(values) for path, values in noted["defaults"].items()})


def updated(subjects: Mapping[str, Any]) -> str:
    """The new text of history.json, with the present fields and defaults of the subjects."""
    out = {name: of_subject(name).updated(of) for name, of in subjects.items()}
    return "{\n" + ",\n".join(map(_noted, out, out.values())) + "\n}\n"


def _noted(name: str, history: History) -> str:
    """One line per path, so that additions are visible in a diff."""
    first = ",\n".join(f"   {json.dumps(path)}" for path in sorted(history.first))
    defaults = ",\n".join(
        f"   {json.dumps(path)}: {json.dumps(values, ensure_ascii=False)}"
        for path, values in sorted(history.defaults.items())
    )
    return f' {json.dumps(name)}: {{\n  "first": [\n{first}\n  ],\n  "defaults": {{\n{defaults}\n  }}\n }}'


def _has_fields(value: Any) -> bool:
    of: Any = type(value)
    return _is_composed(of)


@functools.cache
def _is_composed(of: Any) -> bool:
    """Whether a type is a model or dataclass, with fields of its own."""
    return isinstance(of, type) and (issubclass(of, BaseModel) or dataclasses.is_dataclass(of))


def _fields(of: Any) -> tuple[_Field, ...]:
    # The names are part of the cache key, since registering a source adds a field to a model that was described before.
    return _described(of, tuple(of.model_fields) if issubclass(of, BaseModel) else ())


@functools.cache
def _described(of: Any, _names: tuple[str, ...]) -> tuple[_Field, ...]:
    if issubclass(of, BaseModel):
        return tuple(
            _Field(
                attribute=name,
                name=field.alias or name,
                parts=tuple(_parts(field.annotation)),
                default=_default(field.get_default(call_default_factory=True)),
            )
            for name, field in of.model_fields.items()
        )
    hints = typing.get_type_hints(of)
    made = ((field, _made(field)) for field in dataclasses.fields(of))
    return tuple(
        _Field(field.name, field.name, tuple(_parts(hints[field.name])), _default(default)) for field, default in made
    )


def _made(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _default(value: Any) -> Any:
    if value is PydanticUndefined or value is dataclasses.MISSING:
        return _REQUIRED
    return _plain(value)


def _plain(value: Any) -> Any:
    """The value as JSON types."""
    return value if type(value) in _SIMPLE else to_jsonable_python(value, by_alias=True)


def _parts(of: Any) -> Iterator[tuple[str, type]]:
    """Types with fields of their own within an annotation, with the suffix ``[]`` for members of lists."""
    if _is_composed(of):
        yield "", of
    suffix = "[]" if typing.get_origin(of) in (list, tuple) else ""
    for argument in typing.get_args(of):
        for inner, part in _parts(argument):
            yield suffix + inner, part


def _defaults(of: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The defaults of all fields by their paths; those of a part that exists by default come from its own fields."""
    for field in _fields(of):
        at = _below(path, field.name)
        if field.default is not _REQUIRED and not (field.parts and isinstance(field.default, dict)):
            yield at, field.default
        for suffix, part in field.parts:
            yield from _defaults(part, at + suffix)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
