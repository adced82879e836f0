"""Cuts images that are larger than a tile into tiles, with their annotations. Called by the step prepare after cleaning.

Cleaning and the search for duplicates have already worked on whole images: tiles of plain background look alike, and must not be
dropped for that. A tile's path is below that of its image, as if the image were a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pelagos_contract.dataset import Change, Tiles
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.preprocessing import LEAST_SHARE, Tile
from pelagos_contract.tasks import Task
from pelagos_contract.tiles import Place, places
from pelagos_pipelines.annotations import placing, shapes
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Box, Boxes, Exclusion, ImageRecord, Part, SourceFiles
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.preparation import duplicates, outside
from pelagos_pipelines.preparation.cleaning import Cleaned
from pelagos_pipelines.preparation.integrity import Blob, Inspection, Keep
from pelagos_pipelines.preparation.scanner import IncompleteError, Scanner

OF_PIXELS = frozenset({Task.SEMANTIC_SEGMENTATION, Task.PANOPTIC_SEGMENTATION})
"""Tasks in which every pixel counts, so that any part of an annotation is kept."""


@dataclass(frozen=True)
class Tiled:
    """The result of cutting: ``cleaned`` with tiles instead of large images, inspections with those of the tiles, and figures."""

    cleaned: Cleaned
    inspections: Mapping[str, Inspection]
    tiles: Tiles


@dataclass
class _Counted:
    """Figures about annotations and tiles for warnings."""

    altered: Altered
    lost: list[str] = field(default_factory=list)
    repeated: int = 0
    empty: int = 0
    left_out: list[str] = field(default_factory=list)


def cut(
    cleaned: Cleaned,
    inspections: Mapping[str, Inspection],
    tile: Tile,
    pixels: Callable[[ImageRecord, Sequence[ImageRecord]], Mapping[str, Inspection]],
    count: Callable[[int, int], None] = lambda done, total: None,
) -> Tiled:
    """Replace images that do not fit in a tile by tiles. ``pixels`` creates an image's tiles and returns their inspections.

    Raises:
        RefusedError: NO_IMAGES_LEFT when no tile has annotations, and empty tiles are left out.
    """
    collection = cleaned.collection
    numbers = {name: number for number, name in enumerate(collection.classes)}
    found, known = _Counted(Altered(collection.altered.counts.copy())), dict(inspections)
    images: list[ImageRecord] = []
    first: dict[str, str] = {}
    large = [image for image in collection.images if is_larger(inspections[image.path], tile)]
    done = 0
    for image in collection.images:
        if not is_larger(inspections[image.path], tile):
            images.append(image)
            first[image.path] = image.path
            continue
        kept = _Image(image, collection.task, tile, numbers, collection.classes).tiles(found)
        if kept:
            known |= pixels(image, kept)
            first[image.path] = kept[0].path
            images += kept
        else:
            found.left_out.append(image.path)
        done += 1
        count(done, len(large))
    if not images:
        raise RefusedError(
            Reason.NO_IMAGES_LEFT,
            f"all {len(large)} images were cut into tiles, of which none has annotations: none is left; set"
            " preprocessing.tile.empty to Keep, or minShare to less",
            "preprocessing.tile.empty",
        )
    made = len(images) - (len(collection.images) - len(large))
    tiles = Tiles(images=len(large), tiles=made, empty=found.empty, repeated=found.repeated, lost=len(found.lost))
    left = replace(
        cleaned,
        collection=replace(
            collection,
            images=tuple(images),
            warnings=(*collection.warnings, *_warnings(found)),
            altered=found.altered,
        ),
        repeats=_of_tiles(cleaned.repeats, first),
        alike={
            first[path]: tuple(first[one] for one in earlier if one in first)
            for path, earlier in cleaned.alike.items()
            if path in first
        },
        excluded=(*cleaned.excluded, *Exclusion.of(found.left_out, ExclusionReason.EMPTY_TILES)),
    )
    return Tiled(left, known, tiles)


def is_larger(inspection: Inspection, tile: Tile) -> bool:
    """Whether an image is larger than a tile, and so will be cut."""
    return max(inspection.width, inspection.height) > tile.size


def _of_tiles(repeats: Mapping[str, str], first: Mapping[str, str]) -> dict[str, str]:
    """``repeats`` between first tiles, which stand for their images: all tiles of an image are in one split."""
    return {first[path]: first[one] for path, one in duplicates.among(repeats, first).items()}


def _warnings(found: _Counted) -> Iterator[str]:
    if found.lost:
        yield (
            f"{len(found.lost)} annotations are in no tile, as none shows enough of them: {format_names(found.lost)}; have a"
            " larger overlap or size, or a lower minShare, in preprocessing.tile"
        )


# --- annotations


@dataclass(frozen=True)
class _Image:
    """One image to be cut."""

    image: ImageRecord
    task: Task
    tile: Tile
    numbers: Mapping[str, int]
    classes: Sequence[str]

    @property
    def share(self) -> float:
        """The fraction of an annotation that a tile must show to get it."""
        if self.tile.min_share is not None:
            return self.tile.min_share / 100
        return 0.0 if self.task in OF_PIXELS else LEAST_SHARE / 100

    def tiles(self, found: _Counted) -> list[ImageRecord]:
        """The image's tiles, without those that are left out."""
        image = self.image
        assert image.width is not None
        assert image.height is not None
        where = places(image.width, image.height, self.tile.size, self.tile.overlap)
        boxes = self._shared(image.boxes, where, _cut_box, found, self.share)
        drawn = self._shared(image.shapes, where, _cut_shape, found, self.share)
        # Any part of a crowd, a region in which predictions are not judged, still is one.
        crowds = self._shared(image.crowds, where, _cut_shape, found, 0.0)
        kept = []
        for place in where:
            # A tile that shows only a crowd is not background.
            if (self.tile.empty == "Drop" or place in crowds) and place not in boxes and place not in drawn:
                found.empty += 1
                continue
            kept.append(
                replace(
                    image,
                    path=f"{image.path}/x{place.x:07}_y{place.y:07}.png",
                    width=place.width,
                    height=place.height,
                    group=image.path if image.group is None else image.group,
                    boxes=Boxes.of(boxes.get(place, ()), self.numbers, self.classes) if image.boxes else (),
                    shapes=tuple(drawn.get(place, ())),
                    crowds=tuple(crowds.get(place, ())),
                    part=Part(image.path, place.x, place.y),
                )
            )
        return kept

    def _shared(
        self,
        marks: Sequence[Any],
        where: Sequence[Place],
        cutting: Callable[[Any, Place], Any],
        found: _Counted,
        share: float,
    ) -> dict[Place, list[Any]]:
        """For each tile, the parts of annotations of which it shows at least ``share``; tiles without any are absent."""
        shared: dict[Place, list[Any]] = {}
        grid = _Grid(where)
        for mark in marks:
            kind = str(mark.kind) if isinstance(mark, Shape) else str(Kind.RECTANGLE)
            sides = mark.sides if isinstance(mark, Shape) else (mark.x, mark.y, mark.width, mark.height)
            assert sides is not None  # versions have no annotations without area
            whole = _area(mark)
            seen = cut_there = 0
            for place in grid.under(sides):
                part = cutting(mark, place)
                if part is None or _shown(part, place) < share * whole * _ROUNDING:
                    continue
                shared.setdefault(place, []).append(part)
                seen += 1
                cut_there += _area(part) < whole * _ROUNDING
            if not seen:
                found.lost.append(_told(self.image, mark))
                found.altered.counts[kind, Change.NO_TILE] += 1
            if seen > 1:
                found.repeated += 1
                found.altered.counts[kind, Change.SEVERAL_TILES] += 1
            if cut_there:
                found.altered.counts[kind, Change.TILE_EDGE] += 1
        return shared


_ROUNDING = 1 - 1e-9
"""The factor by which an area may fall short through rounding."""


class _Grid:
    """Finds the tiles that a box touches, without checking all of them."""

    def __init__(self, where: Sequence[Place]) -> None:
        self._rows: dict[int, list[Place]] = {}
        for place in where:
            self._rows.setdefault(place.y, []).append(place)

    def under(self, sides: tuple[float, float, float, float]) -> Iterator[Place]:
        """The tiles that touch a box, row by row."""
        left, top, width, height = sides
        for y, row in self._rows.items():
            if y < top + height and top < y + row[0].height:
                for place in row:
                    if place.x < left + width and left < place.x + place.width:
                        yield place


def _cut_box(box: Box, place: Place) -> Box | None:
    left, top = max(box.x - place.x, 0.0), max(box.y - place.y, 0.0)
    right = min(box.x + box.width - place.x, float(place.width))
    bottom = min(box.y + box.height - place.y, float(place.height))
    return Box(box.label, left, top, right - left, bottom - top) if right > left and bottom > top else None


def _cut_shape(shape: Shape, place: Place) -> Shape | None:
    moved = shapes.moved(shape, -place.x, -place.y)
    if shape.kind is Kind.RECTANGLE and shape.angle % 360:
        # A turned rectangle cannot be cut and remain one, so its corners may reach beyond the edge.
        return moved if placing.clip_shape(moved, place.width, place.height) is not None else None
    left, top, width, height = moved.sides or (0.0, 0.0, 0.0, 0.0)
    if left >= 0 and top >= 0 and left + width <= place.width and top + height <= place.height:
        return moved
    return outside.cut_shape(moved, place.width, place.height)


def _shown(part: Box | Shape, place: Place) -> float:
    """The visible area of a part in square pixels; for a turned rectangle, which stays whole, only that within the tile."""
    if isinstance(part, Box) or part.kind is not Kind.RECTANGLE or not part.angle % 360:
        return _area(part)
    outline = shapes.outlined(part)
    inside = None if outline is None else outside.cut_shape(outline, place.width, place.height)
    return 0.0 if inside is None else _area(inside)


def _area(mark: Box | Shape) -> float:
    """The area in square pixels."""
    if isinstance(mark, Box):
        return mark.width * mark.height
    if mark.kind is Kind.RECTANGLE:
        return mark.coordinates[2] * mark.coordinates[3]
    if mark.kind is Kind.MASK:
        return sum(mark.coordinates[5::2])
    return sum(-shapes.area_of(ring) if is_hole else shapes.area_of(ring) for ring, is_hole in mark.outlines)


def _told(image: ImageRecord, mark: Box | Shape) -> str:
    return placing.told(image, mark) if isinstance(mark, Box) else placing.told_shape(image, mark)


# --- pixels


@dataclass(frozen=True)
class Cutter:
    """Creates the tiles of images, and stores them with ``keep``. ``look`` inspects a tile further, if given."""

    tree: SourceFiles
    inspections: Mapping[str, Inspection]
    scanner: Scanner
    tile: Tile
    keep: Keep
    look: Callable[[bytes, str], Inspection] | None = None

    def __call__(self, image: ImageRecord, kept: Sequence[ImageRecord]) -> dict[str, Inspection]:
        """Create the tiles ``kept`` of an image, and return their inspections by path.

        Raises:
            IncompleteError: it is not the image that was inspected.
            OSError: a tile could not be stored, for example because the disk is full.
        """
        known = self.inspections[image.path]
        paths = {(one.part.x, one.part.y): one.path for one in kept if one.part is not None}
        found: dict[str, Inspection] = {}

        def take(place: Place, picture: bytes) -> None:
            path = paths.get((place.x, place.y))
            if path is None:
                return
            blob = Blob(hashlib.sha256(picture).hexdigest(), len(picture))
            self.keep(blob, picture)
            seen = Inspection(known.sha256, known.size, place.width, place.height, converted=blob)
            if self.look is not None:
                looked = self.look(picture, blob.sha256)
                if looked.channels is None:
                    raise IncompleteError(f"the tile {path} cannot be looked at: {looked.problem}")
                seen = replace(seen, channels=looked.channels)
            found[path] = seen

        self.scanner.cut(self.tree, image.path, known.sha256, (known.width, known.height), self.tile, take)
        return found
