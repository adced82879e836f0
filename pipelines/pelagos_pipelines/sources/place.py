"""What a place that images come from must offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pelagos_contract.sources import SourceDescription
from pelagos_pipelines.annotations.model import SourceFiles


@dataclass(frozen=True)
class Place:
    """Where files come from. A new one is a module that makes one, and a line in registry.PLACES.

    ``obtain`` takes the part of the request that belongs to the place, the data volume, and a folder for copies, which need not
    exist. It gives the files, on this machine, or refuses: SOURCE_NOT_FOUND, SOURCE_EMPTY, or FORMAT_INVALID for files that no
    reader should see.
    """

    description: SourceDescription
    obtain: Callable[[Any, str, Path], SourceFiles]

    @property
    def name(self) -> str:
        """The field of ``spec.source``."""
        return self.description.name
