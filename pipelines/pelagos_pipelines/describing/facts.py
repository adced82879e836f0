"""The facts about a training and its model that all documents are written from, so that they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pelagos_contract.cost import Cost
from pelagos_contract.metrics import TEST, Kind, class_name, of_test, parsed, plain, value_name
from pelagos_contract.model_card import About, Card, DatasetSaid
from pelagos_contract.tasks import TASKS
from pelagos_contract.training import LeftOut, SeedResult, SlicedField, TrainingRequest

_MEAN = "mean of all groups"
_MEANS = {
    "micro": "over everything, whatever its class",
    "weighted": "each class weighted by its amount",
    "things": "of classes with objects",
    "stuff": "of classes that only have an extent",
}
TOLD = {
    "mAP50": "mean average precision, IoU ≥ 0.50",
    "mAP75": "mean average precision, IoU ≥ 0.75",
    "mAP50-95": "mean average precision, mean over IoU from 0.50 to 0.95",
    "precision": "share of what was found that is right",
    "recall": "share of what exists that was found",
    "F1": "harmonic mean of precision and recall",
    "IoU": "intersection over union",
    "Dice": "twice the intersection by the sum of both",
    "accuracy": "share of images whose class is right",
    "pixelAccuracy": "share of pixels whose class is right",
    "confidence": "the threshold at which precision, recall and F1 hold",
    "top5": "share of images whose class is among the five likeliest",
    "PQ": "panoptic quality",
    "SQ": "segmentation quality: mean IoU of what was recognised",
    "RQ": "recognition quality: F1 of segments",
    "ECE": "expected calibration error of what is served",
    "ECE-uncalibrated": "the same before calibration",
    "loss": "log loss: how little the true class was expected",
}
"""Explanations of metrics."""


@dataclass(frozen=True)
class Value:
    """A metric; None is undefined. ``low`` and ``high`` are the bounds of its interval, if it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None
    deviation: float | None = None

    @property
    def words(self) -> str:
        """The value with its interval and its deviation over seeds or groups."""
        if self.value is None:
            return "undefined"
        told = f"{self.value:.3f}"
        if self.low is not None and self.high is not None:
            told += f" ({self.low:.3f} to {self.high:.3f})"
        return told if self.deviation is None else f"{told} ± {self.deviation:.3f}"


@dataclass(frozen=True)
class Part:
    """A slice of the test split, or the group that a leave-one-group-out model did not see, with its metrics by name.

    ``mean``: this entry has the means over all groups instead, with deviations over groups.
    """

    name: str
    values: Mapping[str, Value]
    images: int | None = None
    mean: bool = False


@dataclass(frozen=True)
class Facts:
    """All facts. ``state`` is that of the evaluation, ``trained`` that of the training, ``counts`` are of the dataset version.

    ``package`` and ``onnx`` are SHA-256 digests; the Unix time of the measurement is in ``state``.
    """

    request: TrainingRequest
    labels: Sequence[str]
    state: Mapping[str, Any]
    trained: Mapping[str, Any]
    warnings: Sequence[str]
    cost: Cost | None
    package: str
    onnx: str
    environment: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""

    @property
    def about(self) -> About:
        """The operator's information for documents."""
        return self.request.about or About()

    @property
    def card(self) -> Card:
        """The card from the spec; empty without one."""
        return self.about.card or Card()

    @property
    def dataset(self) -> DatasetSaid:
        """The description of the dataset; empty without one."""
        return self.about.dataset or DatasetSaid()

    @property
    def title(self) -> str:
        """The card's title, else architecture and dataset."""
        of = self.dataset.title or self.request.dataset.name
        return self.card.title or f"{self.request.model.architecture}, trained on {of}"

    @property
    def summary(self) -> str:
        """The model in one sentence."""
        verb = TASKS[self.request.task].verb
        count = "1 class" if len(self.labels) == 1 else f"{len(self.labels)} classes"
        return (
            self.card.summary
            or f"A model that is trained to {verb} ({count}), {self.primary} {self.primary_value.words}."
        )

    @property
    def primary(self) -> str:
        """The name of the task's primary metric."""
        return TASKS[self.request.task].primary_metric

    @property
    def primary_value(self) -> Value:
        """The primary metric's value on the test split."""
        return self.value(of_test(self.primary))

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """All measured metrics by name."""
        found: Mapping[str, float | None] = self.state["metrics"]
        return found

    def value(self, name: str) -> Value:
        """A metric by its full name, with its interval and deviation."""
        bounds = (self.state.get("intervals") or {}).get(name) or {}
        deviation = (self.state.get("deviations") or {}).get(name)
        return Value(self.metrics.get(name), bounds.get("low"), bounds.get("high"), deviation)

    @property
    def resampling(self) -> str:
        """How intervals were computed, in words; empty without any."""
        how = self.state.get("resampling") or {}
        # Slices and groups can have intervals even if the whole split has none.
        if not self.state.get("intervals") or not how or how.get("why"):
            return ""
        unit = {"image": "images", "group": "groups"}.get(how.get("by", ""), f"groups by {how.get('by')}")
        level, samples = float(how.get("level", 0.95)), how.get("samples")
        drawn = f", drawn {samples} times" if samples else ""
        return f"at the {level:.0%} level, by bootstrap over {how.get('groups')} {unit} of the test split{drawn}"

    @property
    def without_intervals(self) -> str:
        """Why there are no intervals, in words; empty if there are."""
        if self.resampling:
            return ""
        why = (self.state.get("resampling") or {}).get("why")
        return f"No intervals: {why}" if why else "No intervals were computed: how much is chance is unknown"

    @property
    def overall(self) -> dict[str, Value]:
        """Metrics of the whole test split, the primary one first."""
        names = [name for name in self.metrics if name.startswith(TEST) and name.count("/") == 1]
        names.sort(key=lambda name: name != of_test(self.primary))
        return {name.removeprefix(TEST): self.value(name) for name in names}

    @property
    def class_metrics(self) -> list[str]:
        """The names of metrics by class, in the order of the task's description."""
        order = {name: place for place, name in enumerate(TASKS[self.request.task].metrics)}
        found = {name.split("/")[1] for name in self.metrics if name.startswith(TEST) and name.count("/") == 2}
        return sorted(found, key=lambda name: (order.get(name, len(order)), name))

    @cached_property
    def classes(self) -> list[tuple[str, int | None, dict[str, Value]]]:
        """Each class with its number of annotations in the test split and its metrics: worst first, without metrics last."""
        names = self.class_metrics
        ranked = self.primary if self.primary in names else next((one for one in ("F1", *names) if one in names), "")
        counted = self.counts.get("test") or {}
        # Escape each name only once, since it takes time for long names and there can be tens of thousands.
        written = ((label, class_name(label)) for label in self.labels)
        rows = [
            (label, counted.get(label), {name: self.value(f"{of_test(name)}/{ending}") for name in names})
            for label, ending in written
        ]

        def worst(row: tuple[str, int | None, dict[str, Value]]) -> tuple[bool, float]:
            value = row[2][ranked].value if ranked else None
            return value is None, value or 0.0

        return sorted(rows, key=worst)

    def parts(self, kind: Kind) -> dict[str, list[Part]]:
        """The slices, or the groups that leave-one-group-out models did not see, by field; worst first.

        Groups are preceded by their mean.
        """
        fields: dict[str, dict[str | None, dict[str, Value]]] = {}
        for name in self.metrics:
            found = parsed(name)
            if found is not None and found.kind is kind and found.field is not None:
                by_value = fields.setdefault(found.field, {})
                by_value.setdefault(found.value, {})[found.metric] = self.value(name)
        counts = self._images_of_slices if kind is Kind.SLICE else self._images_left_out
        told = dict[str, list[Part]]()
        for field_, by_value in fields.items():
            means = [Part(_MEAN, by_value.pop(None), mean=True)] if None in by_value else []
            each = (
                Part(_plain(value), values, counts.get((field_, value)))
                for value, values in by_value.items()
                if value is not None
            )
            told[field_] = [*means, *sorted(each, key=self._worst_part)]
        return told

    @property
    def _images_of_slices(self) -> dict[tuple[str, str], int]:
        told = [SlicedField.model_validate(each) for each in self.state.get("slices") or ()]
        return {(each.field, value_name(one.value)): one.images for each in told for one in each.slices}

    @property
    def _images_left_out(self) -> dict[tuple[str, str], int]:
        told = self.state.get("leaveOneOut")
        if told is None:
            return {}
        left_out = LeftOut.model_validate(told)
        return {(left_out.field, value_name(group.value)): group.images for group in left_out.groups}

    def _worst_part(self, part: Part) -> tuple[bool, float, str]:
        found = part.values.get(self.primary, Value(None)).value
        return found is None, found or 0.0, part.name

    @property
    def calibration(self) -> dict[str, str]:
        """The score scaling that servers apply, and the thresholds of classes, in words; empty if not requested."""
        found = self.state.get("calibration") or {}
        scaling = {name: f"{float(value):.3f}" for name, value in (found.get("scaling") or {}).items()}
        thresholds = {
            f"confidence of {label}": f"{float(value):.3f}" for label, value in (found.get("thresholds") or {}).items()
        }
        return scaling | thresholds

    @property
    def seeds(self) -> list[SeedResult]:
        """The results of all seeds; empty for a single training."""
        return [SeedResult.model_validate(each) for each in self.state.get("seeds") or ()]

    @property
    def day(self) -> str:
        """The day of the measurement in UTC."""
        return datetime.fromtimestamp(float(self.state.get("at") or 0), UTC).date().isoformat()

    @property
    def parameters(self) -> dict[str, str]:
        """The hyperparameters of the training, as text by their names in YAML."""
        found = self.request.hyperparameters.model_dump(by_alias=True, exclude_none=True)
        stopping = self.request.early_stopping
        weights = self.request.model.weights
        more = {
            "architecture": self.request.model.architecture,
            "seed": ", ".join(map(str, self.request.seeds)) or self.request.seed,
            "earlyStoppingPatience": stopping.patience if stopping else "none",
            "weights": weights.place if weights else "none: random ones",
        }
        applied = self.trained.get("applied") or {}
        return {name: str(value) for name, value in (more | found | applied).items()}

    @property
    def missing(self) -> list[str]:
        """The fields that a card should have and that are not set."""
        said, dataset = self.card, self.dataset
        wanted = {
            "spec.card.intendedUse": said.intended_use,
            "spec.card.limitations": said.limitations,
            "spec.card.contact": said.contact,
            "spec.card.license": said.license,
            "spec.metadata.license of the Dataset": dataset.license,
            "the DOI of the dataset version (spec.publish of the Dataset)": dataset.doi or dataset.identifier,
        }
        return [name for name, value in wanted.items() if not value]


def told(name: str) -> str:
    """The explanation of a test metric; empty if its name suffices."""
    base, _, mean = name.rpartition("-")
    if mean in _MEANS and base in TOLD:
        return f"{TOLD[base]}, {_MEANS[mean]}"
    return TOLD.get(name, "")


def notes(found: Sequence[Part]) -> list[str]:
    """Notes about the figures of slices or groups in one table, as sentences."""
    said = []
    if any(part.mean for part in found):
        said.append("The mean counts every group alike, without those of which a metric is undefined.")
    if any(value.deviation is not None for part in found if part.mean for value in part.values.values()):
        said.append("After ± is the standard deviation over groups.")
    bounds = {(value.low, value.high) for part in found for value in part.values.values() if value.low is not None}
    if bounds:
        said.append("Intervals are by bootstrap over what tells the images of each line apart.")
    if any(low == high for low, high in bounds):
        said.append("One without width means that all of these gave the same value, not that others will.")
    return said


def cut(found: Sequence[Part], most: int) -> str:
    """A note if the first ``most`` rows do not show all parts; empty otherwise."""
    if len(found) <= most:
        return ""
    shown, there = (sum(not part.mean for part in parts) for parts in (found[:most], found))
    return f"The worst {shown} of {there}."


def _plain(value: str) -> str:
    found = plain(value)
    return "not known" if found is None else found
