"""The base class of a model package's descriptions, and the types of values in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Label = Annotated[str, Field(min_length=1, max_length=1024)]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Accepts exactly the declared fields and types; JSON keys are in camel case."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", alias_generator=to_camel)
