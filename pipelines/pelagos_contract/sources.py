"""The table of all places that a Dataset can name as its source. The code that downloads is in the data plane's ``sources``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Optional, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from pelagos_contract.annotation_tools import (
    BiigleSource,
    CvatSource,
    LabelboxSource,
    LabelStudioSource,
    RoboflowSource,
)
from pelagos_contract.base import Strict
from pelagos_contract.registry import Registry
from pelagos_contract.remote_sources import HttpSource, S3Source, SecretRef, ZenodoSource
from pelagos_contract.values import RelativePath


@dataclass(frozen=True)
class SourceDescription:
    """A place: its field in ``spec.source``, the model of that field, and a description.

    ``path`` is the field that names a file or folder on the data volume, where the operator looks for new content. None: files
    are elsewhere and are fetched; then ``keys`` are alternative sets of keys of a Secret to log in with, if the place has a field
    ``secret_ref``. Exactly one of the fields in ``one_of`` is set. A place that ``changes`` is checked again every spec.refresh,
    unless its field ``pin`` is set, which fixes its content.
    """

    name: str
    fields: type[Strict]
    description: str
    path: str | None = None
    keys: tuple[tuple[str, ...], ...] = ()
    one_of: tuple[str, ...] = ()
    changes: bool = False
    pin: str | None = None


class VolumeSource(Strict):
    """A folder, or an archive, on the data volume."""

    path: Annotated[
        RelativePath,
        Field(description="Folder, or archive (zip, tar, tar.gz ...), on the data volume, relative to its root."),
    ]


VOLUME = SourceDescription("volume", VolumeSource, "A folder, or an archive, on the data volume.", path="path")

HTTP = SourceDescription(
    "http",
    HttpSource,
    "An archive at an address, fetched over https.",
    keys=(("token",), ("username", "password"), ("header", "value")),
    changes=True,
    pin="sha256",
)

S3 = SourceDescription(
    "s3",
    S3Source,
    "A prefix, or an archive, on S3-compatible storage of its own.",
    keys=(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),),
    changes=True,
)
ZENODO = SourceDescription(
    "zenodo",
    ZenodoSource,
    "The files of a record of Zenodo, or of another repository with InvenioRDM.",
    keys=(("token",),),
    one_of=("record", "doi"),
    changes=True,
)

CVAT = SourceDescription(
    "cvat",
    CvatSource,
    "A project, task or job of a CVAT server, with its images.",
    keys=(("token",), ("username", "password")),
    one_of=("project", "task", "job"),
    changes=True,
)

LABEL_STUDIO = SourceDescription(
    "labelStudio",
    LabelStudioSource,
    "A project of a Label Studio server, with its images.",
    keys=(("token",),),
    changes=True,
)

BIIGLE = SourceDescription(
    "biigle",
    BiigleSource,
    "A volume or project of a BIIGLE server, with its images.",
    keys=(("email", "token"),),
    one_of=("volume", "project"),
    changes=True,
)

ROBOFLOW = SourceDescription(
    "roboflow", RoboflowSource, "A version of a Roboflow project, with its images.", keys=(("token",),)
)

LABELBOX = SourceDescription(
    "labelbox", LabelboxSource, "A project of Labelbox, with its images.", keys=(("token",),), changes=True
)


class Source(Strict):
    """Where images and labels come from; exactly one field is set."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    volume: Annotated[VolumeSource, Field(description=VOLUME.description)]

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if len(self._set()) != 1:
            raise ValueError(f"exactly one of {', '.join(SOURCES.names)} must be set")
        return self

    @property
    def place(self) -> str:
        """The name of the place, which is the field that is set."""
        return self._set()[0]

    @property
    def field(self) -> str:
        """The field of the spec that names the files, for messages."""
        return path_field(SOURCES.named(self.place)) or f"spec.source.{self.place}"

    @property
    def path(self) -> str | None:
        """The file or folder on the data volume; None for files elsewhere."""
        path = SOURCES.named(self.place).path
        return getattr(getattr(self, self.place), path) if path else None

    @property
    def secret(self) -> str | None:
        """The Secret, in the Dataset's own namespace, to log in with; None without one."""
        found: SecretRef | None = getattr(getattr(self, self.place), "secret_ref", None)
        return found.name if found is not None else None

    @property
    def is_looked_at_again(self) -> bool:
        """Whether its content may change later, which only a step can find out."""
        described = SOURCES.named(self.place)
        pinned = described.pin is not None and getattr(getattr(self, self.place), described.pin) is not None
        return described.changes and not pinned

    def _set(self) -> list[str]:
        return [name for name in SOURCES.names if getattr(self, name, None) is not None]


SOURCES = Registry("source", (VOLUME, HTTP, S3, ZENODO, CVAT, LABEL_STUDIO, BIIGLE, ROBOFLOW, LABELBOX))


def is_chosen(place: SourceDescription, found: Strict) -> bool:
    """Whether exactly one of the fields in ``one_of`` is set."""
    return not place.one_of or sum(getattr(found, name) is not None for name in place.one_of) == 1


def aliases(place: SourceDescription) -> list[str]:
    """The YAML names of the fields in ``one_of``."""
    return [str(place.fields.model_fields[name].alias) for name in place.one_of]


def path_field(place: SourceDescription) -> str | None:
    """The field of a spec with the path on the data volume; None if the place has none."""
    return f"spec.source.{place.name}.{place.fields.model_fields[place.path].alias}" if place.path else None


_OURS = dict(Source.model_fields)


def register(described: SourceDescription) -> None:
    """Add a place, after which all fields of `Source` are optional and exactly one must be set.

    Raises ValueError as `Registry.register` does, and for a name that cannot be a field or a field that the model lacks.
    """
    if to_camel(described.name) != described.name or hasattr(Source, described.name):
        raise ValueError(
            f"a source cannot be called {described.name!r}; a name in camelCase that Source does not have can"
        )
    bare = [name for name, field in described.fields.model_fields.items() if not field.description]
    if bare or not described.description:
        raise ValueError(
            f"the source {described.name!r} has no description{f' of {bare[0]!r}' if bare else ''}; users see it"
        )
    if described.path is not None and described.path not in described.fields.model_fields:
        raise ValueError(f"the source {described.name!r} has no field {described.path!r}, which is to be its path")
    SOURCES.register(described)
    _rebuild()


def withdraw(name: str) -> None:
    """Remove a registered place."""
    SOURCES.withdraw(name)
    _rebuild()


def _rebuild() -> None:
    """Update `Source`, and every model that contains one, to the registered places."""
    found = Source.__pydantic_fields__
    found.clear()
    if len(SOURCES.names) == 1:
        found.update(_OURS)
    else:
        for each in SOURCES:
            optional: Any = Annotated[Optional[each.fields], Field(alias=each.name, description=each.description)]  # noqa: UP045 - made when called
            found[each.name] = FieldInfo.from_annotated_attribute(optional, None)
    # Others are built at their first use, and then have the new fields.
    built = [each for each in _models(Strict) if each.__pydantic_complete__]
    # First of all itself, because the others contain it.
    for model in sorted(built, key=lambda each: each is not Source):
        model.model_rebuild(force=True)


def _models(base: type[Strict]) -> list[type[Strict]]:
    return [each for model in base.__subclasses__() for each in (model, *_models(model))]


_rebuild()  # the fields follow from the table
