"""Images with the masks of their objects on square canvases, as input for segmentation networks.

Called by families that train on masks. Outlines are rotated, scaled and moved as points, and drawn afterwards, so that the masks
of an altered image are as sharp as those of an unaltered one. The canvas is the same as in the server.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from pelagos_contract.augmentation import Augmentation
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.annotations import masks, shapes
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.geometry import Fit, Pixels
from pelagos_pipelines.training import altering, distributed

CACHE_BYTES = 2 * 1024**3
USUAL: Mapping[str, float] = {
    "flipHorizontal": 50,
    "flipVertical": 0,
    "rotate": 0,
    "scale": 50,
    "translate": 10,
    "color.hue": 0,
    "color.saturation": 0,
    "color.brightness": 0,
    "color.contrast": 20,
    "blur": 0,
    "mosaic": 0,
}
"""Defaults for datasets that declare nothing, in percent and degrees."""
LEAST_SHARE = 0.1
"""The fraction of an object's box that must be on the canvas for the object to be kept."""
_DRAWS = 16
Matrix: TypeAlias = Any
"""An affine matrix [2, 3] for coordinates whose 0 is the edge of the first pixel."""


@dataclass(frozen=True)
class Scene:
    """A canvas [size, size, 3] of bytes, blue first, and the n objects on it, whole or in part.

    ``boxes`` [n, 4] x1, y1, x2, y2; ``class_ids`` [n]; ``masks`` [n, size, size], 1 within the object and 0 elsewhere.
    """

    canvas: Pixels
    boxes: Any
    class_ids: Any
    masks: Any


@dataclass(frozen=True)
class _Outline:
    """The points [k, 2] of a polygon's rings on the canvas, and the number of each ring's points, as in `Shape`."""

    points: Any
    rings: tuple[int, ...]


@dataclass(frozen=True)
class _Plan:
    """How to build a scene: images by index, each with its place on the canvas, and changes of colours."""

    parts: Sequence[tuple[int, Matrix]]
    hue: float = 0.0
    saturation: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    blur: float | None = None


class Scenes:
    """Samples on their canvases, decoded once and kept if they fit in ``CACHE_BYTES``, shared by all processes."""

    def __init__(self, samples: Sequence[Sample], size: int, threads: int) -> None:
        """Decode all images now if they fit, else each time they are needed."""
        self._samples, self._size, self._threads = samples, size, threads
        fits = len(samples) * size * size * 3 <= CACHE_BYTES // distributed.members()
        with ThreadPoolExecutor(threads) as pool:
            self._kept = list(pool.map(self._decode, range(len(samples)))) if fits else None

    def __len__(self) -> int:
        """The number of images."""
        return len(self._samples)

    def plain(self, chosen: Sequence[int]) -> list[Scene]:
        """Unaltered scenes, as the server sees the images."""
        return self._shown([_Plan([(index, np.eye(2, 3))]) for index in chosen])

    def altered(self, chosen: Sequence[int], found: Mapping[str, float], generator: np.random.Generator) -> list[Scene]:
        """Randomly altered scenes, at most by the amounts ``found``, see `amounts`."""
        # The same count of numbers for each image, whatever is declared, so that changing one value leaves the other draws alone.
        drawn = generator.random((len(chosen), _DRAWS))
        return self._shown([self._plan(index, found, one) for index, one in zip(chosen, drawn, strict=True)])

    def _shown(self, plans: Sequence[_Plan]) -> list[Scene]:
        with ThreadPoolExecutor(self._threads) as pool:  # OpenCV releases the interpreter lock
            return list(pool.map(self._scene, plans))

    def _plan(self, index: int, found: Mapping[str, float], drawn: Any) -> _Plan:
        size = self._size
        flips = [drawn[place] < found[f"flip{side}"] / 100 for place, side in ((0, "Horizontal"), (1, "Vertical"))]
        angle, scale, right, below, hue, saturation, brightness, contrast = 2 * drawn[2:10] - 1
        whole = moving(
            size,
            flips=(-1.0 if flips[0] else 1.0, -1.0 if flips[1] else 1.0),
            degrees=angle * found["rotate"],
            scale=1 + scale * found["scale"] / 100,
            shift=(right * found["translate"] / 100, below * found["translate"] / 100),
        )
        parts = [(index, whole)]
        if drawn[12] < found["mosaic"] / 100:
            others = (drawn[13:16] * len(self)).astype(int).tolist()
            quarters = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)]
            parts = [
                (one, _after(np.array([[0.5, 0, x * size], [0, 0.5, y * size]]), whole))
                for one, (x, y) in zip((index, *others), quarters, strict=True)
            ]
        return _Plan(
            parts,
            hue=hue * found["color.hue"] / 100,
            saturation=1 + saturation * found["color.saturation"] / 100,
            brightness=1 + brightness * found["color.brightness"] / 100,
            contrast=1 + contrast * found["color.contrast"] / 100,
            blur=drawn[11] if drawn[10] < found["blur"] / 100 else None,
        )

    def _scene(self, plan: _Plan) -> Scene:
        size = self._size
        canvas: Any = np.full((size, size, 3), geometry.PADDING, np.uint8)
        boxes: list[Any] = []
        class_ids: list[int] = []
        drawings: list[Any] = []
        for index, matrix in plan.parts:
            pixels, outlines = self._kept[index] if self._kept is not None else self._decode(index)
            _put(canvas, pixels, matrix)
            for class_id, outline in zip(self._samples[index].class_ids.tolist(), outlines, strict=True):
                found = None if outline is None else _drawn(outline, matrix, size)
                if found is not None:
                    class_ids.append(class_id)
                    boxes.append(found[0])
                    drawings.append(found[1])
        colours = altering.recoloured(canvas, hue=plan.hue, saturation=plan.saturation, brightness=plan.brightness)
        pixels = altering.contrasted(colours, plan.contrast)
        return Scene(
            pixels if plan.blur is None else altering.blurred(pixels, plan.blur),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(class_ids, np.int64),
            np.stack(drawings) if drawings else np.zeros((0, size, size), np.uint8),
        )

    def _decode(self, index: int) -> tuple[Pixels, list[_Outline | None]]:
        sample = self._samples[index]
        image = sample.pixels()
        height, width = image.shape[:2]
        at = geometry.fit(width, height, self._size, stride=self._size)
        # Samples without outlines, which the sheet of examples may have, show their boxes.
        known = sample.shapes or [shapes.rectangle("", x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in sample.boxes]
        return geometry.place(image, at), [_outline(shape, at, (width, height)) for shape in known]


def amounts(declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, float]:
    """The amount of each augmentation: as declared, else the default. Flips and mosaics are in percent of the images."""
    listed = {} if declared is None else declared.listed()
    told = {
        name: (50.0 if value else 0.0) if isinstance(value, bool) else float(value) for name, value in listed.items()
    }
    if parameters.mosaic:
        told["mosaic"] = 100.0
    return {name: told.get(name, usual) for name, usual in USUAL.items()}


def moving(
    size: int, *, flips: tuple[float, float], degrees: float, scale: float, shift: tuple[float, float]
) -> Matrix:
    """The matrix that moves a canvas around its middle; ``shift`` is in fractions of its side, ``flips`` are -1 or 1."""
    cosine, sine = (scale * part(math.radians(degrees)) for part in (math.cos, math.sin))
    matrix = np.array([[cosine * flips[0], -sine * flips[1]], [sine * flips[0], cosine * flips[1]]])
    middle = np.full(2, size / 2)
    return np.column_stack((matrix, middle - matrix @ middle + np.array(shift) * size))


def _after(first: Matrix, then: Matrix) -> Matrix:
    """The matrix that applies ``first`` and then ``then``."""
    return then[:, :2] @ first + np.column_stack((np.zeros((2, 2)), then[:, 2]))


def _put(canvas: Any, pixels: Pixels, matrix: Matrix) -> None:
    """Draw an image onto a canvas; pixels that it does not reach keep their value."""
    if np.array_equal(matrix, np.eye(2, 3)):
        canvas[:] = pixels
        return
    # OpenCV's coordinates have their 0 in the middle of the first pixel.
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    size = (canvas.shape[1], canvas.shape[0])
    cv2.warpAffine(pixels, centred, size, dst=canvas, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)


def _outline(shape: Shape, at: Fit, image: tuple[int, int]) -> _Outline | None:
    """The outline of a shape on the canvas; None for a shape without an area."""
    if shape.kind is Kind.MASK:
        rings = list(_rings(masks.array_of(shape), np.array(shape.coordinates[:2])))
    else:
        outlined = shapes.outlined(shape)
        rings = [] if outlined is None else [(np.reshape(ring, (-1, 2)), hole) for ring, hole in outlined.outlines]
    if not rings:
        return None
    points = np.concatenate([ring for ring, _ in rings])
    scale, offset = np.array([at.width, at.height]) / image, np.array([at.left, at.top])
    return _Outline(points * scale + offset, tuple(-len(ring) if is_hole else len(ring) for ring, is_hole in rings))


def _rings(inside: Any, corner: Any) -> Iterator[tuple[Any, bool]]:
    """The points of a mask's rings, a quarter of a pixel inside it, and whether each ring is a hole."""
    doubled = inside.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, nested = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for ring, (_, _, _, around) in zip(found, nested[0], strict=True):
        yield (ring.reshape(-1, 2) + 0.5) / 2 + corner, around >= 0


def _drawn(outline: _Outline, matrix: Matrix, size: int) -> tuple[Any, Any] | None:
    """The box and the mask [size, size] of an object; None if too little of it is on the canvas."""
    points = outline.points @ matrix[:, :2].T + matrix[:, 2]
    low, high = points.min(axis=0), points.max(axis=0)
    box = np.concatenate((low.clip(0, size), high.clip(0, size)))
    sides, whole = box[2:] - box[:2], high - low
    if min(sides) <= 0 or sides.prod() < LEAST_SHARE * whole.prod():
        return None
    left, top, inside = masks.part_of(
        Shape("", Kind.POLYGON, tuple(points.ravel().tolist()), outline.rings), size, size
    )
    mask: Any = np.zeros((size, size), np.uint8)
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    if not np.array_equal(sides, whole):
        # The canvas cuts the object, and the part that was cut off may have reached furthest: measure the box on the mask.
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        box = np.array([left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1], float)
    return box, mask
