"""Finds labels that a model contradicts, of images that it was not trained on, for review by a person, as some of them are wrong.

Classification, by confident learning (C. Northcutt, L. Jiang and I. Chuang, Journal of Artificial Intelligence Research 70, 2021,
doi:10.1613/jair.1.12125): a model is confident of a class if its probability is at least the mean over images with that label.
The confident joint counts images by label and confident class; images off its diagonal are doubted. Detection, after ObjectLab
(U. Tkachenko, A. Thyagarajan and J. Mueller, 2023, arXiv:2309.00832): annotations with another class, objects without an
annotation, and annotations where nothing is found. The threshold of a class is the mean score where prediction and annotation
agree. Nothing is reported as missing for classes that the model does not know. Called by evaluation.tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from pelagos_pipelines.evaluation import matching
from pelagos_pipelines.evaluation.matching import BOXES, Places
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.classification import Classification
from pelagos_pipelines.serving.tasks.detection import Detections

SAME_PLACE, APART = 0.5, 0.2
"""IoU from which two boxes are the same object, and up to which they are different objects."""
FAINTEST = 0.05
"""Predictions with a lower score are ignored."""
KNOWN = 0.5
"""Share of a class's annotations that the model must find for doubts about missing ones."""


class Kind(StrEnum):
    """The kind of a doubt."""

    OTHER_CLASS = "OtherClass"
    NOT_ANNOTATED = "NotAnnotated"
    NOT_FOUND = "NotFound"


@dataclass(frozen=True)
class Doubt:
    """A label of an image, the index ``sample``. ``label`` is its class and ``suggested`` the model's; None where there is none.

    ``sure``, in [0, 1], is higher for clearer doubts of the same kind. ``box`` is the upright box x1, y1, x2, y2, in pixels,
    around the annotation, or around the prediction if there is no annotation.
    """

    sample: int
    kind: Kind
    label: int | None
    suggested: int | None
    sure: float
    box: tuple[float, float, float, float] | None = None


# --- classification


def of_classes(samples: Sequence[Sample], found: Sequence[Classification]) -> list[Doubt]:
    """Images off the diagonal of the confident joint whose label is not the model's prediction, clearest first."""
    if not samples:
        return []
    labels = np.array([int(sample.class_ids[0]) for sample in samples])
    probabilities = np.stack([prediction.probabilities for prediction in found]).astype(float)
    confident = confident_classes(labels, probabilities)
    doubted = np.flatnonzero((confident >= 0) & (confident != labels) & (probabilities.argmax(axis=1) != labels))
    doubts = [
        Doubt(
            int(place),
            Kind.OTHER_CLASS,
            int(labels[place]),
            int(confident[place]),
            _margin(probabilities[place], labels[place], confident[place]),
        )
        for place in doubted
    ]
    return sorted(doubts, key=lambda one: (-one.sure, one.sample))


def confident_classes(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """[images]: the class that the model is confident of, the most probable of several; -1 without one.

    Args:
        labels: [images] class ids.
        probabilities: [images, classes], of a model that was not trained on the images.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = np.bincount(labels, weights=probabilities[np.arange(len(labels)), labels], minlength=classes)
    # A class without labelled images has no threshold, so no image can exceed it.
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), np.inf)
    above = probabilities >= thresholds - 1e-6
    return np.where(above.any(axis=1), np.where(above, probabilities, -1.0).argmax(axis=1), -1)


def _margin(probabilities: npt.NDArray[np.float64], label: int, suggested: int) -> float:
    return float(probabilities[suggested] - probabilities[label])


# --- detection


@dataclass(frozen=True)
class _Compared:
    """An image's predictions without faint ones, and their IoU with its annotations ``[predictions, annotations]``."""

    sample: Sample
    found: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    class_ids: npt.NDArray[np.int32]
    overlaps: npt.NDArray[np.float64]
    in_crowd: npt.NDArray[np.bool_]
    """[predictions]: whether each is in a crowd of its class."""

    @property
    def same_class(self) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self.class_ids[:, None] == self.sample.class_ids[None]
        return found

    @property
    def agreeing(self) -> npt.NDArray[np.float64]:
        """[annotations]: the best score of a prediction with the same class and place; 0 without one."""
        agree = (self.overlaps >= SAME_PLACE) & self.same_class
        found: npt.NDArray[np.float64] = np.where(agree, self.scores[:, None], 0.0).max(axis=0, initial=0.0)
        return found


def of_objects(
    samples: Sequence[Sample], found: Sequence[Detections], classes: int, places: Places = BOXES
) -> list[Doubt]:
    """Annotations that the model contradicts, and objects without annotations; clearest first within each kind."""
    compared = [_compared(sample, predicted, places) for sample, predicted in zip(samples, found, strict=True)]
    scores: list[list[float]] = [[] for _ in range(classes)]
    annotated = np.zeros(classes)
    for one in compared:
        np.add.at(annotated, one.sample.class_ids, 1)
        for class_id, score in zip(one.sample.class_ids.tolist(), one.agreeing.tolist(), strict=True):
            if score > 0:
                scores[class_id].append(score)
    confident = np.array([float(np.mean(each)) if each else np.inf for each in scores])
    known = np.array([len(each) for each in scores]) >= KNOWN * np.maximum(annotated, 1)
    doubts = [doubt for place, one in enumerate(compared) for doubt in _of_image(place, one, confident, known, places)]
    order = {kind: place for place, kind in enumerate(Kind)}
    return sorted(doubts, key=lambda one: (order[one.kind], -one.sure, one.sample, one.box))


def without_faint(predicted: Detections) -> Detections:
    """The predictions that `of_objects` uses."""
    return predicted.chosen(predicted.scores >= FAINTEST)


def _compared(sample: Sample, predicted: Detections, places: Places) -> _Compared:
    clear = without_faint(predicted)
    found = places.found(clear)
    (overlaps,) = places.overlaps([found], [places.true(sample)])
    in_crowd = matching.inside(places, sample, clear) >= matching.IOUS[0]
    return _Compared(sample, found, clear.scores.astype(float), clear.class_ids, overlaps, in_crowd)


def _of_image(
    place: int, one: _Compared, confident: npt.NDArray[np.float64], known: npt.NDArray[np.bool_], places: Places
) -> Iterator[Doubt]:
    truth = places.true(one.sample)
    sure = one.scores >= confident[one.class_ids]
    same_place, agreeing = one.overlaps >= SAME_PLACE, one.agreeing
    others = np.where(same_place & ~one.same_class & sure[:, None], one.scores[:, None], 0.0)
    for annotation, class_id in enumerate(one.sample.class_ids.tolist()):
        box = places.around(truth[annotation])
        strongest = int(others[:, annotation].argmax()) if len(others) else 0
        if len(others) and others[strongest, annotation] > agreeing[annotation]:
            margin = float(others[strongest, annotation] - agreeing[annotation])
            yield Doubt(place, Kind.OTHER_CLASS, class_id, int(one.class_ids[strongest]), margin, box)
        elif known[class_id] and not same_place[:, annotation].any():
            nearest = float(one.overlaps[:, annotation].max(initial=0.0))
            yield Doubt(place, Kind.NOT_FOUND, class_id, None, 1 - nearest, box)
    lonely = np.flatnonzero(sure & ~one.in_crowd & (one.overlaps.max(axis=1, initial=0.0) < APART))
    seen: list[int] = []
    # Scores descend: of several predictions of one object, only the strongest counts.
    for row in lonely.tolist():
        (others,) = places.overlaps([one.found[row : row + 1]], [one.found[seen]])
        if others.max(initial=0.0) < SAME_PLACE:
            seen.append(row)
            score = float(one.scores[row])
            yield Doubt(place, Kind.NOT_ANNOTATED, None, int(one.class_ids[row]), score, places.around(one.found[row]))
