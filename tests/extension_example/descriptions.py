"""What both planes know about the extensions: their entries in the tables of pelagos_contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

from pydantic import Field

from pelagos_contract import sources
from pelagos_contract.base import Strict
from pelagos_contract.families import FAMILIES, FamilyDescription
from pelagos_contract.formats import FORMATS, FormatDescription
from pelagos_contract.sources import SourceDescription
from pelagos_contract.tasks import Task
from pelagos_contract.values import RelativePath


class ArchiveSource(Strict):
    """A zip archive on the data volume."""

    file: Annotated[RelativePath, Field(description="Archive on the data volume, relative to its root.")]


SOURCE = SourceDescription("archive", ArchiveSource, "A zip archive on the data volume.", path="file")
FORMAT = FormatDescription(
    name="Table",
    tasks=(Task.CLASSIFICATION,),
    view="table",
    layout="labels.csv with a row of file and class for each image",
)
CIRCLES = FormatDescription(
    name="Circles",
    tasks=tuple(Task),
    view=None,
    layout="circles.json with image and circles for each image, and the images",
)
FAMILY = FamilyDescription(
    name="Tiny",
    task=Task.CLASSIFICATION,
    pattern="tiny_*",
    architectures=("tiny_cnn",),
    image_size=32,
    takes_weights=False,
)


@contextmanager
def registered() -> Iterator[None]:
    """The extensions in the tables of both planes, for as long as it is open."""
    with ExitStack() as undone:
        sources.register(SOURCE)
        undone.callback(sources.withdraw, SOURCE.name)
        for known in (FORMAT, CIRCLES):
            FORMATS.register(known)
            undone.callback(FORMATS.withdraw, known.name)
        FAMILIES.register(FAMILY)
        undone.callback(FAMILIES.withdraw, FAMILY.name)
        yield
