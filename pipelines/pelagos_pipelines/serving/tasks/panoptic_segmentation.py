"""Panoptic segmentation in serving: segments that divide the pixels of an image, from a network of queries.

For each query, the outputs are the probabilities of all classes, followed by that of nothing, ``[queries, classes + 1]``, and the
probabilities that cells of the canvas belong to it, ``[queries, height, width]``.
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
"""The least probability of a pixel that may belong to a segment."""
OVERLAP = 0.8
"""The fraction of its pixels that a segment must keep against others; otherwise it is dropped, as others describe them better."""


@dataclass(frozen=True)
class Segments(Prediction):
    """Segments of one image. ``segments`` has for each pixel its index in ``class_ids`` [n] plus 1, or maps.NONE.

    ``scores`` [n] are descending. ``are_things`` [n] says which are objects, and not the extent of a class. ``cut``: there were
    more, and only the best are kept.
    """

    task = "PanopticSegmentation"
    segments: NumberMap
    scores: Floats
    class_ids: Integers
    are_things: tuple[bool, ...]
    cut: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether there were more segments than are kept."""
        return self.cut

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """All segments, best first, and the pixels that belong to none."""
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
    """Decode the output of a network of queries into segments.

    Queries whose best class exceeds the confidence compete for pixels: each pixel goes to the query with the highest product of
    score and mask among those whose mask contains it. Queries that keep less than OVERLAP of their masks are dropped with their
    pixels. Queries of one stuff class form one segment.

    Source: Cheng, Schwing and Kirillov, Per-pixel classification is not all you need, NeurIPS 2021, section 3.4. There, a pixel
    may also go to a query whose mask does not contain it, and then belongs to none.

    Args:
        raw: probabilities of classes [queries, classes + 1] and of cells [queries, height, width] of one image.
        image: the image on its canvas.
        settings: the model's settings; ``stuff`` are classes without objects.
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
    """The range of the original's columns in which a mask can be inside, within a band."""
    top, bottom = max(int(band.rows[0]), 0), max(int(np.ceil(band.rows[-1])), 0) + 1
    return maps.reached(band.columns, (mask[top:bottom] >= INSIDE).any(axis=0))


def _numbered(  # noqa: PLR0913 - the results of `segments`
    kept: npt.NDArray[np.int64],
    stands: npt.NDArray[np.bool_],
    owners: npt.NDArray[np.uint16],
    found: tuple[npt.NDArray[np.int64], Floats],
    settings: Settings,
    image: Fitted,
    *,
    cut: bool,
) -> Segments:
    """The kept segments numbered from 1 on, with those of one stuff class joined."""
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
    """Implements `Strategy`, which documents its methods, for panoptic segmentation."""

    task, results = Segments.task, "segments"

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """The sides of the smallest letterbox."""
        return semantic.letterbox(width, height, size, stride)

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image in the smallest letterbox."""
        return semantic.fitted(image, size, stride)

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Values in [0, 1]."""
        return semantic.values(canvases)

    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Segments:
        """See `segments`."""
        return segments(raw, image, settings, thresholds)

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """Each image's map as PNG in base64, and rows of segments: at least one, because empty tensors cannot be sent."""
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
        """The result of `Strategy.refused`, with no unclassified pixels."""
        return {**super().refused(why), "cut": False, "unclassified": {"area": 0, "share": 0.0}}

    def rows(self, raw: Raw) -> dict[str, Any]:
        """Rows for each class that do not depend on the order of queries, and the masks.

        ``scores`` has for each cell the sum over queries of the products of class and mask. ``best`` has the probabilities of
        all queries, descending. ``masks`` has each query's mask times the probability that it is something.
        """
        classes, masks = (one.astype(np.float64) for one in raw)
        flat = masks.reshape(len(masks), -1)
        return {**_of_classes(classes, flat), "masks": flat * (1 - classes[:, -1:])}

    def sketch(self, raw: Raw) -> dict[str, Any]:
        """Some cells, evenly spread, and the best queries."""
        classes, masks = (one.astype(np.float64) for one in raw)
        known = _of_classes(classes, masks.reshape(len(masks), -1))
        return {"scores": semantic.spread(known["scores"]), "best": known["best"][:, : semantic.VALUES]}

    def rounding(self, raw: Raw) -> dict[str, Any]:
        """The same uncertainty for all rows."""
        classes, masks = raw
        labels = np.full(classes.shape[1] - 1, semantic.UNDECIDED)
        return {"scores": labels, "best": labels, "masks": np.full(len(masks), semantic.UNDECIDED)}


def _of_classes(classes: npt.NDArray[Any], flat: npt.NDArray[Any]) -> dict[str, Any]:
    return {"scores": classes[:, :-1].T @ flat, "best": -np.sort(-classes[:, :-1].T, axis=1)}


STRATEGY = PanopticSegmentationTask()
