"""The places that a Dataset may name: the table of all. What downloads from one stands in the data plane's sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Optional, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from pelagos_contract.base import Strict
from pelagos_contract.registry import Registry
from pelagos_contract.values import RelativePath


@dataclass(frozen=True)
class SourceDescription:
    """A place: the field of ``spec.source`` that names it, what stands in that field, and what it is."""

    name: str
    fields: type[Strict]
    description: str


class VolumeSource(Strict):
    """A folder on the data volume."""

    path: Annotated[RelativePath, Field(description="Folder on the data volume, relative to its root.")]


VOLUME = SourceDescription("volume", VolumeSource, "A folder on the data volume.")


class Source(Strict):
    """Where images and labels come from; exactly one field is set."""

    volume: Annotated[VolumeSource, Field(description=VOLUME.description)]

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if len(self._set()) != 1:
            raise ValueError(f"exactly one of {', '.join(SOURCES.names)} must be set")
        return self

    @property
    def place(self) -> str:
        """The name of the place: the field that is set."""
        return self._set()[0]

    def _set(self) -> list[str]:
        return [name for name in SOURCES.names if getattr(self, name, None) is not None]


SOURCES = Registry("source", (VOLUME,))
_OURS = dict(Source.model_fields)


def register(described: SourceDescription) -> None:
    """Add a place. From then on each field of `Source` may be left out, and exactly one is set.

    ValueError: see `Registry.register`; also for a name that is no field's.
    """
    if to_camel(described.name) != described.name or hasattr(Source, described.name):
        raise ValueError(
            f"a source cannot be called {described.name!r}; a name in camelCase that Source does not have can"
        )
    SOURCES.register(described)
    _rebuild()


def withdraw(name: str) -> None:
    """Take back what was registered."""
    SOURCES.withdraw(name)
    _rebuild()


def _rebuild() -> None:
    """Have `Source`, and every model that has one, know the places that there are."""
    found = Source.__pydantic_fields__
    found.clear()
    if len(SOURCES.names) == 1:
        found.update(_OURS)
    else:
        for each in SOURCES:
            optional: Any = Annotated[Optional[each.fields], Field(alias=each.name, description=each.description)]  # noqa: UP045 - made when called
            found[each.name] = FieldInfo.from_annotated_attribute(optional, None)
    Source.model_rebuild(force=True)
    for model in _models(Strict):
        if model is not Source:
            model.model_rebuild(force=True)


def _models(base: type[Strict]) -> list[type[Strict]]:
    return [each for model in base.__subclasses__() for each in (model, *_models(model))]
