"""Specs as a later release may have them: with one more field in every part, or with another default."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, create_model

LATER = 7
"""The default of the field ``later``."""


def changed(of: Any, *, grown: bool = False, defaults: Mapping[str, Any] | None = None, path: str = "") -> Any:
    """A copy of a model with one more field in every part (``grown``), or with other ``defaults`` of fields, by their paths."""
    fields: dict[str, Any] = {"later": (int, LATER)} if grown else {}
    for name, known in of.model_fields.items():
        field, at = copy.copy(known), f"{path}.{known.alias}".removeprefix(".")
        field.annotation = _replaced(
            known.annotation, lambda part, at=at: changed(part, grown=grown, defaults=defaults, path=at)
        )
        if isinstance(known.default, BaseModel):
            field.default = field.annotation()
        elif at in (defaults or {}):
            field.default = (defaults or {})[at]
        fields[name] = (field.annotation, field)
    return create_model(of.__name__, __base__=of, **fields)


def grown_dataclass(of: Any) -> Any:
    """A copy of a dataclass with one more field."""
    return dataclasses.make_dataclass(of.__name__, [("later", int, LATER)], bases=(of,), frozen=True)


def _replaced(annotation: Any, replace: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return replace(annotation)
    arguments = tuple(_replaced(argument, replace) for argument in get_args(annotation))
    if arguments == get_args(annotation):
        return annotation
    origin = get_origin(annotation)
    return Union[arguments] if origin in (Union, UnionType) else origin[arguments]  # noqa: UP007
