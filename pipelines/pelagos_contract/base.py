"""The base of all messages and of the parts that specs and requests share, and a kind of value that registries decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class Strict(BaseModel):
    """camelCase in YAML and JSON; unknown fields are refused: a misspelt field must not be ignored silently."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def written(self) -> dict[str, Any]:
        """As it stands in YAML and JSON; what is None is left out."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)


class OneOf:
    """Of a text in a model: one of the names that there are when it is parsed, and when its schema is rendered."""

    def __init__(self, names: Callable[[], tuple[str, ...]]) -> None:
        """``names`` are asked for each time."""
        self._names = names

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As of a Literal, whose names are fixed."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The names as an enumeration."""
        return {"enum": list(self._names()), "type": "string"}

    def _checked(self, value: object) -> object:
        names = self._names()
        if value not in names:
            *others, last = map(repr, names)
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return value
