"""Calibration and per-class thresholds as spec.evaluation asks: fitted on the validation split only, measured on the test split.

Called by the step evaluate, between predicting and measuring, and by the evaluation of packages, in which they are already
fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pelagos_contract import disk
from pelagos_contract.metrics import of_test
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.evaluation import calibration, reliability
from pelagos_pipelines.evaluation.tasks.strategy import measured as of_shares
from pelagos_pipelines.serving.calibration import scaled
from pelagos_pipelines.serving.packages import TEMPERATURES
from pelagos_pipelines.serving.predictions import Scaling, Thresholds

if TYPE_CHECKING:
    from pelagos_contract.training import Evaluation
    from pelagos_pipelines.evaluation.calibration import Claims
    from pelagos_pipelines.evaluation.samples import Sample
    from pelagos_pipelines.evaluation.tasks.strategy import Strategy

FILE = "calibration.json"
FEWEST = 30
"""Least number of claims on validation to fit a temperature; with fewer, chance decides."""
ERROR, UNCALIBRATED = "ECE", "ECE-uncalibrated"


@dataclass(frozen=True)
class Chosen:
    """The calibration in packages: a ``scaling`` of scores, and ``thresholds`` by class; None where ``notes`` say why not.

    The flags say which of the two was requested. ``validation`` is the report about how they were fitted.
    """

    labels: Sequence[str]
    scaling: Scaling | None = None
    thresholds: Mapping[str, float] | None = None
    is_calibration_asked: bool = False
    notes: tuple[str, ...] = ()
    validation: Mapping[str, Any] | None = None

    @property
    def confidences(self) -> tuple[float, ...] | None:
        """The confidence that claims of each class must exceed; None without thresholds."""
        return None if self.thresholds is None else tuple(_least(self.thresholds, self.labels))

    def told(self, found: Sequence[Any]) -> list[Any]:
        """Predictions with the scores that a server would report."""
        return list(found) if self.scaling is None else [one.calibrated(self.scaling) for one in found]

    def document(self) -> dict[str, Any] | None:
        """The report for steps and people; None when nothing was requested."""
        if self.validation is None:
            return None
        return {
            "scaling": None if self.scaling is None else asdict(self.scaling),
            "thresholds": None if self.thresholds is None else dict(self.thresholds),
            "validation": dict(self.validation),
        }


def choose(
    asked: Evaluation, strategy: Strategy, labels: Sequence[str], samples: Sequence[Sample], found: Sequence[Any]
) -> Chosen:
    """Fit from ``found``, the model's unscaled predictions for the validation images ``samples``."""
    if not (asked.calibration or asked.per_class_thresholds):
        return Chosen(labels)
    claims = strategy.claims(samples, found, len(labels))
    claims = None if claims is None else claims.clear
    if claims is None:
        note = f"spec.evaluation: calibration and perClassThresholds mean nothing for {strategy.name}, and are left out"
        return Chosen(labels, notes=(note,), validation={})
    notes, scaling, thresholds = list[str](), None, None
    known: dict[str, Any] = {"images": claims.images, "claims": len(claims.right)}
    if asked.calibration:
        why, scaling = _scaling(claims, labels)
        notes += (
            [f"spec.evaluation.calibration: scores are not calibrated, and {ERROR} is undefined: {why}"] if why else []
        )
        known["negativeLogLikelihood"] = _finite(claims.unlikelihood(scaling))
        known["negativeLogLikelihoodUncalibrated"] = _finite(claims.unlikelihood())
    if asked.per_class_thresholds:
        thresholds = _thresholds(claims, scaling, labels)
        without = [label for label in labels if label not in thresholds]
        if without:
            notes.append(
                f"{len(without)} of {len(labels)} classes have the general threshold of {Thresholds().confidence}, as validation"
                f" has no object of them, or none that is found: {format_names(without)}"
            )
        confidence = claims.confidence(scaling)
        f1 = calibration.at_confidences(claims, confidence, _least(thresholds, labels))["F1"].by_class
        known["F1"] = {label: _finite(float(value)) for label, value in zip(labels, f1, strict=True)}
    known["faintest"] = _faintest(claims, scaling)
    return Chosen(labels, scaling, thresholds, bool(asked.calibration), tuple(notes), known)


def measured(
    chosen: Chosen, strategy: Strategy, samples: Sequence[Sample], found: Sequence[Any], folder: Path
) -> dict[str, float | None]:
    """Metrics of the test split: calibration errors, and threshold-dependent metrics at the chosen thresholds.

    ``found`` are unscaled predictions. Undefined metrics are None. The figure and a document with everything are written
    to ``folder``.
    Raises:
        OSError, FullError: for example a full disk.
    """
    is_calibrated = chosen.is_calibration_asked or chosen.scaling is not None
    claims = (
        strategy.claims(samples, found, len(chosen.labels)) if is_calibrated or chosen.thresholds is not None else None
    )
    if claims is None:
        return {}
    metrics: dict[str, float] = {}
    bins: dict[str, Any] = {}
    if is_calibrated:
        clear = claims.clear
        before, after = calibration.reliability(clear.confidence(), clear.right), None
        if chosen.scaling is not None:
            after = calibration.reliability(clear.confidence(chosen.scaling), clear.right)
        # With a single class, confidence has no meaning.
        is_telling = claims.logits.shape[1] > 1
        metrics[of_test(UNCALIBRATED)] = before.error if is_telling else math.nan
        metrics[of_test(ERROR)] = math.nan if after is None else after.error
        reliability.draw(before, after, chosen.scaling, strategy.claimed, folder)
        bins = {name: None if one is None else one.document() for name, one in (("before", before), ("after", after))}
    if chosen.confidences is not None:
        counts = calibration.at_confidences(claims, claims.confidence(chosen.scaling), chosen.confidences)
        metrics |= of_shares(counts, chosen.labels)
    document = {**(chosen.document() or {}), "reliability": bins}
    disk.write_atomically(folder / FILE, orjson.dumps(document, option=orjson.OPT_INDENT_2), parents=True)
    return {name: _finite(value) for name, value in metrics.items()}


def _scaling(claims: Claims, labels: Sequence[str]) -> tuple[str, Scaling | None]:
    """The reason why there is no scaling, or the scaling."""
    count, right = len(claims.right), int(claims.right.sum())
    if claims.logits.shape[1] < 2:
        return f"the dataset has the class {labels[0]!r} alone, of which a classifier is always sure", None
    if count < FEWEST:
        said = f", of which none is less sure than {claims.faintest}" if claims.faintest else ""
        return (
            f"the model says {count} things about the {claims.images} validation images{said}, and {FEWEST} are needed;"
            " give validation more images (spec.split.ratios of the Dataset)"
        ), None
    if right in {0, count}:
        return (
            f"on validation {'all' if right else 'none'} of {count} answers are right: nothing says how sure to be",
            None,
        )
    found = calibration.scaling(claims)
    if found is None:
        low, high = TEMPERATURES
        return f"no temperature from {low} to {high} fits the validation split; is the model trained?", None
    return "", found


def _thresholds(claims: Claims, scaling: Scaling | None, labels: Sequence[str]) -> dict[str, float]:
    found = calibration.confidences(claims, claims.confidence(scaling), _faintest(claims, scaling))
    return {labels[class_id]: value for class_id, value in found.items()}


def _faintest(claims: Claims, scaling: Scaling | None) -> float:
    """The lower bound of the claims' scores, after scaling."""
    if scaling is None or not claims.faintest:
        return claims.faintest
    return float(scaled(np.array(claims.faintest), scaling))


def _least(thresholds: Mapping[str, float], labels: Sequence[str]) -> list[float]:
    return [thresholds.get(label, Thresholds().confidence) for label in labels]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
