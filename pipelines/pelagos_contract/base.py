"""The base of all messages and of the parts that specs and requests share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    """camelCase in YAML and JSON; unknown fields are refused: a misspelt field must not be ignored silently."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def written(self) -> dict[str, Any]:
        """As it stands in YAML and JSON; what is None is left out."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)
