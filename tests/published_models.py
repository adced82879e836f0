"""Compares JSON with the models of a published Python client, as OpenAPI Generator makes them. The fake servers for Kubeflow
Pipelines and KServe do it, and the tests of the engines, so that nothing is written or answered that the real ones do not know.

A model lists the type of each field and its name in JSON, and its constructor refuses missing fields and unknown words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

_LIST = re.compile(r"[Ll]ist\[(.+)\]")
_MAP = re.compile(r"[Dd]ict[(\[]str, (.+)[)\]]")
_PLAIN: Mapping[str, type | tuple[type, ...]] = {"str": str, "bool": bool, "int": int, "float": (int, float)}


@dataclass(frozen=True)
class Models:
    """``modules`` hold the classes, the first that has a name gives it; ``others`` are names that none has, as a type."""

    modules: tuple[Any, ...]
    others: Mapping[str, str] = field(default_factory=dict)

    def wrong(self, value: object, declared: str, where: str) -> Iterator[str]:
        """What is not as the type ``declared``, each with its place. Raises LookupError for a type that nobody knows."""
        declared = self.others.get(declared, declared)
        if match := _LIST.fullmatch(declared):
            yield from self._wrong_in_list(value, match[1], where)
        elif match := _MAP.fullmatch(declared):
            yield from self._wrong_in_map(value, match[1], where)
        elif declared == "datetime":
            if not _is_time(value):
                yield f"{where}: {value!r} is no point in time"
        elif declared in _PLAIN:
            if not isinstance(value, _PLAIN[declared]) or (isinstance(value, bool) and declared != "bool"):
                yield f"{where}: {value!r} is no {declared}"
        elif declared != "object":
            yield from self._wrong_in_model(value, self.named(declared), where)

    def _wrong_in_list(self, value: object, item: str, where: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for number, each in enumerate(value):
            yield from self.wrong(each, item, f"{where}[{number}]")

    def _wrong_in_map(self, value: object, item: str, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no map"
            return
        for key, each in value.items():
            yield from self.wrong(each, item, f"{where}.{key}")

    def _wrong_in_model(self, value: object, model: Any, where: str) -> Iterator[str]:
        words = getattr(model, "allowable_values", None)
        if words is not None:
            if value not in words:
                yield f"{where}: {value!r} is none of {words}"
            return
        if not isinstance(value, dict):
            yield f"{where}: {value!r} is no object ({model.__name__})"
            return
        attributes = {name: attribute for attribute, name in model.attribute_map.items()}
        for key, each in value.items():
            if key in attributes:
                yield from self.wrong(each, model.openapi_types[attributes[key]], f"{where}.{key}")
            else:
                yield f"{where}: field {key} is not known"
        try:
            model(**{attributes[key]: each for key, each in value.items() if key in attributes})
        except ValueError as error:
            yield f"{where}: {error}"

    def named(self, name: str) -> Any:
        """The class. Raises LookupError when no module has it."""
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise LookupError(f"no published model is called {name}")


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False
