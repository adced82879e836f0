"""Panoptic segmentation in serving: segments that share the pixels of an image, of a network of queries.

Its outputs are, for each of ``queries`` things that may be there, the probabilities of all classes and last that there is nothing
``[queries, classes + 1]``, and the probabilities of cells of the canvas to be of it ``[queries, height, width]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.serving import maps
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.maps import NumberMap
from pelagos_pipelines.serving.predictions import Floats, Integers, Prediction, Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks import semantic_segmentation as semantic
from pelagos_pipelines.serving.tasks.strategy import Strategy

INSIDE = 0.5
"""From which probability on a pixel may be of a segment."""
OVERLAP = 0.8
"""Share of its own pixels that others must leave to a segment, else it is one that others tell better."""


@dataclass(frozen=True)
class Segments(Prediction):
    """Segments of one image: ``segments`` has, of each pixel, the place in ``class_ids`` [n] and one more, or maps.NONE.

    ``scores`` [n] descending; ``are_things`` [n]: objects that are counted, and not the extent of a class. ``cut``: there are
    more, and only the best were kept.
    """

    task = "PanopticSegmentation"
    segments: NumberMap
    scores: Floats
    class_ids: Integers
    are_things: tuple[bool, ...]
    cut: bool = False

    @property
    def is_cut(self) -> bool:
        """As ``cut`` says."""
        return self.cut

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """With the segments, best first, and what is left."""
        areas = self.segments.areas
        total = self.width * self.height
        entries: list[tuple[int, dict[str, Any]]] = [
            (
                number,
                {
                    "id": number,
                    "label": labels[class_id],
                    "classId": int(class_id),
                    "isThing": thing,
                    "score": round(float(score), 6),
                    "area": areas[number],
                    "share": round(areas[number] / total, 6),
                },
            )
            for number, (class_id, score, thing) in enumerate(
                zip(self.class_ids, self.scores, self.are_things, strict=True), start=1
            )
        ]
        found, whole = maps.told(self.segments, entries)
        none = areas.get(maps.NONE, 0)
        return {
            "task": self.task,
            "width": self.width,
            "height": self.height,
            "cut": self.cut or not whole,
            PanopticSegmentationTask.results: found,
            "unclassified": {"area": none, "share": round(none / total, 6)},
        }


def segments(raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Segments:
    """Turn what a network of queries gives into segments.

    Of the queries whose best class has more than the confidence, each pixel is given to the one with the highest product of
    score and mask among those whose mask has it. Queries that are left with less than OVERLAP of their masks are dropped, with
    their pixels; those of one class that is stuff are one segment.

    Source: Cheng, Schwing and Kirillov, Per-pixel classification is not all you need, NeurIPS 2021, section 3.4; there a pixel
    may also go to a query whose mask has it not, and is then of none.

    Args:
        raw: probabilities of classes [queries, classes + 1] and of cells [queries, height, width] of one image.
        image: the image on its canvas.
        settings: those of the model; ``stuff`` are classes that have no objects.
        thresholds: confidence, and the number of segments to keep.
    """
    classes, masks = raw
    labels, scores = classes.argmax(axis=1), classes.max(axis=1)
    is_something = (labels < classes.shape[1] - 1) & (scores > thresholds.confidence) & np.isfinite(scores)
    candidates = np.flatnonzero(is_something)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept = order[: thresholds.max_detections]
    owners: Any = np.zeros((image.height, image.width), np.uint16)
    own: Any = np.zeros(len(kept) + 1, np.int64)
    for band in maps.bands(image, settings, masks.shape[1:]):
        rows = slice(band.top, band.top + len(band.rows))
        best: Any = np.zeros((len(band.rows), image.width), np.float32)
        for number, query in enumerate(kept, start=1):
            start, end = _columns(masks[query], band)
            if start >= end:
                continue
            mask = band.sampled(masks[query], start, end)
            inside = mask >= INSIDE
            own[number] += int(inside.sum())
            product = mask * scores[query]
            wins = inside & (product > best[:, start:end])
            best[:, start:end][wins] = product[wins]
            owners[rows, start:end][wins] = number
    left = np.bincount(owners.ravel(), minlength=len(own))
    stands = (left > 0) & (left >= OVERLAP * own)
    return _numbered(kept, stands, owners, (labels, scores), settings, image, cut=len(order) > len(kept))


def _columns(mask: Floats, band: maps.Band) -> tuple[int, int]:
    """Between which columns of the original a mask can be inside in a band."""
    top, bottom = max(int(band.rows[0]), 0), max(int(np.ceil(band.rows[-1])), 0) + 1
    return maps.reached(band.columns, (mask[top:bottom] >= INSIDE).any(axis=0))


def _numbered(  # noqa: PLR0913 - what `segments` has found
    kept: Any,
    stands: Any,
    owners: Any,
    found: tuple[Any, Any],
    settings: Settings,
    image: Fitted,
    *,
    cut: bool,
) -> Segments:
    """With numbers from 1 on, those of one class of stuff joined."""
    labels, scores = found
    numbers: Any = np.zeros(len(kept) + 1, np.uint16)
    chosen: list[int] = []
    extents: dict[int, int] = {}
    for number, query in enumerate(kept, start=1):
        if not stands[number]:
            continue
        label = int(labels[query])
        is_stuff = settings.labels[label] in settings.stuff
        if is_stuff and label in extents:
            numbers[number] = extents[label]
            continue
        chosen.append(int(query))
        numbers[number] = len(chosen)
        if is_stuff:
            extents[label] = len(chosen)
    class_ids = labels[chosen].astype(np.int32)
    things = tuple(settings.labels[label] not in settings.stuff for label in class_ids)
    pixels = NumberMap.of(numbers[owners])
    return Segments(image.width, image.height, pixels, scores[chosen].astype(np.float32), class_ids, things, cut)


class PanopticSegmentationTask(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, results = Segments.task, "segments"

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """Of the smallest letterbox."""
        return semantic.letterbox(width, height, size, stride)

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """In the smallest letterbox."""
        return semantic.fitted(image, size, stride)

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """In [0, 1]."""
        return semantic.values(canvases)

    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Segments:
        """See `segments`."""
        return segments(raw, image, settings, thresholds)

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """The map of each image as PNG in base64, and rows of its segments: always one, because empty tensors do not travel."""
        batch = len(predictions)
        counts = [0 if found is None else len(found.scores) for found in predictions]
        rows = max([1, *counts])
        scores: Any = np.zeros((batch, rows), np.float32)
        class_ids: Any = np.zeros((batch, rows), np.int32)
        areas: Any = np.zeros((batch, rows), np.int32)
        for index, (found, count) in enumerate(zip(predictions, counts, strict=True)):
            if count:
                known = found.segments.areas
                scores[index, :count] = found.scores
                class_ids[index, :count] = found.class_ids
                areas[index, :count] = [known[number] for number in range(1, count + 1)]
        rows_of = {"scores": scores, "class_ids": class_ids, "areas": areas}
        cut = np.array([[found is not None and found.cut] for found in predictions], bool)
        found_maps = maps.tensor([None if found is None else found.segments for found in predictions])
        return {"count": np.array(counts, np.int32)[:, None], "cut": cut, "segment_map": found_maps, **rows_of}

    def refused(self, why: str) -> dict[str, Any]:
        """Likewise, with no pixel that is of no segment."""
        return {**super().refused(why), "cut": False, "unclassified": {"area": 0, "share": 0.0}}

    def rows(self, raw: Raw) -> dict[str, Any]:
        """What does not depend on the order of queries, a row for each class, and the masks.

        ``scores``: of each cell the sum over queries of the products of class and mask. ``best``: the probabilities of all
        queries, descending. ``masks``: of each query, as far as it is something.
        """
        classes, masks = (one.astype(np.float64) for one in raw)
        flat = masks.reshape(len(masks), -1)
        return {**_of_classes(classes, flat), "masks": flat * (1 - classes[:, -1:])}

    def sketch(self, raw: Raw) -> dict[str, Any]:
        """Some cells, evenly spread; the best queries."""
        classes, masks = (one.astype(np.float64) for one in raw)
        known = _of_classes(classes, masks.reshape(len(masks), -1))
        return {"scores": semantic.spread(known["scores"]), "best": known["best"][:, : semantic.VALUES]}

    def rounding(self, raw: Raw) -> dict[str, Any]:
        """The same for all."""
        classes, masks = raw
        labels = np.full(classes.shape[1] - 1, semantic.UNDECIDED)
        return {"scores": labels, "best": labels, "masks": np.full(len(masks), semantic.UNDECIDED)}


def _of_classes(classes: Any, flat: Any) -> dict[str, Any]:
    return {"scores": classes[:, :-1].T @ flat, "best": -np.sort(-classes[:, :-1].T, axis=1)}


STRATEGY = PanopticSegmentationTask()
