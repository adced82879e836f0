"""Counts annotations that a task or a format cannot hold as they were drawn, by kind and by how they were changed.

Nothing is lost or changed silently: the numbers are in the version's report and in the status of the Dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pelagos_contract.dataset import Alteration, Change


class _Shape(Protocol):
    """The parts of a shape that are counted."""

    @property
    def kind(self) -> str: ...
    @property
    def attributes(self) -> object: ...
    @property
    def annotator(self) -> str | None: ...
    @property
    def confidence(self) -> float | None: ...


_WORDS = {
    Change.BOX_AROUND: "{count} annotations of the kind {kind} are replaced by the box around them",
    Change.BOX_BESIDE: "{count} annotations of the kind {kind} have a box with them; only the box is used",
    Change.OUTLINE: "{count} annotations of the kind {kind} are replaced by their outline, as a polygon",
    Change.LEFT_OUT: "{count} annotations of the kind {kind} are left out, since the task, or the format, cannot hold them",
    Change.REPEATED: "{count} annotations repeat another with the same image, class and position; one of each is kept",
    Change.WITHOUT_EXTRAS: "{count} annotations have {kind}, which are not kept",
    Change.PIXELS: "{count} annotations of the kind {kind} are replaced by their pixels, as a mask",
    Change.COVERED: "{count} annotations of the kind {kind} are partly or wholly covered by others",
    Change.OUTSIDE: "{count} annotations of the kind {kind} do not lie on their image, and are left out",
    Change.EXCLUDED_CLASS: "{count} annotations of the kind {kind} have classes that are left out",
    Change.TILE_EDGE: "{count} annotations of the kind {kind} were cut at the edge of a tile",
    Change.SEVERAL_TILES: "{count} annotations of the kind {kind} are in more than one tile, where tiles overlap",
    Change.NO_TILE: "{count} annotations of the kind {kind} are in no tile, as none shows enough of them",
    Change.CROWD: "{count} regions of crowds, of the kind {kind}, are left out: their class has no objects, or the format "
    "cannot hold crowds",
    Change.CUT: "{count} annotations of the kind {kind} exceeded their image and were cut at its edge",
}


@dataclass
class Altered:
    """Numbers of annotations by their kind and by how they were changed."""

    counts: Counter[tuple[str, Change]] = field(default_factory=Counter)

    def add(self, shape: _Shape, change: Change) -> None:
        """Count one more shape."""
        self.counts[str(shape.kind), change] += 1

    def add_extras(self, shape: _Shape) -> None:
        """Count what is lost beside an accepted shape, where the task only keeps the shape."""
        if shape.attributes:
            self.counts["attributes", Change.WITHOUT_EXTRAS] += 1
        if shape.confidence is not None:
            self.counts["confidence", Change.WITHOUT_EXTRAS] += 1

    def __iter__(self) -> Iterator[Alteration]:
        """The counts in a fixed order, without zeros."""
        for (kind, change), count in sorted(self.counts.items()):
            if count:
                yield Alteration(kind=kind, reason=change, annotations=count)

    @property
    def warnings(self) -> list[str]:
        """The counts as sentences."""
        return [_WORDS[Change(each.reason)].format(count=each.annotations, kind=each.kind) for each in self]
