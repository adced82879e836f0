"""The places that a Dataset may name. A new place is a field of ``Source``, and a module in the data plane's sources."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pelagos_contract.base import Strict
from pelagos_contract.values import RelativePath


class VolumeSource(Strict):
    """A folder on the data volume."""

    path: Annotated[RelativePath, Field(description="Folder on the data volume, relative to its root.")]


class Source(Strict):
    """Where images and labels come from; exactly one field is set."""

    volume: Annotated[VolumeSource, Field(description="A folder on the data volume.")]


SOURCES = tuple(Source.model_fields)
"""Names of all places."""
