"""The base class of all messages and shared parts of specs, and a string type whose values come from a registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class Strict(BaseModel):
    """camelCase in YAML and JSON; unknown fields are refused: a misspelt field must not be ignored silently."""

    # Built at their first use: a process defines all messages, and uses few of them.
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, defer_build=True
    )

    def written(self) -> dict[str, Any]:
        """The document as in YAML and JSON, without fields that are None."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)


class OneOf:
    """Annotation of a string field: one of the names that exist when it is parsed, or when its schema is rendered."""

    def __init__(self, names: Callable[[], tuple[str, ...]]) -> None:
        """``names`` is called each time, since extensions may register more."""
        self._names = names

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Like Literal, but with names that are looked up at validation."""
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The current names as an enumeration."""
        return {"enum": list(self._names()), "type": "string"}

    def _checked(self, value: object) -> object:
        names = self._names()
        if value not in names:
            *others, last = map(repr, names)
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return value
