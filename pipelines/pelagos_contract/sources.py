"""The places that a Dataset may name: the table of all. What downloads from one stands in the data plane's sources."""

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
    """A place: the field of ``spec.source`` that names it, what stands in that field, and what it is.

    ``path`` is that of its fields which names a file or folder on the data volume, where the operator looks for new content;
    None: the files are elsewhere, and fetched; then ``keys`` are the keys of a Secret that logs in, all of one of these sets, if
    the place has a field ``secret_ref``. Of the fields in ``one_of`` exactly one is set. A place that ``changes`` is looked at
    again every spec.refresh, but where its field ``pin`` is set, which says what content it is for ever.
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
        """The name of the place: the field that is set."""
        return self._set()[0]

    @property
    def field(self) -> str:
        """What of the spec says which files they are, for messages."""
        return path_field(SOURCES.named(self.place)) or f"spec.source.{self.place}"

    @property
    def path(self) -> str | None:
        """The file or folder on the data volume; None: they are elsewhere."""
        path = SOURCES.named(self.place).path
        return getattr(getattr(self, self.place), path) if path else None

    @property
    def secret(self) -> str | None:
        """The Secret, in the Dataset's own namespace, by which the place is asked; None: by none."""
        found: SecretRef | None = getattr(getattr(self, self.place), "secret_ref", None)
        return found.name if found is not None else None

    @property
    def is_looked_at_again(self) -> bool:
        """Whether it may have other content another time, which only a step can tell."""
        described = SOURCES.named(self.place)
        pinned = described.pin is not None and getattr(getattr(self, self.place), described.pin) is not None
        return described.changes and not pinned

    def _set(self) -> list[str]:
        return [name for name in SOURCES.names if getattr(self, name, None) is not None]


SOURCES = Registry("source", (VOLUME, HTTP, S3, ZENODO, CVAT, LABEL_STUDIO, BIIGLE, ROBOFLOW, LABELBOX))


def is_chosen(place: SourceDescription, found: Strict) -> bool:
    """Whether exactly one of the fields is set of which one has to be."""
    return not place.one_of or sum(getattr(found, name) is not None for name in place.one_of) == 1


def aliases(place: SourceDescription) -> list[str]:
    """The fields of which one has to be set, as they stand in YAML."""
    return [str(place.fields.model_fields[name].alias) for name in place.one_of]


def path_field(place: SourceDescription) -> str | None:
    """The field of a spec with the path on the data volume, if the place has one."""
    return f"spec.source.{place.name}.{place.fields.model_fields[place.path].alias}" if place.path else None


_OURS = dict(Source.model_fields)


def register(described: SourceDescription) -> None:
    """Add a place. From then on each field of `Source` may be left out, and exactly one is set.

    ValueError: see `Registry.register`; also for a name that is no field's, and for a field that nothing describes.
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


_rebuild()  # the fields follow from the table
