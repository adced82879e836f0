"""Value types that specs and messages share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Decimal = Annotated[
    str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(e-?0*[0-9]{1,2})?$", max_length=16, examples=["0.5", "1e-3"])
]
"""A number as text, because a Kubernetes spec cannot contain floats. The pattern only allows finite numbers, so not 1e400."""
RelativePath = Annotated[str, Field(min_length=1, max_length=1024)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
