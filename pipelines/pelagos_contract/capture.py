"""When, where and by what images were taken: ``spec.capture`` of a Dataset, and what a preparation reports about it."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from pelagos_contract.base import Strict

CaptureFrom = Literal["Exif", "Csv", "Ifdo", "Folder"]
CaptureField = Literal["site", "deployment", "platform", "time", "depth", "latitude", "longitude"]
CAPTURE_FIELDS: tuple[CaptureField, ...] = (
    "site",
    "deployment",
    "platform",
    "time",
    "depth",
    "latitude",
    "longitude",
)
GROUP_FIELDS = ("site", "deployment", "platform", "day")
GroupField = Annotated[str, Field(pattern=f"^({'|'.join(GROUP_FIELDS)})$", max_length=16)]
"""The name of a field by which images can be grouped."""
SLICE_FIELDS = ("site", "deployment", "platform", "day", "month", "hour", "depthBand", "positionBand", "group")
"""Fields by which an evaluation slices the test split: fields of capture, values derived from them, such as bands of depth and
position, and the groups that a split keeps whole."""
SliceField = Annotated[str, Field(pattern=f"^({'|'.join(SLICE_FIELDS)})$", max_length=16)]
_MADE_OF: dict[str, tuple[CaptureField, ...]] = {
    **dict.fromkeys(("day", "month", "hour"), ("time",)),
    "depthBand": ("depth",),
    "positionBand": ("latitude", "longitude"),
}
OFFSET = r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
REST = "*"
"""Placeholder in a pattern that matches without a meaning; as the last part it matches any number of folders."""
_PLACE = re.compile(r"\{([^{}]*)\}")
_MOST_PARTS = 32


def _pattern(text: str) -> str:
    """Validate a pattern. Raises ValueError that says what is allowed."""
    parts = text.split("/")
    if not text.isprintable() or not all(parts) or len(parts) > _MOST_PARTS or ".." in parts:
        raise ValueError("write the names of folders and files, separated by single /, such as {site}/{deployment}/{*}")
    names = [name for part in parts for name in fields_in(part)]
    known = ", ".join(f"{{{name}}}" for name in (*CAPTURE_FIELDS, REST))
    if unknown := [name for name in names if name not in {*CAPTURE_FIELDS, REST}]:
        raise ValueError(f"{{{unknown[0]}}} is not a field of capture; there are {known}")
    if re.search(r"[{}]", _PLACE.sub("", text)):
        raise ValueError(f"a brace is unbalanced; fields are written as {known}")
    said = [name for name in names if name != REST]
    if not said:
        raise ValueError(f"it names no field; there are {known}")
    if len({*said}) < len(said):
        raise ValueError("a field is named twice; write {*} for what is to be ignored")
    if any(before.end() == after.start() for part in parts for before, after in pairwise(_PLACE.finditer(part))):
        raise ValueError(
            "two fields follow each other in one name: put text between them to show where the first one ends"
        )
    return text


def made_of(field: str) -> tuple[str, ...]:
    """The fields of capture from which one of ``SLICE_FIELDS`` is derived; none for ``group``."""
    return () if field == "group" else _MADE_OF.get(field, (field,))


def fields_in(part: str) -> list[str]:
    """The names between braces in a part of a pattern."""
    return _PLACE.findall(part)


def literals_in(part: str) -> list[str]:
    """The literal text before, between and after the fields of a part of a pattern: one more than there are fields."""
    return _PLACE.split(part)[::2]


Pattern = Annotated[str, Field(min_length=3, max_length=300), AfterValidator(_pattern)]
ColumnName = Annotated[str, Field(min_length=1, max_length=200)]


class Columns(Strict):
    """The names of columns that differ from the defaults."""

    path: Annotated[ColumnName | None, Field(description="The column with the name or path of the image.")] = None
    site: Annotated[ColumnName | None, Field(description="The column with the site.")] = None
    deployment: Annotated[ColumnName | None, Field(description="The column with the deployment.")] = None
    platform: Annotated[ColumnName | None, Field(description="The column with the platform.")] = None
    time: Annotated[ColumnName | None, Field(description="The column with date and time, in ISO 8601.")] = None
    depth: Annotated[ColumnName | None, Field(description="The column with the depth in meters, downwards.")] = None
    altitude: Annotated[
        ColumnName | None, Field(description="The column with meters above the sea, which are negative below.")
    ] = None
    latitude: Annotated[ColumnName | None, Field(description="The column with the latitude in decimal degrees.")] = None
    longitude: Annotated[ColumnName | None, Field(description="The column with the longitude in decimal degrees.")] = (
        None
    )


class CaptureSource(Strict):
    """What says when and where images were taken, and by what."""

    from_: Annotated[
        CaptureFrom,
        Field(
            alias="from",
            description="Exif: what cameras wrote into the images. Csv: a table with a row for each image. Ifdo: an iFDO file. "
            "Folder: the names of folders and files, by pattern.",
        ),
    ]
    file: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            description="The file, by its path in the source; for Csv and Ifdo.",
        ),
    ] = None
    columns: Annotated[
        Columns | None,
        Field(
            description="For Csv: the names of columns that are not called path, site, deployment, platform, time, depth, "
            "latitude, longitude, or as iFDO calls them."
        ),
    ] = None
    pattern: Annotated[
        Pattern | None,
        Field(
            description="The names of folders and files, starting from the folder of the source, such as "
            "{site}/{deployment}/{*}. A field matches as little as possible; {*} matches anything and, at the end, everything "
            "that follows. With another value of from, it supplies what that does not."
        ),
    ] = None
    utc_offset: Annotated[
        str | None,
        Field(
            pattern=f"^{OFFSET}$",
            max_length=6,
            description='The offset from UTC, such as "+02:00", of times that come without one. Default: they are assumed to be '
            "in UTC, and counted in a warning.",
        ),
    ] = None

    @field_validator("columns")
    @classmethod
    def _of_nothing(cls, columns: Columns | None) -> Columns | None:
        """An empty object has the same digest as an absent one."""
        return None if columns is None or columns == type(columns)() else columns

    @property
    def is_listed(self) -> bool:
        """Whether it is read from a file, CSV or iFDO."""
        return self.from_ in {"Csv", "Ifdo"}


class CaptureFault(StrEnum):
    """Why a value that capture should provide for an image is unknown."""

    IMAGE_NOT_FOUND = "ImageNotFound"
    """A row or an item that names no image of the source."""
    SEVERAL_IMAGES = "SeveralImages"
    """A row or an item that may mean more than one image."""
    NOTHING_SAID = "NothingSaid"
    """An image about which no row, item, EXIF or folder says anything."""
    NOT_READABLE = "NotReadable"
    """A value that is not a time, or not a number."""
    OUT_OF_RANGE = "OutOfRange"
    """An impossible value, such as a latitude of 91 degrees."""
    CONTRADICTION = "Contradiction"
    """Two rows that contradict each other about one image."""
    VIDEO = "Video"
    """An item that is a video, or that has several values for one image."""
    DAMAGED = "Damaged"
    """An image whose EXIF cannot be read."""


class CaptureCount(Strict):
    """Of how many images of the version a field is known."""

    field: Annotated[str, Field(description=f"{', '.join(CAPTURE_FIELDS[:-1])} or {CAPTURE_FIELDS[-1]}.")]
    known: Annotated[int, Field(description="Images for which it is known.")]
    unknown: Annotated[int, Field(description="Images for which it is unknown.")]


_FAULTS = [fault.value for fault in CaptureFault]


class CaptureFinding(Strict):
    """What is not known, for one reason."""

    # Not the enumeration, so that older control planes, which know fewer reasons, can show it.
    reason: Annotated[str, Field(description=f"{', '.join(_FAULTS[:-1])} or {_FAULTS[-1]}.")]
    field: Annotated[
        str | None, Field(description="The field that is unknown because of it; absent where all are.")
    ] = None
    count: Annotated[int, Field(description="Images, or rows without one.")]
    first: Annotated[list[str], Field(description="The first ones; report/capture.jsonl in the version has all.")]


class Captured(Strict):
    """What is known about when and where the images of a version were taken."""

    fields: Annotated[list[CaptureCount], Field(description="Images about which anything is known.")]
    findings: Annotated[list[CaptureFinding], Field(description="What is unknown about the source, and why.")] = []
